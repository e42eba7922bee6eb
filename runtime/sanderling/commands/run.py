"""`sanderling run`: inputs to answers, as a table or as one JSON object a line."""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from sanderling.bundle import open_bundle
from sanderling.commands import generating, hearing, losses, numbers, pictures, questions, speaking
from sanderling.commands.asking import Ask, VectorOptions
from sanderling.commands.console import clean, plain, print_json, stderr, stdout
from sanderling.commands.generating import GenerationAsk
from sanderling.commands.hearing import HearingAsk
from sanderling.commands.speaking import SpeechAsk
from sanderling.components import TEXT_ENCODER, VISION_ENCODER, joins
from sanderling.counts import counted
from sanderling.errors import InputError, SanderlingError, TextError
from sanderling.faces import Faces
from sanderling.loading import load
from sanderling.manifest import GenerationOutput
from sanderling.results import (
    Classification,
    Embedding,
    TextReport,
)
from sanderling.tasks.late_interaction import TokenEmbedding
from sanderling.tasks.sparse import SparseEmbedding
from sanderling.voice_rules import TASK

if TYPE_CHECKING:
    from sanderling.model import Model
    from sanderling.predictions import Forecast, Prediction

    Result: TypeAlias = Embedding | TokenEmbedding | SparseEmbedding | Classification | Prediction | Forecast | Faces

_CHUNK = 64
_MAX_TEXT_FILE = 64 * 2**20
_TEXT_SUFFIXES = {".txt", ".md", ".rst", ".text"}
_SOUND_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}


@dataclass(frozen=True, slots=True)
class Item:
    """One input: what to call it, and what to hand to the model, or the error that kept it from being read."""

    name: str
    value: Any = None
    error: str | None = None
    question: str | None = None


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
        items = questions.each(model, _items(model, inputs or [], text or [], image or []), question or [])
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
        show = print_json if as_json else _Table(model).show
        for item, result in _answers(ask, chain([first], items)):
            failed += isinstance(result, str)
            show(_record(item, result))
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


def _items(model: Model, inputs: list[str], texts: list[str], images: list[str]) -> Iterator[Item]:
    for option, values, modality in (("--text", texts, "text"), ("--image", images, "image")):
        if values and model.modality != modality:
            raise InputError(f"{option} was given, but {model.name} takes one {model.modality} an input.")
    yield from (Item(clean(text), text) for text in texts)
    yield from (Item(clean(path), path) for path in images)
    for given in inputs:
        if model.modality in numbers.MODALITIES and given != "-":
            yield from (Item(name, value, error) for name, value, error in numbers.items(model, given))
        elif given == "-":
            lines = iter(lambda: sys.stdin.buffer.readline(_MAX_TEXT_FILE), b"")
            yield from (_from_line(model, line, first=number == 0) for number, line in enumerate(lines))
        elif _exists(given) and Path(given).is_dir():
            yield from _from_folder(model, Path(given))
        elif model.modality == "text" and _exists(given):
            yield _from_text_file(Path(given))
        else:
            if model.modality == "text" and _names_a_file(given):
                stderr().print(f"note: {plain(given)} is no file here; it is answered as a text.", soft_wrap=True)
            yield Item(clean(given), given)


def _names_a_file(given: str) -> bool:
    """Whether a text looks like the name of a text file, and is perhaps a mistyped one."""
    return not any(character.isspace() for character in given) and Path(given).suffix.lower() in _TEXT_SUFFIXES


def _exists(given: str) -> bool:
    try:
        return given != "" and Path(given).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL: a text
        return False


def _from_line(model: Model, line: bytes, *, first: bool) -> Item:
    if len(line) == _MAX_TEXT_FILE:
        while sys.stdin.buffer.readline(_MAX_TEXT_FILE)[-1:] not in (b"\n", b""):
            pass  # the rest of the same line
        return Item(clean(line[:80].decode("utf-8", "replace")), error=f"A line has at most {_MAX_TEXT_FILE:,} bytes.")
    if first:  # As of a file, the mark that some editors put before UTF-8 is no part of the text.
        line = line.removeprefix(BOM_UTF8)
    text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    if model.modality == "text" and any("\udc80" <= c <= "\udcff" for c in text):
        return Item(clean(text), error="This line is no valid UTF-8; convert it first.")
    if model.modality in numbers.MODALITIES:
        return Item(*numbers.literal(text))
    return Item(clean(text), text)


def _from_folder(model: Model, folder: Path) -> Iterator[Item]:
    suffixes = {"text": _TEXT_SUFFIXES, "audio": _SOUND_SUFFIXES}.get(model.modality, _IMAGE_SUFFIXES)
    unread: list[OSError] = []
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]
    for error in unread:
        yield Item(clean(str(error.filename)), error=f"This folder cannot be read: {error.strerror or error}.")
    if not found and not unread:
        yield Item(
            clean(str(folder)), error=f"No {model.modality} files ({', '.join(sorted(suffixes))}) in this folder."
        )
    for path in sorted(found):
        yield _from_text_file(path) if model.modality == "text" else Item(clean(str(path)), str(path))


