"""How alike two waveforms sound: the distance of their log-mel spectrograms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = 80
_WINDOW, _STEP = 1024, 256
# Below this magnitude a band is silent.
_FLOOR = 1e-5


def spectrogram(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Log-mel magnitudes of `audio` (samples,): (bands, frames), in decibels, of a magnitude of 1e-5 at least.

    Hann windows of 1,024 samples every 256, triangular bands from 0 to half the rate, evenly spread on the mel scale of
    O'Shaughnessy, 2595 log10(1 + f / 700).
    """
    padded = np.pad(audio.astype(np.float64), _WINDOW // 2)
    count = 1 + (len(padded) - _WINDOW) // _STEP
    places = np.arange(_WINDOW)[None, :] + _STEP * np.arange(count)[:, None]
    window = np.hanning(_WINDOW + 1)[:-1]
    magnitudes = np.abs(np.fft.rfft(padded[places] * window, axis=1))
    bands = magnitudes @ _filters(sample_rate).T
    decibels: NDArray[np.float64] = 20 * np.log10(np.maximum(bands, _FLOOR)).T
    return decibels


def distance(audio: NDArray[np.float32], reference: NDArray[np.float32], sample_rate: int) -> float:
    """The mean absolute difference of two waveforms' log-mel spectrograms, in decibels; infinite for other lengths.

    Only what the ear can be asked about counts: bands at most 60 decibels below the reference's loudest.
    """
    if len(audio) != len(reference):
        return float("inf")
    found, wanted = spectrogram(audio, sample_rate), spectrogram(reference, sample_rate)
    heard = wanted > wanted.max(initial=-np.inf) - 60
    return float(np.abs(np.maximum(found, wanted.max() - 60) - wanted)[heard].mean()) if heard.any() else 0.0


def _filters(sample_rate: int) -> NDArray[np.float64]:
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / sample_rate)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters
