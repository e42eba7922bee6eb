"""The command `sanderling eval`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sanderling.errors import EvalError, MissingExtraError


def register(app: typer.Typer) -> None:
    """Add `eval` to the command line."""
    app.command("eval")(evaluate_bundle)


def evaluate_bundle(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled rows (.tsv, .csv, .jsonl), a series, or for retrieval a folder (queries, corpus, qrels).",
            show_default=False,
        ),
    ],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant beside fp32; again for more. Default: all.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="A metric; again for more. Default: all that fit the data.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="ROLE=NAME, a column with another name: label=sentiment; again for more."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate on so many rows (queries), drawn at random.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the rows and the intervals.")] = 20_240_229,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws that make the intervals.")] = 1000,
    prompt: Annotated[str | None, typer.Option(help="The name of one of the model's prompts.")] = None,
    query_prompt: Annotated[str | None, typer.Option(help="The same for the queries of retrieval.")] = None,
    language: Annotated[
        str | None,
        typer.Option(help="What is spoken, for models that hear several languages.", show_default="recognized"),
    ] = None,
    dimensions: Annotated[
        list[int] | None,
        typer.Option("--dimensions", help="Also with vectors cut to so many numbers; again for more."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="Also with vectors in float16, int8 or binary; again for more."),
    ] = None,
    provider: Annotated[str, typer.Option(help="The execution provider.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record, every answer and all, as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the record to this file.", show_default=False)
    ] = None,
) -> None:
    """Evaluate every variant of a bundle on labelled data: task metrics with 95% intervals, and differences to fp32."""
    for module in ("sklearn", "scipy", "sacrebleu", "jiwer"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("sanderling eval", "eval", {"sklearn": "scikit-learn"}.get(module, module))
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBar

    from sanderling.bundle import open_bundle
    from sanderling.commands.console import plain, stdout
    from sanderling_bench import evaluation_record
    from sanderling_bench.evaluation import EvalPlan, evaluate
    from sanderling_bench.evaluation_table import show

    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise EvalError(f"{output} is no place for the record; give a file in a folder that exists.")
    plan = EvalPlan(
        data=data,
        variants=tuple(variant or ()),
        metrics=tuple(metric or ()),
        columns=_columns(column or ()),
        limit=limit,
        seed=seed,
        resamples=resamples,
        prompt=prompt,
        query_prompt=query_prompt,
        language=language,
        dimensions=tuple(dimensions or ()),
        precisions=tuple(precision or ()),
        provider=provider,
        threads=threads,
    )
    opened = open_bundle(bundle)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=plain(what), completed=done, total=total)

        made = evaluate(opened, plan, progress)
    if output is not None:
        evaluation_record.write(made, output)
    if as_json:
        sys.stdout.buffer.write(evaluation_record.encode(made))
        sys.stdout.buffer.flush()
    else:
        show(made, stdout())


def _columns(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for option in given:
        role, equals, name = option.partition("=")
        if not (role and equals and name):
            raise EvalError(f"--column {option}: ROLE=NAME was expected, such as label=sentiment.")
        found[role] = name
    return found
