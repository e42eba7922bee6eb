"""The command `sanderling bench`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanderling.errors import BenchError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console


class ScenarioChoice(StrEnum):
    """What `--scenario` takes."""

    single_stream = "single-stream"
    offline = "offline"
    both = "both"


def register(app: typer.Typer) -> None:
    """Add `bench` to the command line."""
    app.command("bench")(bench)


def bench(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant to measure; again for more. Default: all.")
    ] = None,
    scenario: Annotated[
        ScenarioChoice, typer.Option(help="Inputs one after another, all at once, or both.")
    ] = ScenarioChoice.both,
    provider: Annotated[str, typer.Option(help="The execution provider.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            help="A file of texts (one a line), an image, a sound, a CSV file, or a folder of them; again for more.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Single calls of each variant; p90 needs 64 of them, p99 662.")] = 662,
    rounds: Annotated[int, typer.Option(help="Rounds in which the variants alternate.")] = 7,
    cold_starts: Annotated[
        int, typer.Option(help="Fresh processes of each variant; 0 leaves out cold start and peak memory.")
    ] = 5,
    component: Annotated[
        str | None,
        typer.Option(
            help="The component to measure, where a bundle has several that answer by themselves. Default: each."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Of a model that hears: what is spoken, as en. Default: recognized.", show_default=False),
    ] = None,
    tokens: Annotated[int, typer.Option(help="New tokens of each text of a model that writes.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record, raw samples and all, as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the record to this file.", show_default=False)
    ] = None,
) -> None:
    """Measure a bundle on this machine: latency, throughput, stages, cold start, memory, drift from fp32."""
    for package in ("psutil", "rich", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("sanderling bench", "bench", package)
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBar

    from sanderling.bundle import open_bundle
    from sanderling.commands.console import stderr, stdout
    from sanderling.storage import write_atomic
    from sanderling_bench import hearing, recognizing, record, speaking
    from sanderling_bench.inputs import inputs_for, measured_apart
    from sanderling_bench.measure import SCENARIOS, Plan, measure
    from sanderling_bench.table import show

    # Before the minutes of measuring, not after them.
    if output is not None and output.is_dir():
        raise BenchError(f"{output} is a folder; give a file for the record.")
    if output is not None and not output.parent.is_dir():
        raise BenchError(f"{output.parent} is no folder, so no record can be written there; make it first.")
    opened = open_bundle(bundle)
    plan = Plan(
        variants=tuple(variant or ()),
        scenarios=tuple(name for name in SCENARIOS if scenario.value in (name, "both")),
        provider=provider,
        threads=threads,
        rounds=rounds,
        samples=samples,
        cold_starts=cold_starts,
        new_tokens=tokens,
    )
    hears = opened.manifest.task == recognizing.TASK
    if language is not None and not hears:
        raise BenchError(
            f"--language goes with models that hear; {opened.manifest.name} is for {opened.manifest.task}."
        )
    speaks = opened.manifest.task == speaking.TASK
    names = (component,) if hears or speaks else measured_apart(opened, component)
    given = {name: inputs_for(opened, inputs or (), name) for name in names}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = stderr()
    for name in names:
        with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            step = bar.add_task(f"loading {opened.manifest.name}", total=None)

            def progress(what: str, done: int, total: int, bar: ProgressBar = bar, step: TaskID = step) -> None:
                bar.update(step, description=what, completed=done, total=total)

            raw: bytes
            display: Callable[[Console], None]
            if hears:
                said = hearing.transcripts_of(inputs or (), len(given[name].items))
                heard = hearing.measure(opened, given[name], plan, language=language, said=said, progress=progress)
                raw, display = hearing.ENVELOPE.encode(heard), partial(hearing.show, heard)
            elif speaks:
                said_by = speaking.measure(opened, given[name], plan, progress)
                raw, display = speaking.ENVELOPE.encode(said_by), partial(speaking.show, said_by)
            else:
                measured = measure(opened, given[name], replace(plan, component=name), progress)
                raw, display = record.encode(measured), partial(show, measured)
        # What was measured is shown first: it is not lost where the file cannot be written.
        if as_json:
            sys.stdout.buffer.write(raw)
            sys.stdout.buffer.flush()
        else:
            display(stdout())
        if output is not None:
            write_atomic(output if len(names) == 1 else output.with_stem(f"{output.stem}-{name}"), raw)
