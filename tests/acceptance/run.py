"""The long checks of what must hold, issue by issue: `make acceptance`, or `python tests/acceptance/run.py`.

Prints one table and exits with status 1 if a bound did not hold. `--only NAME` runs the check of that name, or
where none has it, those whose names hold it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import rich.box
from checks import Check, Context, NotCheckableError, Row, registry
from rich.console import Console
from rich.table import Table

from sanderling_bench.machine import this_machine

# Each file registers its checks as it is imported; the order here is the order of the table.
import same_answers  # isort: skip
import int8  # isort: skip
import peers  # isort: skip
import without_torch  # isort: skip
import cold_start  # isort: skip
import checkpoints  # isort: skip
import bad_input  # isort: skip
import interrupted  # isort: skip
import direction  # isort: skip
import task_metrics  # isort: skip
import text_classification  # isort: skip
import tabular  # isort: skip
import image_classification  # isort: skip
import faces  # isort: skip
import invariance  # isort: skip
import search  # isort: skip
import minilm_floor  # isort: skip
import efficientnet_floor  # isort: skip
import memory  # isort: skip
import placement  # isort: skip
import storm  # isort: skip
import tuner  # isort: skip
import tuner_writers  # isort: skip
import quota  # isort: skip
import passes  # isort: skip
import overhead  # isort: skip
import index_questions  # isort: skip
import index_recall  # isort: skip
import index_speed  # isort: skip
import index_killed  # isort: skip
import index_bad_input  # isort: skip
import bulk  # isort: skip
import vectors  # isort: skip
import two_towers  # isort: skip
import seeing_speed  # isort: skip
import seeing_hostile  # isort: skip
import decoding  # isort: skip
import answers  # isort: skip
import speaking  # isort: skip
import speaking_checkpoints  # isort: skip
import seen_and_said  # isort: skip
import speech  # isort: skip
import live  # isort: skip
import told_sounds  # isort: skip
import sounds  # isort: skip

THEMES = (
    same_answers,
    int8,
    peers,
    without_torch,
    cold_start,
    checkpoints,
    bad_input,
    interrupted,
    direction,
    invariance,
    search,
    minilm_floor,
    efficientnet_floor,
    task_metrics,
    memory,
    placement,
    storm,
    text_classification,
    tabular,
    image_classification,
    faces,
    vectors,
    decoding,
    answers,
    speaking,
    speaking_checkpoints,
    seen_and_said,
    tuner,
    tuner_writers,
    quota,
    passes,
    overhead,
    index_questions,
    index_recall,
    index_speed,
    index_killed,
    two_towers,
    seeing_speed,
    seeing_hostile,
    index_bad_input,
    bulk,
    speech,
    live,
    told_sounds,
    sounds,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one check: its rows, or why there are none."""

    check: Check
    rows: tuple[Row, ...]
    seconds: float
    failure: str = ""
    not_checked: str = ""

    @property
    def held(self) -> bool:
        return not self.failure and all(row.held for row in self.rows)


def main() -> int:
    arguments = _arguments()
    chosen = [one for one in registry.checks if not arguments.only or _asked(one.name, arguments.only)]
    if arguments.list or not chosen:
        for check in registry.checks:
            print(f"issue {check.issue}  {check.name}")
        return 0 if arguments.list else 2
    progress = Console(stderr=True)
    outcomes = []
    for number, check in enumerate(chosen, start=1):
        progress.print(f"[{number}/{len(chosen)}] issue {check.issue}: {check.name}", markup=False, highlight=False)
        outcomes.append(carry_out(check, progress))
    Console().print(table(outcomes))
    Console().print(summary(outcomes), markup=False, highlight=False)
    if arguments.json:
        arguments.json.write_text(as_json(outcomes), encoding="utf-8")
    return 0 if all(outcome.held for outcome in outcomes) else 1


def _asked(name: str, words: Sequence[str]) -> bool:
    """Whether a check is meant: by its name, or by a part of it that is no other check's name."""
    names = {check.name for check in registry.checks}
    return name in words or any(word in name for word in words if word not in names)


def carry_out(check: Check, progress: Console) -> Outcome:
    """Run one check so that whatever it does, the next one runs too."""
    begin = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="sanderling-acceptance-"))

    def say(what: str) -> None:
        progress.print(f"    {what} ({time.perf_counter() - begin:.0f} s)", markup=False, highlight=False)

    try:
        rows = tuple(check.measure(Context(folder, say)))
        return Outcome(check, rows, time.perf_counter() - begin)
    except NotCheckableError as reason:
        return Outcome(check, (), time.perf_counter() - begin, not_checked=str(reason))
    except Exception as error:
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return Outcome(check, (), time.perf_counter() - begin, failure=failure)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def table(outcomes: list[Outcome]) -> Table:
    """All rows beside their bounds."""
    shown = Table(box=rich.box.SIMPLE_HEAD, title="What must hold", title_justify="left", title_style="bold")
    for column in ("issue", "check", "figure", "spread", "bound", "held"):
        shown.add_column(column, justify="right" if column == "figure" else "left", overflow="fold")
    for outcome in outcomes:
        issue = str(outcome.check.issue)
        for row in outcome.rows:
            held = "[green]yes[/]" if row.held else "[bold red]NO[/]"
            shown.add_row(issue, *map(_plain, (row.what, row.figure, row.spread, row.bound)), held)
        if outcome.failure:
            shown.add_row(issue, outcome.check.name, "–", _plain(outcome.failure), "to be measured", "[bold red]NO[/]")
        if outcome.not_checked:
            shown.add_row(issue, outcome.check.name, "–", _plain(outcome.not_checked), "–", "not checked")
    return shown


def summary(outcomes: list[Outcome]) -> str:
    """The counts, and the machine they were counted on."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    failed = sum(not row.held for row in rows) + sum(bool(outcome.failure) for outcome in outcomes)
    skipped = sum(bool(outcome.not_checked) for outcome in outcomes)
    machine = this_machine()
    known = ", ".join(
        f"{name} {'unknown' if has is None else 'yes' if has else 'no'}" for name, has in machine.features.items()
    )
    return (
        f"{len(rows) - sum(not row.held for row in rows)} held, {failed} did not, {skipped} not checked; "
        f"{sum(outcome.seconds for outcome in outcomes) / 60:.1f} minutes.\n"
        f"Processor: {machine.processor}, {machine.cores} cores granted; {known}; {machine.system}"
    )


def as_json(outcomes: list[Outcome]) -> str:
    machine = this_machine()
    return json.dumps(
        {
            "machine": {"processor": machine.processor, "features": machine.features, "cores": machine.cores},
            "checks": [
                {
                    "issue": outcome.check.issue,
                    "name": outcome.check.name,
                    "held": outcome.held,
                    "seconds": round(outcome.seconds, 1),
                    "failure": outcome.failure,
                    "not_checked": outcome.not_checked,
                    "rows": [asdict(row) for row in outcome.rows],
                }
                for outcome in outcomes
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only the checks of these names, or that hold one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as well")
    parser.add_argument("--list", action="store_true", help="list the checks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
