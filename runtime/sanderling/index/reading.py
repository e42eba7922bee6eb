"""Files to texts: what kind each is, by its name and its bytes, and the text in it."""

from __future__ import annotations

import codecs
import importlib.util
import io
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar, Literal

from sanderling.errors import InputError, MissingExtraError, SanderlingError, TextError

Kind = Literal["text", "html", "pdf", "image", "audio"]

MAX_BYTES = 64 * 2**20
_MAX_PAGES = 5000
_HTML = {".html", ".htm", ".xhtml"}
_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
_SOUNDS = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class NotTextError(SanderlingError):
    """A file that is no text and claims to be none, such as a program: passed over, and counted."""


def kind(path: Path) -> Kind:
    """What a file is, by its name: all that is no image, sound, HTML or PDF may be a text."""
    suffix = path.suffix.lower()
    if suffix in _SOUNDS:
        return "audio"
    if suffix in _IMAGES:
        return "image"
    return "html" if suffix in _HTML else "pdf" if suffix == ".pdf" else "text"


def text(data: bytes, of: Kind) -> str:
    """The text of a file's bytes.

    Raises NotTextError for what is no text, TextError for a broken encoding or a PDF that cannot be read,
    MissingExtraError for a PDF without the extra `pdf`.
    """
    if of == "pdf":
        return _pdf(data)
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decoded(data, encoding, of)
    if b"\0" in data:
        raise NotTextError("This is no text: it has bytes of zero.")
    return _decoded(data, "utf-8", of)


def _decoded(data: bytes, encoding: str, of: Kind) -> str:
    try:
        found = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(f"This is no valid {error.encoding.upper()} (byte {error.start}); convert it first.") from error
    return _Visible.of(found) if of == "html" else found


class _Visible(HTMLParser):
    """What a page shows: its text, a line for each block; without scripts and styles."""

    _HIDDEN: ClassVar[set[str]] = {"script", "style", "template", "noscript"}
    _INLINE: ClassVar[set[str]] = {"a", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup", "u"}

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._hidden = 0

    @classmethod
    def of(cls, page: str) -> str:
        parser = cls()
        parser.feed(page)
        parser.close()
        lines = (" ".join(line.split()) for line in "".join(parser._parts).split("\n"))
        return "\n".join(line for line in lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs  # no text is in them
        self._hidden += tag in self._HIDDEN
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self._HIDDEN and self._hidden > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data.replace("\n", " "))

    def _break(self, tag: str) -> None:
        if tag not in self._INLINE:
            self._parts.append("\n")


def _pdf(data: bytes) -> str:
    if importlib.util.find_spec("pypdf") is None:
        raise MissingExtraError("Reading a PDF", "pdf", "pypdf")
    return "\n\n".join(_pages(data))


def _pages(data: bytes) -> Iterator[str]:
    import logging

    # It tells of every oddity of a file it reads all the same.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    import pypdf

    try:
        pages = pypdf.PdfReader(io.BytesIO(data)).pages
        if len(pages) > _MAX_PAGES:
            raise InputError(f"This PDF has {len(pages):,} pages; at most {_MAX_PAGES:,} are read.")
        for page in pages:
            yield page.extract_text().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except SanderlingError:
        raise
    except Exception as error:  # whatever a damaged file makes it raise
        raise TextError(f"This PDF cannot be read: {type(error).__name__}: {error}"[:300]) from error
