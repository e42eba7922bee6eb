"""Timed texts as subtitles: SubRip (SRT) and WebVTT, as strings and as files that appear whole or not at all.

WebVTT is https://www.w3.org/TR/webvtt1/; SubRip has no specification, and is written as players agree to read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from sanderling.errors import InputError
from sanderling.storage import write_atomic

_ARROW = "-->"
# WebVTT's own escapes; the arrow, which no text of a cue may have, is broken by the last one.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MS = 1000


class Segment(Struct, frozen=True):
    """A text that holds from `start` to `end`, in seconds from the beginning of a video or a recording."""

    start: float
    end: float
    text: str


def to_srt(segments: Iterable[Segment]) -> str:
    """The segments as SubRip. An arrow in a text becomes ->: SubRip has no way to say it.

    Cues are in the order of their beginnings; a segment whose text is blank has none. Raises InputError: a time that
    is negative or no number, an end before its beginning.
    """
    cues = []
    for number, (start, end, lines) in enumerate(_cues(segments), 1):
        text = "\n".join(lines).replace(_ARROW, "->")
        cues.append(f"{number}\n{_clock(start, ',')} {_ARROW} {_clock(end, ',')}\n{text}\n")
    return "\n".join(cues)


def to_webvtt(segments: Iterable[Segment]) -> str:
    """The segments as WebVTT, the characters &, < and > escaped. Order, blank texts and errors are as of `to_srt`."""
    cues = ["WEBVTT\n"]
    for start, end, lines in _cues(segments):
        text = "\n".join(lines).translate(_ESCAPES)
        cues.append(f"{_clock(start, '.')} {_ARROW} {_clock(end, '.')}\n{text}\n")
    return "\n".join(cues)


def write_subtitles(path: str | Path, segments: Iterable[Segment]) -> None:
    """Write the segments to `path`, as SubRip where it ends in .srt and as WebVTT where it ends in .vtt, in UTF-8.

    A reader, or a crash at any point, sees the old file or the new one. Raises InputError: another ending, or segments
    that cannot be written; StorageError.
    """
    target = Path(path)
    written = {".srt": to_srt, ".vtt": to_webvtt}.get(target.suffix.lower())
    if written is None:
        raise InputError(f"{target} ends in {target.suffix or 'nothing'}; subtitles are written as .srt or .vtt.")
    write_atomic(target, written(segments).encode("utf-8", "replace"))


def _cues(segments: Iterable[Segment]) -> Iterator[tuple[int, int, list[str]]]:
    """Beginning and end in milliseconds and the lines of each cue that has any, by beginning."""
    for segment in sorted(map(_checked, segments), key=lambda segment: (segment.start, segment.end)):
        # An empty line would end the cue, and what is after it be read as another.
        lines = [line.strip() for line in segment.text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()]
        if kept := [line for line in lines if line]:
            start = round(segment.start * _MS)
            # A cue that lasts no time is never shown; WebVTT allows none.
            yield start, max(start + 1, round(segment.end * _MS)), kept


def _checked(segment: Segment) -> Segment:
    if not (math.isfinite(segment.start) and math.isfinite(segment.end) and 0 <= segment.start <= segment.end):
        raise InputError(
            f"A segment goes from {segment.start} to {segment.end} seconds ({segment.text[:40]!r}); "
            "a beginning from 0 on, and an end that is not before it, were expected."
        )
    return segment


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, _MS)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
