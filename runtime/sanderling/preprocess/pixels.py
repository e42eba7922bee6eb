"""Pixel formats to 8-bit RGB on white: the arithmetic of the canonical step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

PLAIN_MODES = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
ALPHA_MODES = {"LA", "PA", "RGBA"}
PREMULTIPLIED_MODES = {"La", "RGBa"}
DEEP_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


def to_rgb(image: Image) -> tuple[Image, bool]:
    """An 8-bit image to RGB on white, and whether anything of it was transparent."""
    from PIL import Image as Pillow

    if image.mode in PREMULTIPLIED_MODES:
        values = np.asarray(image)
        white = 255 - values[..., -1:]
        flat = np.minimum(values[..., :-1].astype(np.uint16) + white, 255).astype(np.uint8)
        flat = np.broadcast_to(flat, (*flat.shape[:2], 3))
        return Pillow.fromarray(np.ascontiguousarray(flat)), bool(white.any())
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB"), False
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if cast("tuple[int, int]", alpha.getextrema())[0] == 255:
        return rgba.convert("RGB"), False
    white_sheet = Pillow.new("RGB", rgba.size, (255, 255, 255))
    white_sheet.paste(rgba, mask=alpha)
    return white_sheet, True


def shallow(image: Image, full: int, where: str) -> Image:
    """A grey image of more than 8 bits to "L", or "LA" where one of its values stands for transparency."""
    from PIL import Image as Pillow

    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > full:
        raise ImageError(
            f"{where} has pixel values from {low:,} to {high:,}; 0 to {full:,} was expected. "
            "Scale them to 0..255 yourself and pass a uint8 array."
        )
    grey = Pillow.fromarray(to_eight_bits(values, full))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Pillow.merge("LA", (grey, Pillow.fromarray(alpha)))


def to_eight_bits(values: NDArray[Any], full: int) -> NDArray[np.uint8]:
    """`values * 255 / full`, rounded to nearest; both constants in use are odd, so there are no ties."""
    table = ((np.arange(full + 1, dtype=np.uint32) * 255 + full // 2) // full).astype(np.uint8)
    eight: NDArray[np.uint8] = table[values]
    return eight


def conversion(array: NDArray[Any]) -> str:
    """The line of code that makes uint8 of an array of another dtype."""
    if array.dtype.kind == "b":
        return 'array.astype("uint8") * 255'
    if array.dtype.kind == "f":
        nan = "It holds NaN: np.nan_to_num(array) first, then " if np.isnan(array).any() else ""
        return f'{nan}(array * 255).round().clip(0, 255).astype("uint8"), if its values go from 0 to 1'
    if array.dtype.kind in "iu":
        return 'array.clip(0, 255).astype("uint8"), if its values go from 0 to 255'
    return 'np.asarray(image.convert("RGB"))'
