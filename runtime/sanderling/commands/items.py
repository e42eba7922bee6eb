"""Inputs of a command line: texts, files, folders, and lines of standard input."""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.commands import numbers
from sanderling.commands.console import clean, plain, stderr
from sanderling.errors import InputError, TextError

if TYPE_CHECKING:
    from sanderling.model import Model

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


def read_items(model: Model, inputs: list[str], texts: list[str], images: list[str]) -> Iterator[Item]:
    """The inputs of a command line one by one: texts, files, whole folders, and - for the lines of standard input."""
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
