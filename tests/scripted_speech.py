"""A model that hears words which are nothing but their numbers, so that what was heard of a stream can be counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling.hearing.agreement import SaidWord
from sanderling.hearing.live_windows import Borders, Hypothesis
from sanderling.hearing.live_words import LiveUpdate
from sanderling.schema.sounds import VoiceActivity

RATE = 1000
# A word is 100 samples of one value, which is its number; 0 is silence.
WORD, MOST, STEP = 100, 3000, 50
GATE = VoiceActivity(frame=10, context=1, size=1, min_silence=0.3, min_speech=0.05, pad=0.05)
BORDERS = Borders(rate=RATE, most=MOST, every=400, step=STEP, tokens=12)


def sound_of(numbers: Sequence[int]) -> NDArray[np.float32]:
    """One word after the other, 0 for a pause as long as a word."""
    return np.repeat(np.array(numbers, np.float32) / 1000, WORD)


class Scripted:
    """Hears the words whose middle is in a window; of one that is cut off at the end, something else each time.

    With `changing`, what is less than so many samples old is heard otherwise each time.
    """

    def __init__(self, changing: int = 0) -> None:
        self.language: str | None = "en"
        self.calls = 0
        self.longest = 0
        self._changing = changing

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        self.calls += 1
        self.longest = max(self.longest, len(sound))
        found: list[SaidWord] = []
        edges = np.flatnonzero(np.diff(sound)) + 1
        for first, end in zip([0, *edges], [*edges, len(sound)], strict=True):
            number = round(float(sound[first]) * 1000)
            if number == 0 or number in said or end - first < WORD // 2:
                continue
            unsure = not last and (end == len(sound) or len(sound) - end < self._changing)
            text = f" {number}{'x' * (self.calls % 7 + 1) if unsure else ''}"
            found.append(SaidWord(text, (number,), int(first), int(end)))
        return Hypothesis(tuple(found))


class Voiced:
    """Speech is where there is any sound."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = np.concatenate([self._rest, samples])
        count = len(whole) // GATE.frame
        self._rest = whole[count * GATE.frame :]
        return np.abs(whole[: count * GATE.frame].reshape(count, GATE.frame)).max(axis=1, initial=0) * 1000

    def end(self) -> NDArray[np.float32]:
        return self.push(np.zeros(GATE.frame - len(self._rest), np.float32)) if len(self._rest) else self._rest


def final(updates: Sequence[LiveUpdate]) -> list[int]:
    """The numbers of all final words."""
    return [int(word.text) for update in updates for word in update.final]


def numbered(pattern: Sequence[int]) -> list[int]:
    """Each word has a number of its own; every fourth place or so is a pause."""
    return [place + 1 if kind else 0 for place, kind in enumerate(pattern)]
