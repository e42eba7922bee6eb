"""How alike two waveforms sound: the distance of their log-mel spectrograms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = 80
_WINDOW, _STEP = 1024, 256
# Below this magnitude a band is silent.
_FLOOR = 1e-5
# Decibels below the loudest band of a whole sentence from which on nothing is heard beside it.
_DEPTH = 60.0


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

    It is the log spectral distance of the first order of Gray and Markel ("Distance measures for speech processing",
    IEEE Transactions on Acoustics, Speech, and Signal Processing 24, 1976), over bands of the mel scale in place of
    frequencies. Phases, which the ear hardly hears and a cosine of samples is made of, do not count. What lies more
    than 60 decibels below the reference's loudest band counts as lying there, and where both do nothing counts, so
    that what is silent in both does not hide what is not. A hiss in a pause counts in full. The smallest change of
    level that is heard is about one decibel (Zwicker and Fastl, "Psychoacoustics").
    """
    if len(audio) != len(reference):
        return float("inf")
    found, wanted = spectrogram(audio, sample_rate), spectrogram(reference, sample_rate)
    silent = wanted.max(initial=-np.inf) - _DEPTH
    heard = np.maximum(found, wanted) > silent
    apart = np.abs(np.maximum(found, silent) - np.maximum(wanted, silent))
    return float(apart[heard].mean()) if heard.any() else 0.0


def _filters(sample_rate: int) -> NDArray[np.float64]:
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / sample_rate)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters
