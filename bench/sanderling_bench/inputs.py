"""What a bundle is measured on: the user's own files, else inputs that are at hand without a network."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling import components
from sanderling.bundle import Bundle
from sanderling.errors import BenchError
from sanderling.golden import read_golden
from sanderling.number_fronts import SeriesFront, TableFront
from sanderling.surroundings import VISION_ENCODER
from sanderling_bench.record import Modality
from sanderling_bench.writing import writes

# Enough for a batch that is worth scheduling, few enough for a round of seconds.
DEFAULT_TEXTS = 64
# Prompts, and the words of each: texts of any model's context, which take seconds to write.
DEFAULT_PROMPTS, PROMPT_WORDS = 8, 8
# Rows that are held, and handed over to fresh processes, as JSON.
MAX_ROWS = 100_000
_MAX_FILE_BYTES = 256 * 2**20
_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts (str), images and sounds (the bytes of their files, so that decoding them is measured), rows (by column,
    or in the columns' order) or series, and where they are from."""

    modality: Modality
    items: tuple[Any, ...]
    source: str

    @property
    def raw(self) -> tuple[bytes, ...]:
        """Each input as bytes: a text in UTF-8, a row or series as JSON."""
        return tuple(map(_as_bytes, self.items))

    @property
    def digest(self) -> str:
        """SHA-256 over the inputs in order, each led by its length as 8 little-endian bytes."""
        digest = hashlib.sha256()
        for item in self.raw:
            digest.update(len(item).to_bytes(8, "little"))
            digest.update(item)
        return digest.hexdigest()


def inputs_for(bundle: Bundle, given: Sequence[Path] = (), component: str | None = None) -> Inputs:
    """The files and folders `given`, or the default inputs of the bundle's modality (or of one `component`'s).

    Texts come one a line from text files. Raises BenchError: nothing there that this bundle takes.
    """
    if bundle.manifest.preprocessing.tabular is not None or bundle.manifest.preprocessing.series is not None:
        return _numbers_for(bundle, given)
    if bundle.manifest.preprocessing.audio is not None:
        return _sounds_for(bundle, given)
    if bundle.manifest.preprocessing.phonemes is not None:
        return _said_by(bundle, given)
    name = measured_component(bundle, component) or VISION_ENCODER
    modality: Modality = "text" if components.modality(bundle.manifest, name) == "text" else "image"
    if given:
        items = _texts_of(given) if modality == "text" else _images_of(given)
        return Inputs(modality, items, ", ".join(map(str, given)))
    if writes(bundle) and modality == "text":
        prompts = tuple(" ".join(text.split()[:PROMPT_WORDS]) for text in standard_texts(DEFAULT_PROMPTS))
        return Inputs("text", prompts, "beginnings of paragraphs of the Python documentation")
    if modality == "text":
        return Inputs("text", standard_texts(DEFAULT_TEXTS), "paragraphs of the Python documentation")
    images = tuple(bundle.read(s.image) for s in read_golden(bundle).samples if s.image is not None)
    if not images:
        raise BenchError("The bundle has no golden images to measure it on. Name some with: --input FOLDER")
    return Inputs("image", images, "the bundle's golden samples")


def measured_component(bundle: Bundle, asked: str | None) -> str | None:
    """The one component that is measured; None for a model that writes, which is measured whole. Raises BenchError
    where there are several and none of them is asked for, or for a task that is not measured."""
    there = list(bundle.manifest.components)
    if len(there) > 1 and writes(bundle):
        components.choose(bundle, asked)
        return None
    answers_together = len(there) > 1 and len(components.apart(bundle)) == 1
    hears = bundle.manifest.preprocessing.audio is not None
    if answers_together or hears or bundle.manifest.task == "visual-question-answering":
        what = f"{bundle.manifest.task}{' of sounds' if hears else ''}"
        raise BenchError(
            f"bench takes models of one graph, of two towers, and those that write texts; {what} is not measured yet."
        )
    if asked is None and len(there) > 1:
        raise BenchError(
            f"{bundle.manifest.name} has {', '.join(there)}, which are measured one at a time: --component {there[0]}"
        )
    return components.choose(bundle, asked)[0]


def measured_apart(bundle: Bundle, asked: str | None) -> tuple[str | None, ...]:
    """What is measured one after the other: of components that answer by themselves each, or the one asked for."""
    there = tuple(bundle.manifest.components)
    if asked is None and len(there) > 1 and len(components.apart(bundle)) == len(there):
        return there
    measured_component(bundle, asked)
    return (asked,)


