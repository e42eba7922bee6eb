"""When each word was said: a path through the attention that follows the words. Arrays in, arrays out.

Dynamic time warping of the cross-attention of Whisper's alignment heads, normalized over the tokens and smoothed by a
median over the frames: OpenAI's Whisper (2022), as it describes word-level timestamps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

# Frames that the median is of: an odd number.
_SMOOTHED = 7
# Languages that are written without blanks between words.
WITHOUT_BLANKS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
# Marks that belong to the word after them, and to the one before them.
_BEFORE, _AFTER = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
_UNKNOWN = "\ufffd"


class WordTokens(Struct, frozen=True):
    """A word and the tokens that it is made of, from `first` to the one before `last`."""

    text: str
    first: int
    last: int


def token_frames(weights: NDArray[np.float32], frames: int, tokens: slice) -> NDArray[np.int64]:
    """The frame at which each of `tokens` begins, of attention (heads, all tokens, all frames).

    `frames` of the latter are sound, the rest is silence that was added.
    """
    kept = weights[:, :, : max(1, frames)].astype(np.float64)
    spread = kept.std(axis=1, keepdims=True)
    kept = (kept - kept.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    rows, columns = path(-smoothed(kept).mean(axis=0)[tokens])
    first = np.concatenate([[True], np.diff(rows) > 0])
    return np.asarray(columns[first], np.int64)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each value and its neighbours along the last axis, mirrored at the edges."""
    half = _SMOOTHED // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED, axis=-1)
    return np.asarray(np.median(windows, axis=-1))


def path(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest way from the first to the last place of `costs` (rows, columns), each step to the next row, the next
    column, or both: the rows and the columns of its places, in order."""
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    # One diagonal after the other: its places depend on the two before it alone.
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        before = np.minimum(total[row - 1, column - 1], np.minimum(total[row - 1, column], total[row, column - 1]))
        total[row, column] = costs[row - 1, column - 1] + before
    row, column = rows, columns
    places = []
    while row > 0 and column > 0:
        places.append((row - 1, column - 1))
        steps = (total[row - 1, column - 1], total[row - 1, column], total[row, column - 1])
        best = int(np.argmin(steps))
        row, column = row - (best != 2), column - (best != 1)
    found = np.array(places[::-1], np.int64)
    return found[:, 0], found[:, 1]


def words(tokens: Sequence[int], text_of: Callable[[Sequence[int]], str], blanks: bool) -> list[WordTokens]:
    """The words that tokens make: each begins with a blank, or where there are none (`blanks`), with each character
    that is whole; marks stand at their words."""
    pieces: list[WordTokens] = []
    first = 0
    for place in range(len(tokens)):
        text = text_of(tokens[first : place + 1])
        if _UNKNOWN not in text or place == len(tokens) - 1:  # no character is cut in two
            pieces.append(WordTokens(text, first, place + 1))
            first = place + 1
    joined: list[WordTokens] = []
    for piece in pieces:
        mark = piece.text.strip() and all(one in _BEFORE + _AFTER for one in piece.text.strip())
        if joined and blanks and not piece.text.startswith(" ") and not mark:
            joined[-1] = _together(joined[-1], piece)
        else:
            joined.append(piece)
    return _with_marks(joined)


def _with_marks(found: list[WordTokens]) -> list[WordTokens]:
    """Marks at the words that they belong to."""
    ahead: list[WordTokens] = []
    for word in reversed(found):  # what belongs to the word after it
        bare = word.text.strip()
        if ahead and word.text.startswith(" ") and bare and all(one in _BEFORE for one in bare):
            ahead[-1] = _together(word, ahead[-1])
        else:
            ahead.append(word)
    marked: list[WordTokens] = []
    for word in reversed(ahead):  # what belongs to the word before it
        bare = word.text.strip()
        if marked and not word.text.startswith(" ") and bare and all(one in _AFTER for one in bare):
            marked[-1] = _together(marked[-1], word)
        else:
            marked.append(word)
    return marked


def _together(left: WordTokens, right: WordTokens) -> WordTokens:
    return WordTokens(left.text + right.text, left.first, right.last)
