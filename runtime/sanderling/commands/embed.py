"""`sanderling embed`: the texts of Parquet files to vectors, on all cores of a machine or of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sanderling.commands.console import plain, print_json, stderr, stdout
from sanderling.commands.progress import progress_bar
from sanderling.counts import counted

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add `embed` to the command line."""
    app.command("embed")(embed)


def embed(
    source: Annotated[Path, typer.Argument(help="A Parquet file, or a folder of them.", show_default=False)],
    bundle: Annotated[
        Path, typer.Option("--bundle", "-m", help="The folder of the bundle that embeds.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write to. Default: SOURCE.vectors.")
    ] = None,
    column: Annotated[str, typer.Option(help="The column of the texts.")] = "text",
    workers: Annotated[int | None, typer.Option(help="Workers. Default: as many as there are cores for.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a part, which is done or not.")] = 2048,
    variant: Annotated[str | None, typer.Option(help="A variant of the bundle. Default: the bundle's own.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The name of one of the model's prompts. Default: its own for documents.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Numbers to keep of each vector, the first ones. Default: all.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the vectors: float32, float16, int8 or binary.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="What became of the rows, as JSON.")] = False,
) -> None:
    """Embed the texts of Parquet files in bulk (extra `ray`). Again: only what is not done, or changed."""
    from sanderling.integrations import ray

    target = output if output is not None else source.resolve().with_name(f"{source.resolve().stem}.vectors")
    # The adapter says which words it knows.
    chosen: Any = precision
    with progress_bar("rows") as progress:
        task = progress.add_task("embedding", total=None, counted=0)

        def show(step: ray.Progress) -> None:
            progress.update(task, completed=step.done, total=step.total, counted=step.embedded)

        try:
            report = ray.embed_parquet(
                source,
                target,
                bundle,
                column=column,
                workers=workers,
                threads=threads,
                rows=rows,
                variant=variant,
                prompt=prompt,
                dimensions=dimensions,
                precision=chosen,
                progress=show,
            )
        except KeyboardInterrupt:
            progress.console.print("note: interrupted; the parts that are done are kept. Run it again to go on.")
            raise
    _show(report, target, as_json=as_json)


def _show(report: Any, target: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"output": str(target)} | msgspec.to_builtins(report), indent=1)
    else:
        stdout().print(
            f"{plain(str(target))}: {counted(report.rows, 'row')} in {counted(report.parts, 'part')}, "
            f"{report.unchanged} as before, {report.removed} gone, {len(report.failed)} that failed; "
            f"{report.truncated} texts truncated, {report.empty} rows without one; {counted(report.workers, 'worker')}",
            soft_wrap=True,
        )
        for part, reason in list(report.failed.items())[:_SHOWN]:
            stderr().print(f"[red]{plain(part)}: {plain(reason)}[/]", soft_wrap=True)
    if report.failed:
        raise typer.Exit(1)