def standard_texts(count: int) -> tuple[str, ...]:
    """`count` paragraphs of English from the documentation that the standard library carries.

    They are taken at even steps of the list of all, sorted by length, then put in an order that mixes short
    and long: the same for everyone who has the same Python.
    """
    from pydoc_data import topics

    paragraphs = {
        " ".join(paragraph.split())
        for name in sorted(topics.topics)
        for paragraph in re.split(r"\n\s*\n", topics.topics[name])
    }
    prose = sorted((p for p in paragraphs if len(p) >= 20 and p[0].isalpha()), key=lambda p: (len(p), p))
    if len(prose) < count:
        raise BenchError(
            f"The Python documentation here has only {len(prose)} paragraphs. Name texts with: --input FILE"
        )
    chosen = [prose[index * len(prose) // count] for index in range(count)]
    return tuple(sorted(chosen, key=lambda p: hashlib.sha256(p.encode()).digest()))


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    return item.encode() if isinstance(item, str) else json.dumps(item).encode()


def _said_by(bundle: Bundle, given: Sequence[Path]) -> Inputs:
    """The lines of the files given; else the golden sentences, and all of them in a row."""
    if given:
        return Inputs("text", _texts_of(given), ", ".join(map(str, given)))
    found = tuple(dict.fromkeys(one.text for one in read_golden(bundle).samples if one.text is not None))
    if not found:
        raise BenchError("The bundle has no golden sentences to measure it on. Name a file of texts with: --input FILE")
    return Inputs("text", (*found, " ".join(found)), "the bundle's golden samples, and all of them in a row")


def _sounds_for(bundle: Bundle, given: Sequence[Path]) -> Inputs:
    """The sound files given, in the order of their names, else the golden samples."""
    if given:
        named = {path for path in given if path.is_file()}
        files = [path for path in _files(given) if path in named or path.suffix.lower() in _SOUND_SUFFIXES]
        if not files:
            raise BenchError(
                f"There is no sound ({' '.join(sorted(_SOUND_SUFFIXES))}) in {', '.join(map(str, given))}."
            )
        return Inputs("audio", tuple(_read(path) for path in files), ", ".join(map(str, given)))
    sounds = tuple(bundle.read(sample.audio) for sample in read_golden(bundle).samples if sample.audio is not None)
    if not sounds:
        raise BenchError("The bundle has no golden sounds to measure it on. Name some with: --input FOLDER")
    return Inputs("audio", sounds, "the bundle's golden samples")


def _numbers_for(bundle: Bundle, given: Sequence[Path]) -> Inputs:
    """Rows of tables, or series: those in the files given (a series each), else the golden samples."""
    preprocessing = bundle.manifest.preprocessing
    modality: Modality = "tabular" if preprocessing.tabular is not None else "series"
    if not given:
        samples = read_golden(bundle).samples
        items = tuple(
            item
            for sample in samples
            for item in (sample.row, list(sample.series) if sample.series is not None else None)
            if item is not None
        )
        if not items:
            raise BenchError("The bundle has no golden rows to measure it on. Name some with: --input FILE.csv")
        return Inputs(modality, items, "the bundle's golden samples")
    found: list[Any] = []
    for path in _files(given):
        if preprocessing.tabular is not None:
            found += TableFront(preprocessing.tabular, "", 1).file_rows(path)
        else:
            assert preprocessing.series is not None  # one of the two is there
            found.append(SeriesFront(preprocessing.series, "", 1).file_series(path))
        if len(found) > MAX_ROWS:
            raise BenchError(f"{path}: at most {MAX_ROWS:,} rows are measured on. Give fewer.")
    return Inputs(modality, tuple(found), ", ".join(map(str, given)))


def _texts_of(paths: Sequence[Path]) -> tuple[str, ...]:
    texts: list[str] = []
    for path in _files(paths):
        try:
            texts += [line for line in _read(path).decode("utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise BenchError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}).") from error
    if not texts:
        raise BenchError(f"There is no line of text in {', '.join(map(str, paths))}.")
    return tuple(texts)


def _images_of(paths: Sequence[Path]) -> tuple[bytes, ...]:
    named = {path for path in paths if path.is_file()}
    images = tuple(_read(p) for p in _files(paths) if p in named or p.suffix.lower() in _IMAGE_SUFFIXES)
    if not images:
        raise BenchError(f"There is no image ({' '.join(sorted(_IMAGE_SUFFIXES))}) in {', '.join(map(str, paths))}.")
    return images


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(child for child in path.rglob("*") if child.is_file() and not child.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise BenchError(f"{path} does not exist; --input takes a file or a folder.")
    return found


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise BenchError(f"{path} has {size:,} bytes; an input file has at most {_MAX_FILE_BYTES:,}.")
        return path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from error
