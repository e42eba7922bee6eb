"""A long sound in windows that a model takes at once, cut where it is quiet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

# Loudness is looked at in steps of so many seconds, and a cut is where this many seconds around it are the quietest.
_STEP, _AROUND = 0.02, 0.2
# A window is cut no earlier than at this share of its length.
_EARLIEST = 0.6


class Window(Struct, frozen=True):
    """A stretch of a sound, from its sample `first` to the one before `last`."""

    first: int
    last: int


def quiet_cuts(sound: NDArray[np.float32], rate: int, most: int) -> list[Window]:
    """The whole of a sound in windows of at most `most` samples, each cut at the quietest place of its last part."""
    found: list[Window] = []
    first = 0
    while len(sound) - first > most:
        cut = first + quietest(sound[first : first + most], rate)
        found.append(Window(first, cut))
        first = cut
    return [*found, Window(first, len(sound))]


def unfinished(tokens: Sequence[int], begin: int) -> int | None:
    """Where in a transcript the second of its last two neighbouring times is, from which the sound is to be heard
    again; `begin` is the first token of time. None of a transcript that is whole: one without such times, or with a
    single time at its end. As Whisper's own loop seeks (Radford et al., 2022, section 3.8)."""
    timed = [token >= begin for token in tokens]
    if timed[-2:] == [False, True]:
        return None
    return next((place for place in range(len(tokens) - 1, 0, -1) if timed[place - 1] and timed[place]), None)


def quietest(sound: NDArray[np.float32], rate: int) -> int:
    """The sample in the last part of a stretch around which it is the quietest; of equal ones the last."""
    step = max(1, int(rate * _STEP))
    begin = int(len(sound) * _EARLIEST)
    part = sound[begin:]
    steps = len(part) // step
    if steps < 2:
        return len(sound)
    energy = np.square(part[: steps * step].reshape(steps, step), dtype=np.float64).mean(axis=1)
    width = min(steps, max(1, round(_AROUND / _STEP)))
    around = np.convolve(energy, np.ones(width), mode="valid")
    place = len(around) - 1 - int(around[::-1].argmin())
    return begin + int((place + width / 2) * step)
