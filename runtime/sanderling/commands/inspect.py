"""`sanderling inspect`: what a bundle is, in a table a person likes to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sanderling.bundle import Bundle, open_bundle
from sanderling.commands.console import plain, print_json, stdout, table
from sanderling.commands.drift import show_drift, variant_size
from sanderling.counts import counted, megabytes
from sanderling.schema.answers import (
    ClassificationOutput,
    ContrastiveOutput,
    FaceOutput,
    ForecastOutput,
    RegressionOutput,
)
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.variants import Variant
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.schema.voices import SpeechOutput

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add `inspect` to the command line."""
    app.command("inspect")(inspect)


def inspect(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    drift: Annotated[
        bool, typer.Option("--drift", help="How far each variant is from the original, and what moves its answers.")
    ] = False,
    placement: Annotated[
        bool, typer.Option("--placement", help="Which provider of this machine really runs which part of each variant.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole manifest, with the digest, as JSON.")] = False,
) -> None:
    """Show what a bundle is: task, variants, size, drift, provenance."""
    opened = open_bundle(bundle)
    if drift:
        show_drift(opened, as_json=as_json)
        return
    if placement:
        from sanderling.commands.placement import show_placement  # ONNX Runtime is for those who ask

        show_placement(opened, as_json=as_json)
        return
    if as_json:
        manifest = msgspec.to_builtins(opened.manifest)
        print_json({"path": str(opened.path), "digest": opened.digest, **manifest}, indent=1)
        return
    console = stdout()
    console.print(_facts(opened))
    console.print(_variants(opened))
    for note in opened.manifest.provenance.notes:
        console.print(f"[dim]Note: {plain(note)}[/]")


def _facts(bundle: Bundle) -> Table:
    from rich.table import Table

    manifest = bundle.manifest
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("name", manifest.name)
    table.add_row("task", f"{manifest.task} ({manifest.family} model)")
    for line in _preprocessing(bundle):
        table.add_row(*line)
    head = manifest.postprocessing
    if isinstance(head, EmbeddingOutput):
        layers = f", {counted(len(head.dense), 'dense layer')}" if head.dense else ""
        without = "" if head.include_prompt else " without the prompt"
        table.add_row(
            "output",
            f"{head.dimension} numbers, pooling {head.pooling}{without}{layers}, normalized: {_yes(head.normalize)}",
        )
        table.add_row("space", (manifest.space or "")[:16])
    elif isinstance(head, ClassificationOutput):
        some = ", ".join(head.labels[:4]) + (", …" if len(head.labels) > 4 else "")
        table.add_row("output", f"{len(head.labels)} labels ({plain(some)}), {head.activation}")
    elif isinstance(head, RegressionOutput):
        table.add_row("output", ", ".join(plain(f"{target.name} {target.unit}".rstrip()) for target in head.targets))
    elif isinstance(head, ForecastOutput):
        covered = [f"{i.level:.0%} (covered {i.coverage:.1%})" for i in head.intervals if i.coverage is not None]
        table.add_row("output", f"{head.horizon:,} values ahead, intervals {', '.join(covered) or 'not measured'}")
    elif isinstance(head, GenerationOutput):
        table.add_row("output", _generation(head))
    elif isinstance(head, SpeechOutput):
        table.add_row("output", _speech(head))
    elif isinstance(head, ContrastiveOutput):
        words = ", ".join(repr(template) for template in head.templates[:3]) + (
            ", …" if len(head.templates) > 3 else ""
        )
        bias = f" {head.logit_bias:+.3f}" if head.logit_bias else ""
        table.add_row("output", f"{head.image.dimension} numbers of texts and of images, in one space")
        table.add_row(
            "scores",
            f"{head.activation} of {head.logit_scale:.3f} x cosine{bias}, temperature {head.temperature:g}; labels as "
            f"{plain(words)}",
        )
        table.add_row("space", (manifest.space or "")[:16])
    elif isinstance(head, FaceOutput):
        for line in _faces(head):
            table.add_row(*line)
        table.add_row("space", (manifest.space or "")[:16])
    table.add_row("checkpoint", plain(manifest.provenance.checkpoint))
    table.add_row("licence", plain(manifest.provenance.license))
    table.add_row("format", f"{manifest.version}, digest {bundle.digest[:16]}")
    table.add_row("size", megabytes(sum(entry.size for entry in manifest.files.values())))
    return table


