"""Issue 4: the search finishes in time, goes on where it was killed, and finds the same again for one seed."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import texts
from checks import ROOT, Context, Row, at_least, at_most, registry, true
from command_line import command, environment, last_line, must

import sanderling
from sanderling.bundle import open_bundle
from sanderling.verification import cosines

RECIPE = ROOT / "models" / "all-minilm-l6-v2.toml"
FLOOR = 0.99
MINUTES = 15.0
UNSEEN = 2000
# The second search is killed once its state has so many measurements, each time that it has.
KILLED_AT = (3, 12, 40)
# No search is waited for longer than this.
PATIENCE = 4 * 60 * MINUTES


@registry.check(4, "search-on-minilm")
def minilm(context: Context) -> list[Row]:
    first, second = context.folder / "first", context.folder / "second"
    context.say("search")
    begin = time.perf_counter()
    must("export", *_asked(first), "--json", timeout=PATIENCE)
    minutes = (time.perf_counter() - begin) / 60
    context.say("search again, and kill it")
    kills = sum(_killed(second, count) for count in KILLED_AT)
    must("export", *_asked(second), "--json", timeout=PATIENCE)
    states = [_state(folder) for folder in (first, second)]
    outcomes = [state["outcome"] for state in states]
    fastest, smallest = ([outcome[role] for outcome in outcomes] for role in ("fastest", "smallest"))
    return [
        at_most(
            "MiniLM: export with --variants auto",
            minutes,
            MINUTES,
            digits=1,
            unit=" min",
            spread=f"{len(states[0]['found'])} candidates",
        ),
        true(
            "killed and started again: it went on",
            kills == len(KILLED_AT),
            f"{kills} kills",
            f"{len(KILLED_AT)} kills, then an outcome",
        ),
        _same("the same seed again: every candidate's drift and size", states[0]["found"], states[1]["found"]),
        _same("the same seed again: what layers are ranked by", states[0]["rough"], states[1]["rough"]),
        _same("the same seed again: the smallest", *smallest),
        _same("the same seed again: the fastest", *fastest),
        *_unseen(context, first),
    ]


def _asked(output: Path) -> list[object]:
    return [RECIPE, "-o", output, "--variants", "auto", "--min-cosine", FLOOR]


def _state(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(output.with_name(f"{output.name}.search.json").read_text(encoding="utf-8"))
    return content


def _killed(output: Path, count: int) -> bool:
    """Start a search and kill it once its state holds `count` measurements; False if it ended before."""
    process = subprocess.Popen(
        command("export", *_asked(output)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment(),
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if output.with_name(f"{output.name}.search.json").is_file() and _measurements(output) >= count:
                return True
            time.sleep(0.05)
    finally:
        process.kill()
        _, said = process.communicate()
    if process.returncode:
        raise AssertionError(f"the search ended with {process.returncode}: {last_line(said)}")
    return False


def _measurements(output: Path) -> int:
    state = _state(output)
    return len(state["found"]) + len(state["rough"]) + sum(map(len, state["races"].values()))


def _same(what: str, one: Any, other: Any) -> Row:
    held = one == other
    if isinstance(one, dict) and isinstance(other, dict) and "precision" not in one:
        equal = sum(one.get(key) == other.get(key) for key in one.keys() | other.keys())
        return true(what, held, f"{equal} equal", f"all of {len(one.keys() | other.keys())}")
    return true(what, held, _label(one) if held else f"{_label(one)}; {_label(other)}", "the same twice")


def _label(candidate: dict[str, Any]) -> str:
    settings = dict(candidate.get("settings", {}))
    kept = settings.pop("keep", None)
    words = [f"{name} {value}" for name, value in settings.items()] + ([f"{len(kept)} kept"] if kept else [])
    return ", ".join([candidate["precision"], *words])


def _unseen(context: Context, output: Path) -> list[Row]:
    """The variants that were found, on texts that neither set of the search has."""
    chosen = texts.of_all_lengths(UNSEEN)
    bundle = open_bundle(output)
    found = [name for name in bundle.manifest.variants if name != "fp32"]
    answers = {}
    for name in ("fp32", *found):
        context.say(f"{name} answers for {len(chosen)} texts")
        with sanderling.load(bundle.path, variant=name) as model:
            answers[name] = np.asarray(model(chosen).embeddings)
    rows = []
    for name in found:
        similar = cosines(answers[name], answers["fp32"])
        spread = f"mean {similar.mean():.4f}, p01 {np.quantile(similar, 0.01):.4f}"
        what = f"{name}, found by the search: minimum cosine to fp32 over {UNSEEN:,} texts it never saw"
        rows.append(at_least(what, float(similar.min()), FLOOR, digits=4, spread=spread))
    return rows
