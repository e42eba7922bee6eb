"""The grammar of clips: one thing that moves or stays, as frames, and as one picture of four moments."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sanderling.preprocess.video import side_by_side
from world.drawing import SIDE, finished, ground, shade, thing
from world.scenes import COLORS, SHAPES, is_held_out

MOTIONS = ("moves to the left", "moves to the right", "moves up", "moves down", "stays still")
# Frames of a clip, which lasts a second, and the moments of a clip that are shown side by side.
FRAMES, MOMENTS, COLUMNS = 8, 4, 2
_DIAMETERS = (18.0, 26.0)
# Pixels that what moves is further along at the end, and that anything sways across from frame to frame.
_WAY, _SWAY = (20.0, 34.0), 0.7
_STEPS = {
    "moves to the left": (-1.0, 0.0),
    "moves to the right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
    "stays still": (0.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One thing, and what it does for a second."""

    color: str
    shape: str
    motion: str

    @property
    def caption(self) -> str:
        """What happens, in full."""
        return f"a {self.color} {self.shape} {self.motion}"


@functools.cache
def clips(*, held_out: bool) -> tuple[Clip, ...]:
    """All combinations that are held out, or all that may be trained on; in a fixed order."""
    every = (Clip(*chosen) for chosen in itertools.product(COLORS, SHAPES, MOTIONS))
    return tuple(clip for clip in every if is_held_out(clip.caption) == held_out)


def film(clip: Clip, draw: random.Random, times: Sequence[float] | None = None) -> list[Image.Image]:
    """Frames (64 x 64, RGB) of a clip at `times`, from 0 (its beginning) to 1 (its end); by default 8 of them."""
    step = _STEPS[clip.motion]
    color, light, diameter = shade(clip.color, draw), draw.getrandbits(32), draw.uniform(*_DIAMETERS)
    way = draw.uniform(*_WAY)
    begins = [_begin(diameter / 2, along * way, draw) for along in step]
    found = []
    for time in times if times is not None else [index / (FRAMES - 1) for index in range(FRAMES)]:
        canvas, pen = ground(random.Random(light))
        x, y = (
            begin + along * way * time + draw.uniform(-_SWAY, _SWAY) for begin, along in zip(begins, step, strict=True)
        )
        thing(pen, clip.shape, color, x, y, diameter)
        found.append(finished(canvas, draw))
    return found


def moments(clip: Clip, draw: random.Random) -> Image.Image:
    """Four moments of a clip in one picture (128 x 128): row by row, in the order of time, none quite regular."""
    times = [(index + draw.uniform(0.1, 0.9)) / MOMENTS for index in range(MOMENTS)]
    return side_by_side(film(clip, draw, times), COLUMNS)


def _begin(radius: float, way: float, draw: random.Random) -> float:
    """Where the middle of a thing begins on one axis, so that all of it stays in the picture on its way."""
    low, high = radius + 1 - min(way, 0.0), SIDE - radius - 1 - max(way, 0.0)
    return draw.uniform(min(low, high), max(low, high))
