"""Sound to the logarithms of its bands, in numpy: what the Audio Spectrogram Transformer's feature extractor makes.

The filters and the treatment of frames are those of Kaldi (Povey et al., "The Kaldi Speech Recognition Toolkit", 2011):
triangles that are even and linear on the scale 1127 ln(1 + f / 700).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.schema.sounds import Filterbank

# Below this the logarithm is cut: the smallest step of float32 at 1, as in Kaldi.
_LEAST = 2.0**-23
# Frames that are transformed in one go: their spectra stay in the processor's cache.
_BLOCK = 64


class BandFilter:
    """Bands as the manifest's `preprocessing.audio` says. Safe to use from many threads."""

    def __init__(self, settings: Filterbank, rate: int) -> None:
        self.settings = settings
        self._window = np.hanning(settings.window)
        self._filters = kaldi(settings, rate)

    @property
    def samples(self) -> int:
        """Samples that all frames are made of; of longer sound the rest is not heard."""
        return (self.settings.frames - 1) * self.settings.hop + self.settings.window

    def __call__(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """At least `window` samples to bands (frames, bands), float32."""
        settings = self.settings
        heard = sound[: self.samples].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(heard, settings.window)[:: settings.hop]
        levels = np.zeros((settings.frames, settings.bands), np.float32)
        for first in range(0, len(windows), _BLOCK):
            levels[first : first + _BLOCK][: len(windows) - first] = self._levels(windows[first : first + _BLOCK])
        levels -= np.float32(settings.mean)
        levels /= np.float32(settings.divisor)
        return levels

    def _levels(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        settings = self.settings
        centred = frames - frames.mean(axis=1, keepdims=True)
        sharpened = centred.copy()
        sharpened[:, 1:] -= settings.preemphasis * centred[:, :-1]
        sharpened[:, 0] *= 1 - settings.preemphasis
        spectrum = np.fft.rfft(sharpened * self._window, settings.fft)
        power = spectrum.real**2 + spectrum.imag**2
        return np.asarray(np.log(np.maximum(power @ self._filters, _LEAST)), np.float64)


def kaldi(settings: Filterbank, rate: int) -> NDArray[np.float64]:
    """Triangular filters (bins, bands), of which the first begins at `lowest` Hz and the last ends at half the rate."""
    edges = np.linspace(_mel(settings.lowest), _mel(rate // 2), settings.bands + 2)
    bins = _mel(np.arange(settings.fft // 2 + 1) * (rate / settings.fft))
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float64)


def _mel(hertz: float | NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz, np.float64) / 700.0), np.float64)
