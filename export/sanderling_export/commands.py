"""`sanderling export`: a recipe or a checkpoint to a bundle, with progress and a table of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from sanderling.bundle import Bundle, open_bundle
from sanderling.commands.console import plain, print_json, stderr, stdout, table
from sanderling.counts import megabytes
from sanderling.errors import ExportError
from sanderling_export.extra import load_pipeline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add `export` to the command line."""
    app.command("export")(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|CHECKPOINT",
            help="A recipe (path, or name in models/); or a checkpoint: folder, weight file, .skops file, "
            "package:name/path, or name on the Hugging Face hub.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The bundle's folder. Default for a recipe: bundles/NAME beside it."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="feature-extraction, text-classification, text-ranking, image-classification, "
            "image-feature-extraction, text-generation, image-to-text or visual-question-answering."
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="mean, cls, last, max, mean_sqrt_len, weighted_mean, splade or colbert; of images mean, cls, pooler "
            "or penultimate."
        ),
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Embeddings of length 1, or as they are.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens an input may have.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A file with one label a line.")] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, int8-dynamic, int8-static, int8-weight-only, int4-weight-only; several with commas. "
            "auto: search the fastest and the smallest that hold a floor."
        ),
    ] = None,
    min_cosine: Annotated[
        float | None, typer.Option(help="With --variants auto: the least cosine to the original, of any sample.")
    ] = None,
    min_p01: Annotated[
        float | None, typer.Option(help="With --variants auto: the least 1st percentile of the cosines.")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="With --variants auto: the least share of first labels as the original's.")
    ] = None,
    max_metric_loss: Annotated[
        float | None,
        typer.Option(help="With --variants auto: the share of the original's task metric that may be lost, as 0.01."),
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Labelled inputs (tab-separated) that the task's metric is measured on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --variants auto: draws the samples that layers are ranked on.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Samples to calibrate and measure on: texts, one a line; a folder of images; rows of a table (.csv)."
        ),
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option("--trust", help="A type that a .skops file may hold; again for more.")
    ] = None,
    keep_failing: Annotated[
        bool, typer.Option("--keep-failing", help="Write variants that are below their floor, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a checkpoint to a bundle: convert, quantize, measure against the original, verify, seal."""
    from sanderling_export import fitted  # it imports onnx, which the other commands do without

    console = stderr()
    pipeline_file = fitted.find(source)
    if pipeline_file is not None:
        with _Stages(console) as stages:
            path = fitted.export_fitted(pipeline_file, output, data, trust or (), stages)
        _report(open_bundle(path), None, as_json)
        return
    if trust:
        raise ExportError("--trust goes with fitted pipelines (.skops files).")
    with console.status("load the exporter"):
        pipeline = load_pipeline()
    from sanderling_export.recipe import Pooling, Precision  # the exporter has read it by now

    chosen: list[str | None] | str | None = None
    if variants is not None and variants.strip() == AUTO:
        chosen = AUTO
    elif variants:
        chosen = [_choice(name, get_args(Precision), "--variants") for name in variants.split(",")]
    with _Stages(console) as stages:
        path = pipeline.export(
            source,
            output,
            task=_choice(task, _TASKS, "--task"),
            pooling=_choice(pooling, tuple(one for one in get_args(Pooling) if one != "none"), "--pooling"),
            normalize=normalize,
            max_tokens=max_tokens,
            labels=labels,
            variants=chosen,
            data=data,
            keep_failing=keep_failing,
            min_cosine=min_cosine,
            min_p01=min_p01,
            min_agreement=min_agreement,
            max_metric_loss=max_metric_loss,
            labelled_data=labelled,
            seed=seed,
            progress=stages,
        )
    _report(open_bundle(path), _searched(path) if chosen == AUTO else None, as_json)


def _report(bundle: Bundle, searched: _Searched | None, as_json: bool) -> None:
    """What was written, for people or as JSON."""
    if as_json:
        every = {name: component.variants for name, component in bundle.manifest.components.items()}
        print_json(
            {
                "bundle": str(bundle.path),
                "digest": bundle.digest,
                "name": bundle.manifest.name,
                "task": bundle.manifest.task,
                "default_variant": bundle.manifest.default_variant,
                "variants": next(iter(every.values())),
                "components": every,
                "notes": bundle.manifest.provenance.notes,
                "search": searched.json if searched is not None else None,
            },
            indent=1,
        )
        return
    out = stdout()
    if searched is not None:
        for table in searched.tables:
            out.print(table)
        for sentence in searched.sentences:
            out.print(plain(sentence), soft_wrap=True)
    out.print(_table(bundle))
    for note in bundle.manifest.provenance.notes:
        out.print(f"note: {plain(note)}")
    if searched is not None:
        out.print("[bold]For a recipe, in place of its variants:[/]")
        for line in searched.recipe.splitlines():
            out.print(plain(line), soft_wrap=True, highlight=False)
    out.print(f"[bold]{plain(str(bundle.path))}[/]: {bundle.manifest.name}, {bundle.manifest.task}", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Searched:
    """What is told of a search."""

    json: dict[str, Any]
    tables: list[Table]
    sentences: list[str]
    recipe: str


def _searched(output: Path) -> _Searched:
    # Needs what the exporter needs, which is there by now.
    from sanderling_export.search import table

    state = table.last(output)
    if state is None:
        raise ExportError(f"The state of the search for {output} is gone; search again to see what it found.")
    return _Searched(table.as_json(state), table.tables(state), table.sentences(state), table.recipe_lines(state))


AUTO = "auto"
_TASKS = (
    "feature-extraction",
    "text-classification",
    "text-ranking",
    "image-classification",
    "image-feature-extraction",
)


def _choice(value: str | None, known: tuple[str, ...], option: str) -> str | None:
    value = value.strip() if value is not None else None
    if value is not None and value not in known:
        raise ExportError(f"{option} {value!r} is not known; expected one of {', '.join(known)}.")
    return value


class _Stages:
    """Progress on standard error: a spinner for the stage under way, a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._stage = ""

    def __enter__(self) -> _Stages:
        self._status.start()
        return self

    def __call__(self, stage: str) -> None:
        # Steps of one stage, as "rank layers (3 of 24)", are one line when they are done.
        if stage.partition(" (")[0] != self._stage.partition(" (")[0]:
            self._finish()
        self._stage = stage
        self._status.update(stage)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._status.stop()
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        if self._stage:
            self._console.print(f"[green]done[/] {plain(self._stage)}")


def _table(bundle: Bundle) -> Table:
    columns = ("variant", "size", "samples", "mean", "p01", "min", "same label", "batch", "padding")
    made = table("Cosine to the original", *columns)
    several = len(bundle.manifest.components) > 1
    parts = [
        (f"{name}: {part}" if several else name, name == bundle.manifest.default_variant, variant)
        for part, component in bundle.manifest.components.items()
        for name, variant in component.variants.items()
    ]
    for title, default, variant in parts:
        files = {f for form in variant.forms.values() for f in (form.graph, *form.data)}
        size = megabytes(sum(bundle.manifest.files[file].size for file in files))
        drift, moved = variant.drift, variant.invariance
        made.add_row(
            title + (" (default)" if default else ""),
            size,
            str(drift.cosine.samples) if drift else "",
            f"{drift.cosine.mean:.5f}" if drift else "",
            f"{drift.cosine.p01:.5f}" if drift and drift.cosine.p01 is not None else "",
            f"{drift.cosine.min:.5f}" if drift else "",
            f"{drift.agreement:.1%}" if drift and drift.agreement is not None else "",
            f"{moved.batch:.5f}" if moved else "",
            f"{min(moved.padding.values()):.5f}" if moved and moved.padding else "",
        )
    return made