def _generation(head: GenerationOutput) -> str:
    settings = head.settings
    way = f"{settings.num_beams} beams" if settings.num_beams > 1 else "drawn" if settings.do_sample else "greedy"
    chat = ", conversations" if head.chat is not None else ""
    return (
        f"text, at most {settings.max_new_tokens:,} new tokens ({way}), context {head.context:,}, "
        f"{head.vocabulary:,} tokens{chat}"
    )


def _speech(head: SpeechOutput) -> str:
    settings = head.settings
    speakers = f", speakers {plain(', '.join(head.speakers))}" if head.speakers else ""
    return (
        f"speech, {head.sample_rate:,} samples a second; speed {settings.speed:g}, noise {settings.noise:g} of sounds "
        f"and {settings.duration_noise:g} of durations{speakers}"
    )


def _faces(head: FaceOutput) -> list[tuple[str, str]]:
    known = head.threshold
    others = [plain(", ".join(labels)) for labels in (head.expressions, head.genders) if labels]
    return [
        ("faces", f"from a score above {head.min_score:g}, at most {head.max_faces}, {head.dimension} numbers each"),
        *([("says", "; ".join(others))] if others else []),
        (
            "one person",
            f"from a cosine of {known.cosine:.3f} on ({known.same_pairs:,} pairs of one face from {known.same:.3f} on, "
            f"{known.different_pairs:,} of two people up to {known.different:.3f}: {known.error:.1%} wrong)",
        ),
    ]


def _preprocessing(bundle: Bundle) -> list[tuple[str, str]]:
    lines = []
    if text := bundle.manifest.preprocessing.text:
        prompts = f", prompts {plain(', '.join(text.prompts))}" if text.prompts else ""
        lines.append(("text", f"at most {text.max_tokens} tokens, cut at the {text.truncation_side}{prompts}"))
    if image := bundle.manifest.preprocessing.image:
        steps = [msgspec.to_builtins(step) for step in image.steps]
        described = [f"{s.pop('op')} " + " ".join(f"{v}" for v in _said(s)) for s in steps]
        lines.append(("image", f"{image.channels}: " + ", ".join(described)))
    if tabular := bundle.manifest.preprocessing.tabular:
        for column in tabular.columns:
            known = f", {len(column.categories):,} categories, unseen: {column.unseen}" if column.categories else ""
            unit = f" in {plain(column.unit)}" if column.unit else ""
            words = f"{plain(column.name)}: {column.kind} ({column.dtype}){unit}, missing: {column.missing}{known}"
            lines.append(("column", words))
    if faces := bundle.manifest.preprocessing.faces:
        sizes = {"picture": faces.detector, "face": faces.landmarks, "aligned face": faces.recognition}
        squares = ", ".join(f"{name} {part.size} x {part.size}" for name, part in sizes.items())
        lines.append(("image", f"RGB: {squares}"))
    if sounds := bundle.manifest.preprocessing.phonemes:
        made = f"phonemes by espeak-ng in its voice {sounds.voice}" if sounds.voice else "characters"
        lines.append(("text", f"{made}, {len(sounds.ids):,} symbols, sentences of at most {sounds.max_symbols:,}"))
    if series := bundle.manifest.preprocessing.series:
        lines.append(
            ("series", f"{len(series.lags):,} lags, the farthest {max(series.lags):,} {plain(series.step)} back")
        )
    return lines


def _said(step: dict[str, Any]) -> list[Any]:
    """The values of a step, but for those that are not given, and for a padding that is black as usual."""
    return [value for name, value in step.items() if value is not None and (name != "fill" or any(value))]


def _variants(bundle: Bundle) -> Table:
    several = len(bundle.manifest.components) > 1
    columns = ("size", "mean", "min", "same label", "alone to in batch", "at least")
    made = table("Cosine to the original", "variant", *(("graph",) if several else ()), *columns)
    for name in bundle.manifest.variants:
        mark = " (default)" if name == bundle.manifest.default_variant else ""
        for graph, component in bundle.manifest.components.items():
            size = variant_size(bundle, name, graph)
            named = (name + mark, *((graph,) if several else ()))
            made.add_row(*named, megabytes(size), *_quality(component.variants[name]))
    return made


def _quality(variant: Variant) -> list[str]:
    drift, invariance = variant.drift, variant.invariance
    return [
        f"{drift.cosine.mean:.5f}" if drift else "not measured",
        f"{drift.cosine.min:.5f}" if drift else "",
        f"{drift.agreement:.1%}" if drift and drift.agreement is not None else "",
        f"{invariance.batch:.5f}" if invariance else "",
        f"{variant.tolerance.min_cosine:.5f}",
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
