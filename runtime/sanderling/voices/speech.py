"""What voices answer: sound, the symbols that it says, and what of the text it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.audio_wave import write_wave
from sanderling.results import Batch, SpeechReport, Timing


class Phonemes(Struct, frozen=True):
    """Sounds to be said as they are, a sentence each, in place of a text: each a tuple of symbols of the voice."""

    sentences: tuple[tuple[str, ...], ...]


class Speech(Struct, frozen=True, eq=False):
    """A text said. `audio` has the shape (samples,), float32 from -1 to 1, `sample_rate` of them a second.

    `phonemes` are the symbols of each sentence; `starts` the first sample of each. A text in which nothing is to be
    said has no samples.
    """

    audio: NDArray[np.float32]
    sample_rate: int
    phonemes: tuple[tuple[str, ...], ...]
    starts: tuple[int, ...]
    report: SpeechReport
    variant: str
    timing: Timing

    @property
    def seconds(self) -> float:
        """How long it takes to hear it."""
        return len(self.audio) / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds it took to make, for each second of it; 0 for silence."""
        return self.timing.total / self.seconds if len(self.audio) else 0.0

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as a WAV file (16-bit PCM, one channel), whole or not at all. Raises StorageError."""
        target = Path(path)
        write_wave(target, self.audio, self.sample_rate)
        return target

    def __repr__(self) -> str:
        return f"Speech({self.seconds:.2f} s at {self.sample_rate} Hz, {self.report})"


class Speeches(Batch[Speech], frozen=True, eq=False):
    """Texts said, in input order. Its length, its items (Speech) and its slices are those of a sequence."""

    timing: Timing

    def __repr__(self) -> str:
        return f"Speeches({len(self.items)}: {sum(item.seconds for item in self.items):.2f} s)"


class SpeechStream:
    """Sentences as they are said: an iterator of Speech. `close` ends it early."""

    def __init__(self, sentences: Iterator[Speech], report: Callable[[], SpeechReport]) -> None:
        self._sentences = sentences
        self._report = report

    def __iter__(self) -> Iterator[Speech]:
        return self

    def __next__(self) -> Speech:
        return next(self._sentences)

    @property
    def report(self) -> SpeechReport:
        """What became of the text, as far as it was read."""
        return self._report()

    def close(self) -> None:
        """Say no more."""
        close = getattr(self._sentences, "close", None)
        if close is not None:
            close()
