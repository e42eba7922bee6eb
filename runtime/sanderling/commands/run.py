"""`sanderling run`: inputs to answers, as a table or as one JSON object a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sanderling.bundle import open_bundle
from sanderling.commands import generating, hearing, questions, speaking
from sanderling.commands.answers import Shown, record
from sanderling.commands.asking import Ask, VectorOptions
from sanderling.commands.console import print_json, stderr
from sanderling.commands.generating import GenerationAsk
from sanderling.commands.hearing import HearingAsk
from sanderling.commands.items import Item, read_items
from sanderling.commands.speaking import SpeechAsk
from sanderling.components import TEXT_ENCODER, VISION_ENCODER, joins
from sanderling.errors import InputError, SanderlingError
from sanderling.loading import load
from sanderling.schema.generation import GenerationOutput
from sanderling.voices.rules import TASK

if TYPE_CHECKING:
    from sanderling.commands.answers import Result

_CHUNK = 64


def register(app: typer.Typer) -> None:
    """Add `run` to the command line."""
    app.command("run")(run)


def run(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts, files (one input each; of a table each row), folders (each file in them), rows or series as "
            "JSON, - for standard input (one a line).",
            show_default=False,
        ),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text, taken literally; again for more.")] = None,
    image: Annotated[list[str] | None, typer.Option("--image", help="An image file; again for more.")] = None,
    variant: Annotated[str | None, typer.Option(help="A variant of the bundle. Default: the bundle's own.")] = None,
    provider: Annotated[str | None, typer.Option(help="The execution provider. Default: cpu.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels (or tokens of sparse vectors) to show, best first.")] = 5,
    prompt: Annotated[str | None, typer.Option(help="The name of one of the model's prompts.")] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Numbers to keep of each vector, the first ones. Default: all.")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Vectors of length 1, or not. Default: as the model."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the vectors: float32, float16, int8 or binary.")] = "float32",
    pair: Annotated[
        str | None,
        typer.Option("--pair", help="A second text, beside every input: pairs of texts.", show_default=False),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(help="What every input is to be relevant to; for models of text-ranking.", show_default=False),
    ] = None,
    long_text: Annotated[
        str, typer.Option(help="Of a text too long for the model: truncate, or window (several answers combined).")
    ] = "truncate",
    labels: Annotated[
        str | None,
        typer.Option(help="Labels of your own, with commas between: decides among them.", show_default=False),
    ] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Each of --labels by itself.")] = False,
    template: Annotated[
        str | None, typer.Option(help="The sentence around each of --labels, with {} for it.", show_default=False)
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(help="A question about every picture; again for more.", show_default=False),
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Values ahead, of a forecast. Default: all.")] = None,
    level: Annotated[float | None, typer.Option(help="The level of a forecast's interval. Default: its first.")] = None,
    decode: Annotated[
        str | None,
        typer.Option(
            help="JPEG files: exact, in full, or fast, large ones at reduced scale. Default: the variant's own."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a model that generates, the most tokens. Default: the bundle's.")
    ] = None,
    num_beams: Annotated[int | None, typer.Option(min=1, help="Beams of a search. Default: the bundle's.")] = None,
    sample: Annotated[
        bool | None, typer.Option("--sample/--no-sample", help="Draw tokens, or do not. Default: as the bundle.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of drawing: above 1 more at random.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of drawing: the share of probability to draw from.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="What is drawn with. Default: 0.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A string before which a text ends; again for more.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Of a voice: the WAV file, or for several inputs a folder.", show_default=False
        ),
    ] = None,
    speed: Annotated[float | None, typer.Option(help="Of a voice: above 1 faster. Default: the bundle's.")] = None,
    noise: Annotated[float | None, typer.Option(help="Of a voice: how much its sounds vary, from 0.")] = None,
    duration_noise: Annotated[float | None, typer.Option(help="Of a voice: how much its pace varies, from 0.")] = None,
    pause: Annotated[float | None, typer.Option(help="Of a voice: seconds of silence between sentences.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Of a voice of several speakers: which of them.")] = None,
    language: Annotated[
        str | None, typer.Option(help="What is spoken, as en. Default: recognized.", show_default=False)
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Write English, whatever is spoken.")] = False,
    window: Annotated[
        str | None,
        typer.Option(
            help="Of a model that hears: full, as it was trained, or short, without most of the silence behind a short "
            "sound. Default: full.",
            show_default=False,
        ),
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="When each segment was said.")] = False,
    subtitles: Annotated[
        str | None, typer.Option(help="Write subtitles: srt or vtt, with times.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, one an input, in order.")] = False,
) -> None:
    """Answer inputs with a bundle."""
    # load() says which words it knows.
    words: dict[str, Any] = {"decode": decode, "window": window}
    tower = _tower(bundle, labels, text)
    with load(bundle, variant=variant, provider=provider, threads=threads, components=tower, **words) as model:
        speaks = model.task == TASK
        of_generation = (max_new_tokens, num_beams, sample, temperature, top_p, None if speaks else seed)
        generation = GenerationAsk(*of_generation, tuple(stop or ()))
        speech = SpeechAsk(output, speed, noise, duration_noise, pause, speaker)
        of_others: dict[str, object] = {
            "prompt": prompt,
            "dimensions": dimensions,
            "normalize": normalize,
            "precision": precision,
        }
        of_others |= {"pair": pair, "query": query, "long_text": long_text, "labels": labels, "template": template}
        of_others |= {"multi_label": multi_label, "horizon": horizon, "level": level}
        generation.check(model, of_others)
        speech.check(model, of_others)
        heard = HearingAsk(language, translate, timestamps, subtitles)
        heard.check(model, generation, as_json=as_json)
        vectors = VectorOptions(prompt, dimensions, normalize, precision)
        generates = isinstance(model.bundle.manifest.postprocessing, GenerationOutput)
        ask = (
            None
            if generates or speaks
            else Ask(
                model, top_k, vectors, pair, long_text, _listed(labels), multi_label, template, horizon, level, query
            )
        )
        items = questions.each(model, read_items(model, inputs or [], text or [], image or []), question or [])
        first = next(items, None)
        if first is None:
            if inputs:
                raise InputError("Nothing to answer: standard input is empty; one input a line was expected.")
            raise InputError(f"Nothing to answer: give a {model.modality}, a file, a folder, or - after the bundle.")
        if model.task == hearing.TASK:
            if hearing.answer(model, chain([first], items), heard, generation, as_json=as_json):
                raise typer.Exit(1)
            return
        if speaks:
            if speaking.answer(model, chain([first], items), speech, seed or 0, as_json=as_json):
                raise typer.Exit(1)
            return
        if ask is None:
            if generating.answer(model, chain([first], items), generation, as_json=as_json):
                raise typer.Exit(1)
            return
        failed = 0
        show = print_json if as_json else Shown(model).show
        for item, result in _answers(ask, chain([first], items)):
            failed += isinstance(result, str)
            show(record(item, result))
        if not as_json and failed:
            stderr().print(f"{failed} input(s) failed.", style="red")
    if failed:
        raise typer.Exit(1)


def _tower(bundle: Path, labels: str | None, texts: list[str] | None) -> str | None:
    """Of a model that joins texts and images the tower that answers, where both are not needed: without labels it
    embeds texts that are said to be such, else images."""
    if labels is not None or not joins(open_bundle(bundle).manifest):
        return None
    return TEXT_ENCODER if texts else VISION_ENCODER


def _listed(labels: str | None) -> tuple[str, ...] | None:
    return None if labels is None else tuple(label.strip() for label in labels.split(","))


def _answers(ask: Ask, items: Iterator[Item]) -> Iterator[tuple[Item, Result | str]]:
    size = 1 if sys.stdin.isatty() else _CHUNK
    while chunk := list(islice(items, size)):
        readable = [item for item in chunk if item.error is None]
        try:
            results = iter(ask([item.value for item in readable]))
        except InputError:
            # One of them is no input of this model: each is asked alone, so that the others are answered.
            results = iter(_one_by_one(ask, readable))
        for item in chunk:
            yield item, item.error if item.error is not None else next(results)


def _one_by_one(ask: Ask, items: list[Item]) -> Iterator[Result | str]:
    for item in items:
        try:
            yield from ask([item.value])
        except SanderlingError as error:
            yield str(error)
