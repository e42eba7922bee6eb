"""Which tokens may follow in the transcript of a speech: what is suppressed, and how times come in pairs.

The rules are those of Whisper (Radford et al., 2022) as transformers applies them. No graph is known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling.decode.scores import Scores, log_softmax
from sanderling.schema.generation import SpeechTokens

_NEVER = np.float32(-np.inf)
# Seconds from one token of time to the next: what a step of the encoder stands for.
TIME_STEP = 0.02


class SpeechRules:
    """Scores of the next token to those of the tokens that may follow; `timed` says whether times are wanted.

    A transcript that was `begun` before goes on: what may not stand first may follow.
    """

    def __init__(self, tokens: SpeechTokens, end: int, vocabulary: int, *, timed: bool, begun: bool = False) -> None:
        self._tokens = tokens
        self._end = end
        self._timed = timed
        self._suppressed = _mask(tokens.suppressed, vocabulary)
        self._first = _mask(() if begun else tokens.suppressed_first, vocabulary)

    def __call__(self, scores: Scores, sequences: Sequence[Sequence[int]]) -> Scores:
        """Scores (rows, vocabulary) behind the new tokens of each row."""
        changed = np.where(self._suppressed, _NEVER, scores)
        for row, sequence in zip(changed, sequences, strict=True):
            if not sequence:
                row[self._first] = _NEVER
        if self._timed:
            for row, sequence in zip(changed, sequences, strict=True):
                self._time(row, sequence)
        return np.asarray(changed, np.float32)

    def _time(self, row: NDArray[np.float32], sequence: Sequence[int]) -> None:
        tokens = self._tokens
        begin = tokens.timestamps
        row[tokens.no_timestamps] = _NEVER
        latest = bool(sequence) and sequence[-1] >= begin
        before = len(sequence) < 2 or sequence[-2] >= begin
        if latest and before:  # a pair is whole: words follow
            row[begin:] = _NEVER
        elif latest:  # a pair is begun, or the end follows
            row[: self._end] = _NEVER
        times = [token for token in sequence if token >= begin]
        if times:
            # No time goes back; the end of a segment may be the beginning of the next, but no segment lasts no time.
            row[begin : times[-1] if latest and not before else times[-1] + 1] = _NEVER
        if not sequence:
            row[:begin] = _NEVER
            if tokens.first_timestamp is not None:
                row[begin + tokens.first_timestamp + 1 :] = _NEVER
        # Where times together are more probable than any word, a time follows.
        chances = log_softmax(row[None])[0]
        highest = float(chances[:begin].max(initial=-np.inf))
        if _log_sum(chances[begin:]) > highest:
            row[:begin] = _NEVER


def _mask(places: Sequence[int], size: int) -> NDArray[np.bool_]:
    found = np.zeros(size, bool)
    found[list(places)] = True
    return found


def _log_sum(values: NDArray[np.float32]) -> float:
    top = float(values.max(initial=-np.inf))
    return top if not np.isfinite(top) else top + float(np.log(np.exp(values - np.float32(top)).sum()))
