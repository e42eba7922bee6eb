"""`sanderling index`: the files of a folder, embedded and kept, so that `search` finds what is like a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sanderling.commands.console import plain, print_json, stderr, stdout
from sanderling.commands.finding import bundle_of, embedding_model
from sanderling.commands.progress import progress_bar
from sanderling.counts import counted
from sanderling.errors import InputError
from sanderling.index import folder as folders
from sanderling.index import layout
from sanderling.index.index import Index

if TYPE_CHECKING:
    from sanderling.tasks.feature_extraction import EmbeddingModel

_TOKENS, _OVERLAP = 200, 40
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add `index` to the command line."""
    app.command("index")(index)


def index(
    folder: Annotated[Path, typer.Argument(help="The folder whose files are indexed.", show_default=False)],
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", "-m", help="The folder of the bundle that embeds. Default: the index's own."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder of the index. Default: FOLDER.index.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="A variant of the bundle. Default: the index's own.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads to use. Default: the cores granted.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=32, help=f"Tokens of a piece, at most. Default: {_TOKENS}.", show_default=False)
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(min=0, help=f"Tokens that neighbours share. Default: {_OVERLAP}.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of a new index: float32, float16 or int8. Default: float32.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What became of the files, as JSON.")] = False,
) -> None:
    """Index the files of a folder: texts, Markdown, HTML, PDF (extra `pdf`), or images. Again: only what changed."""
    target = output if output is not None else folder.resolve().with_name(f"{folder.resolve().name}.index")
    asked = {"tokens": tokens, "overlap": overlap, "precision": precision, "variant": variant}
    report = folders.Report()
    if (target / layout.HEADER).exists():
        with Index.open(target, writable=True) as kept:
            about = _settings(kept, asked, folder, target)
            with embedding_model(bundle_of(kept, bundle), about["variant"], threads) as model:
                _bring_up_to_date(kept, folder, model, report, about)
    else:
        if bundle is None:
            raise InputError(
                "There is no index yet, so it must be said what embeds: sanderling index FOLDER -m BUNDLE."
            )
        with embedding_model(bundle, variant, threads) as model:
            about = {
                "bundle": str(bundle.resolve()),
                "folder": str(folder.resolve()),
                "variant": model.variant,
                "tokens": _TOKENS if tokens is None else tokens,
                "overlap": _OVERLAP if overlap is None else overlap,
            }
            if not folders.scan(folder, folders.Report()):
                raise InputError(f"There is no file in {folder}; no index was made. Give the folder that holds them.")
            chosen: Any = precision or "float32"
            with Index.create(
                target, space=model.space, dimension=model.dimension, precision=chosen, about=about
            ) as kept:
                _bring_up_to_date(kept, folder, model, report, about)
    _show(report, target, as_json=as_json)


def _settings(kept: Index, asked: dict[str, Any], folder: Path, target: Path) -> dict[str, Any]:
    """How the index was made. Raises InputError where it is asked for otherwise."""
    about = kept.about
    if not {"bundle", "folder", "variant", "tokens", "overlap"} <= set(about):
        raise InputError(f"{target} was not made by `sanderling index`; give another folder with -o.")
    made = {**about, "precision": kept.precision}
    for name, value in asked.items():
        if value is not None and value != made[name]:
            raise InputError(
                f"{target} was made with --{name} {made[name]}, not {value}. Leave the option out, or make another "
                "index with -o."
            )
    if about["folder"] != str(folder.resolve()):
        raise InputError(f"{target} is of the folder {about['folder']}, not of {folder.resolve()}; choose one with -o.")
    return about


def _bring_up_to_date(
    kept: Index, folder: Path, model: EmbeddingModel, report: folders.Report, about: dict[str, Any]
) -> None:
    with progress_bar("pieces") as progress:
        task = progress.add_task(model.name, total=None, counted=0)
        try:
            for step in folders.update(kept, folder, model, report, about["tokens"], about["overlap"]):
                progress.update(task, completed=step.done, total=step.total, counted=step.pieces)
        except KeyboardInterrupt:
            progress.console.print(
                f"note: interrupted; the {counted(len(kept), 'piece')} embedded so far are kept. Run it again to go on."
            )
            raise
    # What was replaced and deleted takes room until the index is written anew.
    if layout.read_header(kept.path).deleted > len(kept):
        kept.compact()


def _show(report: folders.Report, target: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"index": str(target)} | msgspec.to_builtins(report), indent=1)
    else:
        stdout().print(
            f"{plain(str(target))}: {counted(report.embedded, 'file')} embedded in {counted(report.pieces, 'piece')}, "
            f"{report.unchanged} as before, {report.gone} gone, {report.other} of other kinds, "
            f"{report.empty} without a text, "
            f"{len(report.failed)} that could not be read"
        )
        for path, reason in list(report.failed.items())[:_SHOWN]:
            stderr().print(f"[red]{plain(path)}: {plain(reason)}[/]", soft_wrap=True)
        if len(report.failed) > _SHOWN:
            stderr().print(f"... and {len(report.failed) - _SHOWN} more; --json has them all.")
    if report.failed:
        raise typer.Exit(1)
