"""Pictures and parts of them to square inputs, and where the parts are: pure functions on arrays.

Bit for bit (within the last digits of float32) what face-api does on tensors, its resizing without centres of pixels
and its rounding included: the networks were made for it, and their answers are compared with its own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sanderling.schema.preprocessing import FacesPreprocessing, SquareInput

# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]
# Of the 68 landmarks, those around the left eye, the right eye and the mouth.
_EYES_AND_MOUTH = ((36, 42), (42, 48), (48, 68))


def square(picture: NDArray[np.uint8], settings: SquareInput) -> NDArray[np.float32]:
    """A picture, or a part of one, (h, w, 3), as a graph's input, (3, size, size), float32.

    The black beside it is never made: what is read outside the picture is 0. Memory is bounded by `size` alone.
    """
    height, width = picture.shape[:2]
    side = max(height, width)
    ratio = np.float32(side / settings.size)
    places = np.arange(settings.size, dtype=np.float32) * ratio
    low = np.floor(places).astype(np.int64)
    high = np.minimum(np.ceil(places).astype(np.int64), side - 1)
    share = (places - low).astype(np.float32)
    left, top = (_before(side - size, settings.pad) for size in (width, height))
    above, below = (_rows(picture, rows - top, low - left, high - left, share) for rows in (low, high))
    values = above + (below - above) * share[:, None, None]
    values = (values - np.array(settings.mean, np.float32)) / np.float32(settings.divisor)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def scale(picture: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """What shares of the detector's square are times, in pixels of the picture: (x, y, x, y), float64.

    The library goes by way of the whole number of pixels that the picture takes in the square.
    """
    height, width = picture.shape[:2]
    ratio = size / max(height, width)
    x, y = (size / max(1, math.floor(n * ratio + 0.5)) * n for n in (width, height))
    return np.array([x, y, x, y])


def cut(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8] | None:
    """What of the picture (h, w, 3) lies in a box, in whole pixels, as a view; None where nothing does."""
    height, width = picture.shape[:2]
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    across, down = math.floor(min(box[2] - left, width - left)), math.floor(min(box[3] - top, height - top))
    x, y = math.floor(left), math.floor(top)
    return picture[y : y + down, x : x + across] if across > 0 and down > 0 else None


def landmarks(raw: NDArray[np.float32], part: NDArray[np.uint8], box: Box) -> NDArray[np.float64]:
    """Landmarks as shares of the padded square of a part (2n,) to pixels of the picture, (n, 2), float64."""
    height, width = part.shape[:2]
    side = max(height, width)
    beside = ((side - width) / 2, (side - height) / 2)
    found: NDArray[np.float64] = raw.reshape(-1, 2).astype(np.float64) * side - beside + box[:2]
    return found


def aligned(points: NDArray[np.float64], settings: FacesPreprocessing) -> Box:
    """The square that recognition sees, by the eyes and the mouth among 68 landmarks (68, 2)."""
    left_eye, right_eye, mouth = (points[first:last].mean(axis=0) for first, last in _EYES_AND_MOUTH)
    distance = (math.dist(mouth, left_eye) + math.dist(mouth, right_eye)) / 2
    side = math.floor(distance / settings.scale)
    middle = (left_eye + right_eye + mouth) / 3
    x, y = (math.floor(max(0.0, place - part * side)) for place, part in zip(middle, settings.center, strict=True))
    return x, y, x + side, y + side


def loose(points: NDArray[np.float64], settings: FacesPreprocessing) -> Box:
    """The box around all landmarks (n, 2), with its margin."""
    low, high = points.min(axis=0), np.maximum(points.max(axis=0), 0)
    beside = (high - low) * settings.margin / 2
    (left, top), (right, bottom) = (low - beside).tolist(), (high + beside).tolist()
    return left, top, right, bottom


def _before(missing: int, pad: str) -> int:
    """Black pixels before the picture; JavaScript rounds the half that stands after it up."""
    return 0 if pad == "corner" else missing - math.floor(missing * 0.5 + 0.5)


def _rows(
    picture: NDArray[np.uint8],
    rows: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    share: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Rows of the picture between its columns `low` and `high`: (rows, columns, 3), float32; 0 outside."""
    left, right = (_read(picture, rows, columns) for columns in (low, high))
    return left + (right - left) * share[None, :, None]


def _read(picture: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    found = picture[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)[None]].astype(np.float32)
    found[~inside_rows] = 0
    found[:, ~inside_columns] = 0
    return found
