"""Canonical images to `pixel_values`: the manifest's steps, bit for bit as the original library takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ImageError, ManifestError
from sanderling.preprocess.canonical import ImageInput, Reduced, canonical, decoded
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeBounded,
    ResizeFit,
    ResizeLongest,
    ResizeShortest,
)

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageInput", "ImagePipeline", "canonical", "decoded"]

# Filters whose weights are not continuous.
_WITH_EDGES = ("nearest", "box")


class ImagePipeline:
    """Runs the steps of the manifest's `preprocessing.image`. Safe to use from many threads.

    Resizing is Pillow's on 8-bit pixels, as in transformers' image processors (`use_fast=False`) and in torchvision
    on Pillow images. What follows works on each of 256 values alone, so it is done once, on a table.
    `mean` and `std` are in the order of `channels`.
    """

    def __init__(self, settings: ImagePreprocessing) -> None:
        self.settings = settings
        self._spatial = [s for s in settings.steps if not isinstance(s, Rescale | Normalize)]
        self._order = (0, 1, 2) if settings.channels == "RGB" else (2, 1, 0)
        self._table = value_table(settings.steps)

    def least(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that must be left of an image of this upright size, if it is decoded at reduced scale."""
        first, margin = self._spatial[0], self.settings.reduced_decode
        assert isinstance(first, Resize | ResizeShortest | ResizeFit)  # decode() refuses reduced_decode without it
        assert margin is not None
        wide, high = resized_size(first, (width, height))
        return math.ceil(wide * margin), math.ceil(high * margin)

    def __call__(self, rgb: Image, reduced: Reduced | None = None) -> tuple[NDArray[np.float32], float]:
        """One canonical image to float32 (3, height, width), and the share of its area that crops cut away.

        `reduced` says where it lies, if it is a JPEG of which no more was to be decoded than it takes: the first step
        makes of it what it makes of the image in full. Where a crop follows, only what that keeps is resized. Pillow
        then rounds where the pixels lie to float32, and one in some ten thousand values comes out one level higher or
        lower; of some 2% of sizes, for which it takes its two passes the other way round, a quarter of them.

        Raises ImageError: not RGB, or so long and thin that resizing it would take more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS`.
        """
        if rgb.mode != "RGB":
            raise ImageError(f"The image has the mode {rgb.mode!r}, expected 'RGB'; call canonical(image) first.")
        kept = 1.0
        steps = self._spatial
        if reduced is not None and (joined := _resized_crop(steps, rgb, reduced)) is not None:
            (rgb, kept), steps, reduced = joined, steps[2:], None
        for step in steps:
            if isinstance(step, CenterCrop):
                kept *= _kept(step, rgb.size)
            rgb = _applied(step, rgb, reduced)
            reduced = None
        pixels = np.asarray(rgb)
        values = np.empty((3, rgb.height, rgb.width), np.float32)
        for target, source in enumerate(self._order):
            # Every index is below 256, and only with a mode other than "raise" does numpy write to `out` directly.
            np.take(self._table[target], pixels[:, :, source], out=values[target], mode="clip")
        return values, 1.0 - kept


def value_table(steps: tuple[ImageStep, ...]) -> NDArray[np.float32]:
    """What each channel (in the output's order) and 8-bit value becomes: (3, 256) float32.

    The arithmetic is the original's: transformers multiplies by `factor` in float64 and rounds to float32,
    torchvision's ToTensor divides by 255 in float32, both subtract the mean and divide by std in float32.
    Raises ManifestError: a value that is not finite.
    """
    values = np.broadcast_to(np.arange(256, dtype=np.float32), (3, 256))
    with np.errstate(all="ignore"):
        for step in steps:
            if isinstance(step, Rescale) and step.factor is not None:
                values = (values.astype(np.float64) * step.factor).astype(np.float32)
            elif isinstance(step, Rescale) and step.divisor is not None:
                values = values / np.float32(step.divisor)
            elif isinstance(step, Normalize):
                mean, std = np.array(step.mean, np.float32), np.array(step.std, np.float32)
                values = (values - mean[:, None]) / std[:, None]
    if not np.isfinite(values).all():
        raise ManifestError(
            "The image preprocessing leads to values that are not finite; expected a std, factor and divisor "
            "of ordinary size. Export the bundle again."
        )
    return np.ascontiguousarray(values)


def _applied(step: ImageStep, image: Image, reduced: Reduced | None) -> Image:
    if isinstance(step, ResizeBounded):
        return _resized(image, *bounded_size(step, image.size), step.resample)
    if isinstance(step, ResizeLongest):
        return _resized(image, *longest_size(step, image.size), step.resample)
    if isinstance(step, Resize | ResizeShortest | ResizeFit):
        if reduced is not None:
            size = resized_size(step, (reduced.width, reduced.height))
            return _resized(image, *size, step.resample, reduced.box)
        return _resized(image, *resized_size(step, image.size), step.resample)
    if isinstance(step, CenterCrop):
        _bound(image, step.width, step.height, step.height)
        left = _offset(image.width, step.width, step.rounding)
        top = _offset(image.height, step.height, step.rounding)
        if any(step.fill) and (left < 0 or top < 0):
            return _padded(image, step, left, top)
        # Pillow fills what lies outside the image with zeros, as the libraries' padding does.
        return image.crop((left, top, left + step.width, top + step.height))
    raise TypeError(f"{type(step).__name__} is no step on pixels")


