"""Frames of a video as what a captioner of pictures takes, and how much two frames differ: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

# Frames are compared as thumbnails of so many pixels a side: what moves in them changes little, another scene much.
_THUMBNAIL = 16


def side_by_side(frames: Sequence[Image], columns: int) -> Image:
    """RGB frames in one picture, row by row, `columns` of them in each; the size is the first frame's.

    One frame is itself.
    """
    from PIL import Image

    if len(frames) == 1:
        return frames[0]
    width, height = frames[0].size
    rows = -(-len(frames) // columns)
    picture = Image.new("RGB", (width * columns, height * rows))
    for place, frame in enumerate(frames):
        fitting = frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.BICUBIC)
        picture.paste(fitting, (place % columns * width, place // columns * height))
    return picture


def thumbnail(frame: Image) -> NDArray[np.float32]:
    """An RGB frame in little (16, 16, 3), float32 from 0 to 1."""
    from PIL import Image

    little = frame.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(little, np.float32) / np.float32(255)


def difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """How much two thumbnails differ: the mean of all channels' distances, 0 to 1."""
    return float(np.abs(a - b).mean())


def evenly(count: int, of: int) -> list[int]:
    """The places of `count` things taken evenly from `of`, each the middle of its share."""
    return [min(of - 1, int((index + 0.5) / count * of)) for index in range(count)]