def _from_text_file(path: Path) -> Item:
    name = clean(str(path))
    try:
        if not path.is_file():
            raise TextError("This is no regular file.")
        if path.stat().st_size > _MAX_TEXT_FILE:
            raise TextError(
                f"This file has {path.stat().st_size:,} bytes; at most {_MAX_TEXT_FILE:,} are read as a text."
            )
        return Item(name, path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Item(name, error=f"This file is no valid UTF-8 (byte {error.start}); convert it first.")
    except OSError as error:
        return Item(name, error=f"This file cannot be read: {error.strerror or error}.")
    except TextError as error:
        return Item(name, error=str(error))


def _record(item: Item, result: Result | str) -> dict[str, Any]:
    record: dict[str, Any] = {"input": item.name} | ({} if item.question is None else {"question": item.question})
    if isinstance(result, str):
        return record | {"error": clean(result)}
    if isinstance(result, Embedding):
        record["embedding"] = result.embedding.tolist()
        if result.precision != "float32":
            record["precision"] = result.precision
        if result.scale is not None:
            record["scale"] = result.scale
    elif isinstance(result, Classification):
        record |= {"labels": result.labels, "scores": result.scores}
        if result.selected != result.labels[:1]:
            record["selected"] = result.selected
    elif isinstance(result, SparseEmbedding):
        record["weights"] = result.by_token
    elif isinstance(result, TokenEmbedding):
        record |= {"tokens": result.tokens, "embeddings": result.embeddings.tolist()}
    elif isinstance(result, Faces):
        record |= pictures.record(result)
    else:
        record |= numbers.record(result)
    if isinstance(result.report, TextReport) and result.report.windows > 1:
        record["windows"] = result.report.windows
    if lost := losses.lost(result.report):
        record["lost"] = lost
    return record


class _Table:
    """Answers for people, a few lines each."""

    def __init__(self, model: Model) -> None:
        self._console = stdout()
        self._hears = model.modality == "audio"
        threads = counted(model.threads, "thread")
        self._console.print(f"[bold]{model.name}[/] {model.variant} on {model.provider}, {threads}")

    def show(self, record: dict[str, Any]) -> None:
        name = " ".join(record["input"].split())
        name = plain(name if len(name) <= 72 else name[:71] + "…") or "[dim](empty)[/]"
        asked = f" {plain(clean(record['question']))}" if "question" in record else ""
        self._console.print(name + asked, soft_wrap=True)
        if "error" in record:
            self._below(f"[red]{plain(record['error'])}[/]")
        elif "embedding" in record:
            vector = record["embedding"]
            whole = record.get("precision") in ("int8", "binary")
            head = " ".join(f"{value:+d}" if whole else f"{value:+.4f}" for value in vector[:6])
            kind = {"int8": f" times {record.get('scale', 0):.3g}", "binary": " (bytes of bits)"}
            self._below(f"{len(vector)} numbers{kind.get(record.get('precision', ''), '')}: {head} …")
        elif "weights" in record:
            for token, weight in record["weights"].items():
                self._below(f"{weight:7.4f}  {plain(token)}")
        elif "embeddings" in record:
            for token, vector in zip(record["tokens"], record["embeddings"], strict=True):
                head = " ".join(f"{value:+.4f}" for value in vector[:4])
                self._below(f"{plain(token)}  {len(vector)} numbers: {head} …")
        elif "faces" in record:
            for line in pictures.lines(record):
                self._below(plain(line))
        elif "labels" not in record:
            for line in numbers.lines(record):
                self._below(plain(line))
        else:
            held = record.get("selected")
            for label, score in zip(record["labels"], record["scores"], strict=True):
                # Where several labels may hold, those that do are marked.
                mark = "" if held is None else "* " if label in held else "  "
                self._below(f"{mark}{score:7.4f}  {plain(label)}")
        if "windows" in record:
            self._below(f"[dim]in {record['windows']:,} windows[/]")
        if lost := record.get("lost"):
            words = hearing.in_words if self._hears else losses.in_words
            self._below("[yellow]" + ", ".join(words(name, value) for name, value in lost.items()) + "[/]")

    def _below(self, line: str) -> None:
        """A line that belongs to the one above: it stays indented where a terminal breaks it; in a pipe it is whole."""
        from rich.padding import Padding

        if self._console.is_terminal:
            self._console.print(Padding(line, (0, 0, 0, 2), expand=False))
        else:
            self._console.print(f"  {line}", soft_wrap=True)