def _resized_crop(steps: Sequence[ImageStep], image: Image, reduced: Reduced) -> tuple[Image, float] | None:
    """What a resize and a crop, the first two steps, leave of the image, and the share of its area that is.

    None where these are not the first steps, the resize does not shrink, a filter with edges would jump by a whole
    pixel where the place is rounded, or the crop is larger than what it is cut from.
    """
    if len(steps) < 2:
        return None
    resize, crop = steps[:2]
    if not (isinstance(resize, Resize | ResizeShortest | ResizeFit) and isinstance(crop, CenterCrop)):
        return None
    width, height = resized_size(resize, (reduced.width, reduced.height))
    shrinks = width <= image.width and height <= image.height and image.size != (width, height)
    if not shrinks or resize.resample in _WITH_EDGES or crop.width > width or crop.height > height:
        return None
    x0, y0, x1, y1 = reduced.box
    left, top = _offset(width, crop.width, crop.rounding), _offset(height, crop.height, crop.rounding)
    across, down = (x1 - x0) / width, (y1 - y0) / height
    box = (
        x0 + left * across,
        y0 + top * down,
        min(x1, x0 + (left + crop.width) * across),
        min(y1, y0 + (top + crop.height) * down),
    )
    # What is too long and thin to be resized in full is refused here as well.
    _bound(image, width, height, max(height, image.height))
    return _resized(image, crop.width, crop.height, resize.resample, box), _kept(crop, (width, height))


def _kept(crop: CenterCrop, size: tuple[int, int]) -> float:
    """The share of an image's area that a crop leaves."""
    return min(1.0, crop.width / size[0]) * min(1.0, crop.height / size[1])


def resized_size(step: Resize | ResizeShortest | ResizeFit, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height that a step brings an image of the width and height `size` to."""
    width, height = size
    if isinstance(step, Resize):
        return step.width, step.height
    if isinstance(step, ResizeShortest):
        longer = int(step.size * max(width, height) / min(width, height))
        return (step.size, longer) if width <= height else (longer, step.size)
    ratios = (height / step.height, width / step.width)
    ratio = min(ratios) if step.fit == "cover" else max(ratios)
    # A side of an image so long and thin that nothing would be left of it keeps one pixel.
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def bounded_size(step: ResizeBounded, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height that the step brings an image of the width and height `size` to; in transformers' order of
    operations, on which the last digit depends."""
    scale = step.shortest / min(size)
    width, height = (scale * size[0], float(step.shortest)) if size[1] < size[0] else (step.shortest, scale * size[1])
    if max(width, height) > step.longest:
        scale = step.longest / max(width, height)
        width, height = scale * width, scale * height
    whole = (int(side + 0.5) // step.divisor * step.divisor for side in (width, height))
    wide, high = (max(step.divisor, side) for side in whole)
    return wide, high


def longest_size(step: ResizeLongest, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height that the step brings an image of the width and height `size` to; as `bounded_size`."""
    aspect = size[0] / size[1]
    if size[0] >= size[1]:
        height = int(step.size / aspect)
        return step.size, max(1, height + height % 2)
    width = int(step.size * aspect)
    return max(1, width + width % 2), step.size


def _padded(image: Image, step: CenterCrop, left: int, top: int) -> Image:
    """The crop at `left` and `top`, on a sheet of the step's colour."""
    from PIL import Image as Pillow

    sheet = Pillow.new("RGB", (step.width, step.height), step.fill)
    inside = image.crop((max(0, left), max(0, top), left + step.width, top + step.height))
    within = (min(image.width, step.width), min(image.height, step.height))
    sheet.paste(inside.crop((0, 0, *within)), (max(0, -left), max(0, -top)))
    return sheet


def _resized(
    image: Image, width: int, height: int, resample: str, box: tuple[float, float, float, float] | None = None
) -> Image:
    from PIL.Image import Resampling

    if image.size == (width, height) and box is None:
        return image
    # Pillow resizes across first: in between, the image has its new width and its old height.
    _bound(image, width, height, max(height, image.height))
    return image.resize((width, height), Resampling[resample.upper()], box)


def _bound(image: Image, width: int, height: int, rows: int) -> None:
    from PIL import Image as Pillow

    limit = Pillow.MAX_IMAGE_PIXELS
    if limit is not None and width * rows > limit:
        raise ImageError(
            f"Bringing the image of {image.width:,} x {image.height:,} pixels to {width:,} x {height:,} takes "
            f"{width * rows:,} pixels in between, expected at most {limit:,} (PIL.Image.MAX_IMAGE_PIXELS). "
            "Cut it to a less extreme shape first, or raise that limit if you trust its source."
        )


def _offset(size: int, crop: int, rounding: str) -> int:
    """Where a crop begins in one direction; negative where the image is smaller and padded."""
    if rounding == "floor":
        return (size - crop) // 2
    # torchvision rounds a padding's first half down, and Python's round() takes a tie to the even number.
    return -((crop - size) // 2) if crop > size else round((size - crop) / 2)
