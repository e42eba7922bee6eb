"""Sound to a log-mel spectrogram, in numpy: what Whisper's feature extractor of transformers makes of it.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section 2.2; the filters are those
of Slaney's Auditory Toolbox (1998): triangles of equal area, even on a scale that is linear up to 1,000 Hz.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sanderling.schema.sounds import LogMel

# Frames that are transformed in one go: their spectra stay in the processor's cache.
_BLOCK = 128
# OpenBLAS wakes other threads for products of more multiplications than this, and they spin on when it is done, which
# takes time from the graph that runs next.
_ALONE = 2**18
_LEAST = np.float32(1e-10)
# Decades below the loudest point that are kept.
_RANGE = np.float32(8.0)


class MelFilter:
    """Log-mel spectrograms as the manifest's `preprocessing.audio` says. Safe to use from many threads."""

    def __init__(self, settings: LogMel, rate: int) -> None:
        self.settings = settings
        self._window = np.asarray(
            0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.fft) / settings.fft), np.float32
        )  # of Hann, periodic
        self._filters = slaney(settings.bands, settings.fft // 2 + 1, rate).astype(np.float32)
        self._rows = max(1, min(_BLOCK, _ALONE // self._filters.size))

    @property
    def samples(self) -> int:
        """Samples that one spectrogram is made of; of shorter sound the rest is silence."""
        return self.settings.frames * self.settings.hop

    def __call__(self, sound: NDArray[np.float32], frames: int | None = None) -> NDArray[np.float32]:
        """At most `samples` of sound to a spectrogram (bands, frames), float32; or to its first `frames`."""
        settings = self.settings
        half = settings.fft // 2
        length = min(len(sound), self.samples)
        frames = settings.frames if frames is None else frames
        # Frames that reach beyond the sound see silence alone, whose value is known.
        sounding = min(settings.frames, -(-(length + half) // settings.hop))
        padded = np.zeros(max(sounding * settings.hop + settings.fft, length + 2 * half), np.float32)
        padded[half : half + length] = sound[:length]
        padded[:half] = _mirrored(padded, half)
        if length + half > self.samples:  # the end is mirrored as the beginning is; silence is its own mirror image
            end = half + self.samples
            padded[end : end + half] = padded[end - 2 : end - 2 - half : -1][: len(padded) - end]
        windows = np.lib.stride_tricks.sliding_window_view(padded, settings.fft)[:: settings.hop][:sounding]
        power = np.full((max(frames, sounding), settings.bands), _LEAST, np.float32)
        for first in range(0, sounding, self._rows):
            spectrum = np.fft.rfft(windows[first : first + self._rows] * self._window)
            energy = np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)
            np.matmul(energy, self._filters, out=power[first : first + len(energy)])
        levels = np.log10(np.maximum(power, _LEAST))
        np.maximum(levels, levels.max() - _RANGE, out=levels)
        levels += 4
        levels /= 4
        return np.ascontiguousarray(levels[:frames].T)


def _mirrored(padded: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """What stands before the first sample: the sound read backwards, the first sample itself left out."""
    return padded[2 * half : half : -1]


def slaney(bands: int, bins: int, rate: int) -> NDArray[np.float64]:
    """Triangular filters (bins, bands) from 0 Hz to half the rate, each of the same area."""
    top = _mel(rate / 2)
    edges = np.array([_hertz(top * place / (bands + 1)) for place in range(bands + 2)])
    found = np.linspace(0, rate / 2, bins)
    slopes = edges[None, :] - found[:, None]
    widths = np.diff(edges)
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2])), np.float64)


# Slaney's scale: 3 mel for 200 Hz up to 1,000 Hz, and from there 27 mel for each factor of 6.4.
_LINEAR, _FROM = 3 / 200, 1000.0
_STEP = math.log(6.4) / 27


def _mel(hertz: float) -> float:
    return hertz * _LINEAR if hertz < _FROM else _FROM * _LINEAR + math.log(hertz / _FROM) / _STEP


def _hertz(mel: float) -> float:
    start = _FROM * _LINEAR
    return mel / _LINEAR if mel < start else _FROM * math.exp(_STEP * (mel - start))
