"""What a model that hears answers while the sound still comes: words that stay, words that may change, and how late."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

# Delays are counted in steps of so many seconds, up to so many of them.
_STEP, _STEPS = 0.02, 3000

Stretches = tuple[tuple[float, float], ...]


class LiveWord(Struct, frozen=True):
    """A word with the punctuation at it, said from `start` to `end` (seconds of the whole stream).

    `probability` is the mean of its tokens'. `delay` are the seconds by the clock from when the sound of its end was
    handed over to when it was first shown, final or not.
    """

    start: float
    end: float
    text: str
    probability: float
    delay: float = 0.0


class LiveUpdate(Struct, frozen=True):
    """What is known of a stream after `until` seconds of it.

    `final` are words that became certain with this update and stay as they are; `partial` are those behind them, which
    may still change, and replace the ones of the update before. `text` is what the final words add, with the blank
    before it: the texts of all updates, one after the other, are the transcript. `ended` says that somebody stopped
    speaking, so that nothing is partial.

    Stretches (start and end in seconds) since the update before: `silent`, in which nobody spoke, so that they were not
    listened to; `unfinished`, whose transcript ended because it had as many tokens as were allowed; `dropped`, which
    came faster than they were heard and were lost.
    """

    final: tuple[LiveWord, ...]
    partial: tuple[LiveWord, ...]
    text: str
    partial_text: str
    until: float
    ended: bool = False
    language: str | None = None
    silent: Stretches = ()
    unfinished: Stretches = ()
    dropped: Stretches = ()


class LiveReport(Struct, frozen=True):
    """What became of a stream so far, in counts, however long it is.

    `rate`, `channels` and `encoding` are of the chunks (0 and "" before the first); several channels were mixed down to
    their mean, and another rate was `resampled` to the model's. `seconds` were taken in, of them `silent` ones were not
    listened to, `unfinished` ones have a transcript that ended too early, and `dropped` ones were lost. `clipped`
    counts samples at an end of their range, `missing` frames of which only a part came at the end. `cuts` counts
    windows that had to end where nobody paused. `delay_p50` and `delay_p90` are those of the final words (seconds; None
    without one).
    """

    rate: int = 0
    channels: int = 0
    encoding: str = ""
    resampled: int | None = None
    seconds: float = 0.0
    clipped: int = 0
    missing: int = 0
    words: int = 0
    updates: int = 0
    silent: float = 0.0
    unfinished: float = 0.0
    dropped: float = 0.0
    cuts: int = 0
    delay_p50: float | None = None
    delay_p90: float | None = None

    @property
    def complete(self) -> bool:
        """Whether all of the sound was heard, and each part of its transcript ended by itself."""
        return not (self.missing or self.unfinished or self.dropped)


class Delays:
    """Delays as counts, so that they take as much memory after hours as after a second."""

    def __init__(self) -> None:
        self._counts = [0] * (_STEPS + 1)

    def add(self, words: Iterable[LiveWord]) -> None:
        """Count the delays of words."""
        for word in words:
            self._counts[min(_STEPS, max(0, int(word.delay / _STEP)))] += 1

    def quantile(self, share: float) -> float | None:
        """The delay that `share` of the words do not exceed, up to a step of 20 ms; at most a minute is told."""
        total, seen = sum(self._counts), 0
        if not total:
            return None
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= share * total:
                return round((place + 1) * _STEP, 3)
        raise AssertionError("the counts are fewer than their sum")


class Shown:
    """The words of the update before, so that a word's delay is that of the first time it was shown."""

    def __init__(self) -> None:
        self._before: tuple[LiveWord, ...] = ()

    def known(self, place: int, word: LiveWord) -> float | None:
        """The delay of the word at this place behind the last final one, if it was shown there before."""
        if place < len(self._before) and bare(self._before[place].text) == bare(word.text):
            return self._before[place].delay
        return None

    def keep(self, partial: tuple[LiveWord, ...]) -> None:
        """Remember the words that are not final yet."""
        self._before = partial


def bare(text: str) -> str:
    """A word without its marks and its case; of marks alone, the marks."""
    return "".join(one for one in text if one.isalnum()).casefold() or text.strip()
