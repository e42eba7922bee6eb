"""A long text in pieces that a model sees whole, which overlap so that no sentence is cut for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

# Where each token stands in a text: (tokens, 2), first character and the one after the last.
Tokens = Callable[[str], NDArray[np.int64]]

# A text is given to the tokenizer in parts of about so many characters.
_PART = 32 * 1024


class Chunk(Struct, frozen=True):
    """A piece of a text: from which character and line (from 1), and what stands there."""

    start: int
    line: int
    text: str


def chunks(text: str, tokens: Tokens, size: int, overlap: int) -> Iterator[Chunk]:
    """Pieces of at most `size` tokens, each of which begins about `overlap` tokens before the last ended.

    A piece ends with a line where one ends in its last half, and with a word else.
    """
    spans = _spans(text, tokens)
    first, line, counted = 0, 1, 0
    while first < len(spans):
        last = min(first + size, len(spans))
        start = int(spans[first, 0])
        if last < len(spans):
            last = _ending(text, spans, first, last)
        end = int(spans[last - 1, 1])
        line += text.count("\n", counted, start)
        counted = start
        yield Chunk(start, line, text[start:end])
        if last == len(spans):
            return
        first = max(first + 1, last - overlap)


def _ending(text: str, spans: NDArray[np.int64], first: int, last: int) -> int:
    """The token before which a piece ends."""
    middle = (first + last) // 2
    begin, end = int(spans[middle, 0]), int(spans[last, 0])
    for cut in (text.rfind("\n\n", begin, end), text.rfind("\n", begin, end), text.rfind(" ", begin, end)):
        if cut >= 0:
            return max(middle, int(np.searchsorted(spans[:, 1], cut, side="right")))
    return last


def _spans(text: str, tokens: Tokens) -> NDArray[np.int64]:
    found = []
    start = 0
    while start < len(text):
        end = min(start + _PART, len(text))
        if end < len(text):
            gap = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = gap + 1 if gap > start else end
        found.append(tokens(text[start:end]) + start)
        start = end
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)
