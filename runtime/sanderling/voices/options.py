"""What a call may say of how a text is said, and what of it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.errors import InputError
from sanderling.schema.voices import VoiceSettings

_RANGES = {"speed": (0.1, 10.0), "noise": (0.0, 2.0), "duration_noise": (0.0, 2.0)}
_MOST_PAUSE = 60.0
_MOST_SEED = 2**32 - 1


class VoiceOptions(TypedDict, total=False):
    """What a call may say of how it is said; the rest is as the bundle's `settings`.

    `speed` above 1 is faster; `noise` and `duration_noise` are what drawn noise is multiplied with, 0 for none;
    `speaker` is one of a voice of several, `speaker_vector` (size,) another one to a voice that takes vectors;
    `pause` the seconds of silence between sentences (default 0).
    """

    speed: float
    noise: float
    duration_noise: float
    speaker: str
    speaker_vector: NDArray[np.float32]
    pause: float


def settings_of(options: Mapping[str, object], own: VoiceSettings) -> VoiceSettings:
    """A voice's `own` settings, changed as `options` say.

    Raises TypeError for an option that there is not, InputError for a setting out of range.
    """
    unknown = set(options) - set(VoiceOptions.__annotations__)
    if unknown:
        raise TypeError(
            f"unexpected argument {sorted(unknown)[0]!r}; known are {', '.join(VoiceOptions.__annotations__)}"
        )
    return replace(
        own,
        **{name: _number(name, options[name], *ends) for name, ends in _RANGES.items() if name in options},
    )


def pause_of(options: Mapping[str, object]) -> float:
    """Seconds of silence between sentences. Raises InputError."""
    return _number("pause", options.get("pause", 0.0), 0.0, _MOST_PAUSE)


def seed_of(seed: object) -> int:
    """What draws the noise. Raises InputError."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= _MOST_SEED:
        raise InputError(f"seed is {seed!r}; a whole number from 0 to {_MOST_SEED} was expected.")
    return int(seed)


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= float(value) <= most:
        raise InputError(f"{name} is {value!r}; a number from {least:g} to {most:g} was expected.")
    return float(value)
