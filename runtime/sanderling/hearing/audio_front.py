"""Sounds to a graph's spectrograms: each is read only when its run is due, so that memory does not grow with a list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.errors import AudioError, InputError
from sanderling.preprocess.audio import decoded
from sanderling.preprocess.mel import MelFilter
from sanderling.results import InputReport
from sanderling.schema.basics import Window
from sanderling.schema.sounds import AudioPreprocessing
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

# The input of a graph that listens.
FEATURES = "input_features"
# Lengths of short windows are multiples of so many frames: providers compile, and plan memory, for new shapes.
_STEP = 64
_ONE = (str, bytes, bytearray, memoryview, os.PathLike, Audio, np.ndarray)


class Sounds:
    """What fronts of sounds have in common: sounds as they are handed over, which are read later."""

    modality = "audio"

    def __init__(self, settings: AudioPreprocessing, budget: int) -> None:
        self.settings = settings
        self.rate = settings.rate
        self._budget = budget

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """The sounds as a list, and whether it was a single one."""
        if isinstance(inputs, _ONE):
            return [inputs], True
        if isinstance(inputs, Mapping | Set) or not isinstance(inputs, Iterable):
            raise AudioError(
                f"The input is of type {type(inputs).__name__}; a file, bytes, Audio, or a list of these was expected."
            )
        return list(inputs), False

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Any]:
        """The sounds as they are; they are read later."""
        del cancellation  # nothing here takes time
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with texts; this model takes sounds.")
        return items

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        """As many sounds a run as the budget says."""
        count, step = len(prepared), self._budget
        return (list(range(i, min(i + step, count))) for i in range(0, count, step))


class AudioFront(Sounds):
    """Sounds to spectrograms, in input order."""

    def __init__(self, settings: AudioPreprocessing, budget: int, window: Window = "full") -> None:
        super().__init__(settings, budget)
        self.mel = MelFilter(settings.mel, settings.rate)
        self._short = settings.short if window == "short" else None

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        """The spectrograms (n, bands, frames) of the beginning of each sound, and what became of each."""
        read = [decoded(sound, self.rate) for sound in batch]
        return self.features([sound for sound, _ in read]), [report for _, report in read]

    def features(self, sounds: Sequence[NDArray[np.float32]]) -> Arrays:
        """The spectrograms (n, bands, frames) of sounds at the model's rate, none longer than it takes at once."""
        frames = self.frames(max(map(len, sounds), default=0))
        return {FEATURES: np.stack([self.mel(sound, frames) for sound in sounds])}

    def frames(self, samples: int) -> int:
        """Frames of the spectrograms of sounds, the longest of so many samples: the full window's, or of a short one
        as many as they and a second of silence take, in steps of 64, but no fewer than the bundle says."""
        most = self.settings.mel.frames
        if self._short is None:
            return most
        wanted = -(-(samples + self.rate) // self.settings.mel.hop)
        return min(most, max(self._short, -(-wanted // _STEP) * _STEP))
