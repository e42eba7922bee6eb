"""Sounds to a graph's waveforms or bands: none is padded, so that no answer depends on a batch mate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.counts import counted
from sanderling.errors import AudioError
from sanderling.hearing.audio_front import Sounds
from sanderling.preprocess.audio import decoded
from sanderling.preprocess.filterbank import BandFilter
from sanderling.results import AudioReport, InputReport
from sanderling.schema.sounds import AudioPreprocessing, Filterbank, Waveform
from sanderling.session import Arrays

# The input of a graph that hears sound as it is, or its bands.
VALUES = "input_values"
# As Wav2Vec2FeatureExtractor of transformers, so that silence stays silence.
_LEAST_VARIANCE = 1e-7


class SoundFront(Sounds):
    """Sounds, in input order; waveforms each in a run of its own, bands as many a run as the budget says."""

    def __init__(self, settings: AudioPreprocessing, budget: int) -> None:
        super().__init__(settings, budget)
        features = settings.features
        self._bands = BandFilter(features, settings.rate) if isinstance(features, Filterbank) else None
        self._wave = features if isinstance(features, Waveform) else None

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        """One sound a run, of sounds of any length; as many as the budget says, where all are made one length."""
        if self._bands is not None:
            return super().batches(prepared)
        return ([place] for place in range(len(prepared)))

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        """Waveforms (1, samples) or bands (n, frames, bands), and what became of each sound."""
        read = [self.heard(sound) for sound in batch]
        return {VALUES: np.stack([self.values(sound) for sound, _ in read])}, [report for _, report in read]

    def heard(self, sound: Any) -> tuple[NDArray[np.float32], AudioReport]:
        """What the model hears of a sound, one channel at its rate, and what became of it.

        Raises AudioError: no sound, or one that is too short for a single frame.
        """
        samples, report = self.whole(sound)
        if self.most is not None and len(samples) > self.most:
            report = replace(report, unheard=round((len(samples) - self.most) / self.rate, 6))
            samples = samples[: self.most]
        return samples, report

    def whole(self, sound: Any) -> tuple[NDArray[np.float32], AudioReport]:
        """As `heard`, but all of it, for models that hear a long sound in windows."""
        samples, report = decoded(sound, self.rate)
        if len(samples) < self.least:
            raise AudioError(
                f"The audio has {counted(len(samples), 'sample')} at {self.rate:,} Hz; the model needs at least "
                f"{self.least:,} ({self.least / self.rate:.3g} s). Leave it out, or add silence."
            )
        return samples, report

    def filled(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        """A part of a sound, with silence behind it where the model needs more samples than it has."""
        return part if len(part) >= self.least else np.pad(part, (0, self.least - len(part)))

    @property
    def least(self) -> int:
        """The fewest samples that a sound may have."""
        if self._bands is not None:
            return self._bands.settings.window
        assert self._wave is not None  # features are the one or the other
        return self._wave.least

    @property
    def most(self) -> int | None:
        """The most samples that are heard of a sound; None where all are."""
        if self._bands is not None:
            # Less than a whole step more makes no frame more: nothing of it is missed.
            return self._bands.samples + self._bands.settings.hop - 1
        assert self._wave is not None  # as above
        return self._wave.most

    def values(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples at the model's rate to what its graph is given of them."""
        return self._bands(sound) if self._bands is not None else self.scaled(sound, *self.scale(sound))

    def scale(self, sound: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
        """What is subtracted from each sample, and what it is then divided by."""
        if self._wave is None or not self._wave.normalize:
            return np.float32(0), np.float32(1)
        return np.float32(sound.mean()), np.float32(np.sqrt(sound.var() + _LEAST_VARIANCE))

    @staticmethod
    def scaled(part: NDArray[np.float32], mean: np.float32, divisor: np.float32) -> NDArray[np.float32]:
        """A sound, or a part of it, by the `scale` of the whole."""
        return np.asarray((part - mean) / divisor, np.float32)
