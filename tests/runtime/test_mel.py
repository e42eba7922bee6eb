"""Log-mel spectrograms beside a plain reading of their definition in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sanderling.preprocess.mel import MelFilter, slaney
from sanderling.schema.sounds import LogMel

RATE = 16_000
SMALL = LogMel(fft=64, hop=16, bands=8, frames=20)


def by_definition(sound: NDArray[Any], made: LogMel) -> NDArray[np.float64]:
    """Each frame by itself, by the sum that a Fourier transform is."""
    whole = np.zeros(made.frames * made.hop)
    whole[: len(sound)] = sound[: len(whole)]
    padded = np.pad(whole, made.fft // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(made.fft) / made.fft)
    bins = np.arange(made.fft // 2 + 1)
    turning = np.exp(-2j * np.pi * bins[:, None] * np.arange(made.fft) / made.fft)
    filters = slaney(made.bands, made.fft // 2 + 1, RATE)
    frames = [padded[place * made.hop : place * made.hop + made.fft] * window for place in range(made.frames)]
    power = np.stack([np.abs(turning @ frame) ** 2 @ filters for frame in frames], axis=1)
    levels = np.log10(np.maximum(power, 1e-10))
    return np.asarray((np.maximum(levels, levels.max() - 8) + 4) / 4)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 400), loud=st.floats(1e-4, 1.0), seed=st.integers(0, 1000))
def test_a_spectrogram_is_that_of_its_definition(length: int, loud: float, seed: int) -> None:
    sound = np.random.default_rng(seed).normal(0, loud, length).astype(np.float32)
    found = MelFilter(SMALL, RATE)(sound)
    assert found.dtype == np.float32
    assert found.shape == (SMALL.bands, SMALL.frames)
    np.testing.assert_allclose(found, by_definition(sound, SMALL), atol=5e-5)


def test_silence_is_even() -> None:
    found = MelFilter(SMALL, RATE)(np.zeros(100, np.float32))
    assert np.unique(found).tolist() == [-1.5]


def test_what_is_longer_than_a_window_is_left_out() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    mel = MelFilter(SMALL, RATE)
    np.testing.assert_array_equal(mel(sound), mel(sound[: mel.samples]))


@pytest.mark.parametrize("bands", [8, 80, 128])
def test_filters_are_triangles_side_by_side(bands: int) -> None:
    found = slaney(bands, 201, RATE)
    assert found.shape == (201, bands)
    assert (found >= 0).all()
    tops = found.argmax(axis=0)
    assert (np.diff(tops) >= 0).all()
    assert ((found > 0).sum(axis=1) <= 2).all()
