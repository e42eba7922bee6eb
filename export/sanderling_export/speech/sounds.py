"""Sounds to measure a model with: the user's own files, else voices that are made up here.

What is made up has the build of speech (a pitch that moves, formants, breaths, hisses and pauses) and no words: it
shows how far a variant is from the original, and says nothing of words. Nothing is fetched for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.errors import ExportError, SanderlingError
from sanderling.preprocess.audio import decoded

_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}
# Formants (Hz) of vowels: Peterson & Barney, "Control Methods Used in a Study of the Vowels" (1952), means of men.
_VOWELS = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (730, 1090, 2440),
    (570, 840, 2410),
    (300, 870, 2240),
)
_WIDTH = 90.0
_CALIBRATION, _CHECK, _GOLDEN = 16, 12, 3
_LONGEST = 20.0


def gather(rate: int, own: Path | None) -> tuple[list[Audio], list[Audio], list[Audio]]:
    """Sounds to find ranges with, to measure on, and to keep; with `own`, a folder, its files. Raises ExportError."""
    if own is None:
        made = [voice(rate, seed) for seed in range(_CALIBRATION + _CHECK + _GOLDEN)]
        return made[:_CALIBRATION], made[_CALIBRATION:-_GOLDEN], made[-_GOLDEN:]
    found = files(own, rate)
    # The golden ones are among those that are measured: a bundle keeps the shortest.
    golden = sorted(found, key=lambda sound: len(sound.samples))[:_GOLDEN]
    return found[::2][:_CALIBRATION], found[:_CHECK], golden


def files(folder: Path, rate: int) -> list[Audio]:
    """The sound files of a folder at the model's rate, by name. Raises ExportError: no folder, none in it, damaged."""
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; a model that hears is measured on a folder of sound files.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(paths) < 2:
        raise ExportError(
            f"{folder} has {len(paths)} sound files ({', '.join(sorted(_SUFFIXES))}); 2 or more are needed."
        )
    return load(paths, rate)


def load(paths: Sequence[Path], rate: int) -> list[Audio]:
    """Sound files at the model's rate, cut to some seconds. Raises ExportError for one that is none."""
    try:
        return [_whole(decoded(path, rate)[0], rate) for path in paths]
    except SanderlingError as error:
        raise ExportError(f"{paths[0].parent} holds a sound that cannot be used: {error}") from error


def voice(rate: int, seed: int) -> Audio:
    """Some seconds of a made-up voice, the same for the same seed everywhere."""
    random = np.random.default_rng([20261122, seed])
    pieces: list[NDArray[np.float64]] = []
    pitch = random.uniform(85, 220)
    for _ in range(int(random.integers(6, 40))):
        kind = random.choice(["vowel", "vowel", "vowel", "hiss", "pause"])
        length = int(rate * random.uniform(0.05, 0.3))
        if kind == "pause":
            pieces.append(np.zeros(length))
            continue
        sound = _vowel(random, rate, length, pitch) if kind == "vowel" else _hiss(random, length)
        edge = min(length // 4, rate // 100)
        ramp = np.concatenate([np.linspace(0, 1, edge), np.ones(length - 2 * edge), np.linspace(1, 0, edge)])
        pieces.append(sound * ramp)
    joined = np.concatenate(pieces)
    joined += random.normal(0, 10 ** random.uniform(-4.5, -2.5), len(joined))
    loud = random.uniform(0.1, 0.8) / max(1e-9, float(np.abs(joined).max()))
    return _whole((joined * loud).astype(np.float32), rate)


def _vowel(random: np.random.Generator, rate: int, length: int, pitch: float) -> NDArray[np.float64]:
    """Harmonics of a pitch that glides, as loud as the formants of a vowel make them."""
    formants = np.array(_VOWELS[int(random.integers(len(_VOWELS)))]) * random.uniform(0.9, 1.2)
    glide = pitch * np.geomspace(random.uniform(0.85, 1.2), random.uniform(0.85, 1.2), length)
    phase = 2 * np.pi * np.cumsum(glide) / rate
    found = np.zeros(length)
    for harmonic in range(1, int(min(3500, rate / 2.2) // pitch)):
        near = 1 / (1 + ((harmonic * pitch - formants) / _WIDTH) ** 2)
        found += float((near * (1.0, 0.5, 0.25)).sum()) * np.sin(harmonic * phase)
    return found


def _hiss(random: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Noise of which the deep part is taken away, as in s and f."""
    noise = random.normal(0, 1, length + 1)
    return np.asarray(np.diff(noise) * random.uniform(0.1, 0.6))


def _whole(samples: NDArray[np.float32], rate: int) -> Audio:
    """Sound as it is read from the 16-bit file that a bundle keeps, cut to some seconds."""
    cut = samples[: int(_LONGEST * rate)]
    return Audio(np.clip(np.rint(cut * 32768.0), -32768, 32767).astype(np.float32) / np.float32(32768), rate)
