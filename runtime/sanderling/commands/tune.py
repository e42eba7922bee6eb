"""`sanderling tune`: the fastest plan on this device that still answers right."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sanderling.bundle import open_bundle
from sanderling.commands.console import print_json, stderr, stdout, table
from sanderling.counts import counted, megabytes
from sanderling.errors import InputError
from sanderling.plan import Plan
from sanderling.tuning.halving import tunable
from sanderling.tuning.halving import tune as tune_bundle
from sanderling.tuning.trials import Trial, Tuned

if TYPE_CHECKING:
    from rich.table import Table


class PurposeChoice(StrEnum):
    """What `--for` takes."""

    latency = "latency"
    throughput = "throughput"
    memory = "memory"


def register(app: typer.Typer) -> None:
    """Add `tune` to the command line."""
    app.command("tune")(tune)


def tune(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    purpose: Annotated[PurposeChoice, typer.Option("--for", help="What to be good at.")] = PurposeChoice.throughput,
    min_cosine: Annotated[
        float | None, typer.Option(help="The floor for every golden sample. Default: each variant's own tolerance.")
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="The least share of the original's tokens, of a model that writes, that a plan has to take."),
    ] = None,
    batch_invariant: Annotated[
        bool, typer.Option("--batch-invariant", help="Only plans that answer every input alone.")
    ] = False,
    max_memory: Annotated[
        str | None, typer.Option(help="The most memory that a process with the plan may take, as 300MB or 1GB.")
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="The tower to tune, of a model of two. Default: one after the other.")
    ] = None,
    time: Annotated[str, typer.Option(help="Time to spend, as 60s or 2m; of two towers on each.")] = "60s",
    explain: Annotated[bool, typer.Option("--explain", help="Show every plan that was tried.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan and all trials as JSON.")] = False,
) -> None:
    """Find the fastest plan on this device that still answers right, and keep it for load and run."""
    console = stderr()
    found: dict[str | None, Tuned] = {}
    for part in tunable(open_bundle(bundle), component):
        with console.status("tuning") as status:
            found[part] = tune_bundle(
                bundle,
                purpose.value,
                min_cosine=min_cosine,
                min_agreement=min_agreement,
                batch_invariant=batch_invariant,
                max_memory=_bytes(max_memory) if max_memory is not None else None,
                time_limit=_seconds(time),
                component=part,
                progress=lambda stage, status=status: status.update(stage),  # type: ignore[misc]
            )
        if not as_json:
            _show(found[part], part, explain)
    if as_json:
        alone = found.get(None)
        print_json(msgspec.to_builtins(alone if alone is not None else found), indent=1)


def _show(tuned: Tuned, part: str | None, explain: bool) -> None:
    """What was found, for a person."""
    if explain:
        stdout().print(_table(tuned))
    plan = tuned.plan
    named = f"{part}: " if part else ""
    stdout().print(
        f"{named}{plan.variant} on {plan.provider}, form {plan.form}, {counted(plan.threads, 'thread')} for one, "
        f"{counted(plan.workers, 'worker')} for many, "
        f"budget {_budget(plan)}; it is used from now on."
    )
    if not tuned.complete:
        stderr().print("Not every plan was measured in full: give it more --time for a surer choice.", style="yellow")


def _table(tuned: Tuned) -> Table:
    from rich.markup import escape

    unit = "ms a call" if tuned.purpose == "latency" else "inputs/s"
    columns = ("provider", "form", "without fusions", "threads", "workers", "budget", unit, "rounds", "memory")
    writes = any(trial.agreement is not None for trial in tuned.trials)
    written = ("tokens/s", "tokens as the original's", "answers as the original's") if writes else ()
    made = table(None, "variant", *columns, "lowest cosine", *written, "why not")
    for trial in tuned.trials:
        speed = ""
        if trial.seconds is not None:
            speed = f"{trial.seconds * 1e3:.2f}" if tuned.purpose == "latency" else f"{1 / trial.seconds:.1f}"
        plan = trial.plan
        made.add_row(
            plan.variant,
            plan.provider,
            plan.form,
            ", ".join(plan.disabled_fusions) or "all kept",
            str(plan.threads),
            str(plan.workers),
            _budget(plan),
            speed,
            str(trial.rounds),
            megabytes(trial.memory) if trial.memory is not None else "",
            f"{trial.cosine:.6f}" if trial.cosine is not None else "",
            *(_written(trial) if writes else ()),
            escape(trial.reason),
        )
    return made


def _written(trial: Trial) -> tuple[str, str, str]:
    """The speed of what was written, and how much of it is the original's."""
    return (
        f"{trial.tokens:.1f}" if trial.tokens is not None else "",
        f"{trial.agreement:.1%}" if trial.agreement is not None else "",
        f"{trial.equal:.1%}" if trial.equal is not None else "",
    )


def _budget(plan: Plan) -> str:
    if plan.batch_invariant:
        return "1 input"
    rounded = f", lengths to {plan.rounding}" if plan.rounding > 1 else ""
    return f"{plan.token_budget} tokens{rounded}, {plan.image_budget} images, {plan.row_budget} rows"


def _seconds(given: str) -> float:
    number, unit = (given[:-1], given[-1]) if given[-1:] in ("s", "m") else (given, "s")
    try:
        return float(number) * (60 if unit == "m" else 1)
    except ValueError:
        raise InputError(f"--time is {given!r}; seconds or minutes were expected, as 60s or 2m.") from None


def _bytes(given: str) -> int:
    """Bytes of a size in words, in powers of 1,000."""
    powers = {"kb": 1, "mb": 2, "gb": 3}
    text = given.strip().lower()
    number, power = (text[:-2], powers[text[-2:]]) if text[-2:] in powers else (text, 0)
    try:
        return int(float(number) * 1000**power)
    except (ValueError, OverflowError):
        raise InputError(f"--max-memory is {given!r}; a size was expected, as 300MB or 1GB.") from None
