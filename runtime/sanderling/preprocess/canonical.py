"""Any image to 8-bit RGB, in the same way for every model: the canonical step of the bundle format.

EXIF orientation is applied, transparency laid on white, every pixel format brought to 8-bit RGB. Only formats whose
decoders run inside the process and are bounded are opened; a file's own name for its format is never asked.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import ImageError
from sanderling.preprocess.pixels import (
    ALPHA_MODES,
    DEEP_MODES,
    PLAIN_MODES,
    PREMULTIPLIED_MODES,
    conversion,
    shallow,
    to_eight_bits,
    to_rgb,
)
from sanderling.results import ImageReport

if TYPE_CHECKING:
    from PIL.Image import Image

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | Image | NDArray[Any]"

# An 8-bit image at Pillow's limit of pixels takes about 360 MB uncompressed with four channels.
MAX_FILE_BYTES = 2**30

# Pillow's name of each format that is opened, and the module that reads it. EPS, WMF and others that call
# another program stay out, and so do formats that have no signature or are decoded in slow Python.
_PLUGINS = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
}
_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
)
_EXPECTED = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or AVIF"

_ORIENTATION_TAG = 0x0112

# Width and height that must be left of an upright image of this width and height.
Least: TypeAlias = Callable[[int, int], tuple[int, int]]


class Reduced(Struct, frozen=True):
    """A JPEG that no more was to be decoded of than it takes: its `width` and `height` in full, upright, and the `box`
    (left, upper, right, lower) that it fills of its pixels, which at reduced scale are rounded up to whole ones."""

    width: int
    height: int
    box: tuple[float, float, float, float]


def canonical(image: ImageInput) -> tuple[Image, ImageReport]:
    """Bring an image to 8-bit RGB, and report what was done to it.

    `image` is a file's path, a file's bytes, a Pillow image (of several frames, the one it stands at), or an array:
    uint8 (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4) as RGBA, or the same in uint16.

    Transparency: `c * a + 255 * (1 - a)`, rounded to nearest. 16-bit grey and uint16 arrays: `v / 257`, rounded to
    nearest; the colour channels of 16-bit files keep their upper byte, as Pillow reads them.
    An EXIF block that cannot be parsed is taken to say nothing.

    The result may be `image` itself, where it was RGB and upright already. `cropped` of the report stays 0.0.
    `PIL.Image.MAX_IMAGE_PIXELS` bounds the pixels; it is checked on the header, before anything is decoded.

    Raises ImageError: no such file, no image, damaged, without pixels, too large, or of a kind that has no one
    meaning as 8-bit RGB, such as floating point.
    """
    rgb, report, _ = decoded(image)
    return rgb, report


def decoded(image: ImageInput, least: Least | None = None) -> tuple[Image, ImageReport, Reduced | None]:
    """As `canonical`; of a JPEG in a file or in bytes no more is decoded than leaves it `least`.

    libjpeg decodes at a half, a quarter or an eighth by leaving out the finest frequencies of each block. `reduced` of
    the report tells what was left out (1: nothing), the last value where such a JPEG lies; None of all else.
    """
    if isinstance(image, np.ndarray):
        return *_from_array(image), None
    if isinstance(image, str | os.PathLike):
        return _from_file(image, least)
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(image), f"The image of {len(image):,} bytes", least)
    from PIL import Image, ImageFile

    if not isinstance(image, Image.Image):
        raise ImageError(
            f"The image is of type {type(image).__name__}; a path, bytes, a PIL image, "
            "or a numpy array of uint8 was expected."
        )
    where = f"The PIL image ({image.mode}, {image.width} x {image.height})"
    # Loading a lazily opened image runs the decoder of its format, whichever that is.
    known = (*_PLUGINS, "MPO", "DIB", None)
    if isinstance(image, ImageFile.ImageFile) and image.format not in known:
        raise ImageError(
            f'{where} was opened as {image.format}, expected {_EXPECTED}. Decode it first: image.convert("RGB")'
        )
    # A caller's image is never told to decode itself otherwise: it would stay so.
    return _guarded(image, where, None)


def _from_file(name: str | os.PathLike[str], least: Least | None) -> tuple[Image, ImageReport, Reduced | None]:
    shown = str(name) if str(name).isprintable() else ascii(str(name))
    shown = _shortened(shown)
    if not shown:
        raise ImageError("The path is empty; the path of an image file was expected. Leave it out.")
    try:
        path = Path(os.fsdecode(name))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
            raise ImageError(f"{shown} is a {kind}; an image file was expected. Name the file itself.")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(
                f"{shown} has {status.st_size:,} bytes; an image file has at most {MAX_FILE_BYTES:,}. "
                "Decode it yourself and pass the array."
            )
        with path.open("rb") as file:
            return _from_stream(file, shown, least)
    except FileNotFoundError:
        hint = "URLs are not fetched: pass a file or its bytes." if "://" in shown else "Check the path."
        raise ImageError(f"{shown} does not exist; an image file was expected. {hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown} cannot be read: {reason}. Check the path.") from error


def _from_stream(stream: IO[bytes], where: str, least: Least | None) -> tuple[Image, ImageReport, Reduced | None]:
    head = stream.read(16)
    found = next((name for pattern, name in _SIGNATURES if pattern.match(head)), None)
    if found is None:
        begins = f"begins with {head!r}" if head else "is empty"
        raise ImageError(
            f"{where} is no image that can be read: it {begins}; {_EXPECTED} was expected. Convert it first."
        )
    from PIL import Image

    try:
        importlib.import_module(f"PIL.{_PLUGINS[found]}")
    except ImportError as error:
        raise ImageError(f"{where} is {found}, which this Pillow cannot read: pip install -U pillow") from error
    try:
        opened = Image.open(stream, formats=(found,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(where, int(pixels[0]) if pixels else None) from error
    except Exception as error:
        raise _damaged(where, error) from error
    with opened:
        return _guarded(opened, where, least)


def _from_array(array: NDArray[Any]) -> tuple[Image, ImageReport]:
    from PIL import Image

    shape = " x ".join(map(str, array.shape)) or "no dimensions"
    where = f"The array ({shape}, {array.dtype})"
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ImageError(f"{where} has the wrong dtype; uint8 was expected. Convert it: {conversion(array)}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        chw = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = (
            "Put the channels last: array.transpose(1, 2, 0)"
            if chw
            else "Pass the images of a batch one by one, in a list."
        )
        raise ImageError(
            f"{where} has the wrong shape; (height, width), (height, width, 1), (height, width, 3) as RGB or "
            f"(height, width, 4) as RGBA was expected. {hint}"
        )
    _check_pixels(array.shape[1], array.shape[0], where)
    deep = array.dtype.itemsize == 2
    values = to_eight_bits(array, 65535) if deep else array
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(values))
    rgb, composited = to_rgb(image)
    report = ImageReport(image.width, image.height, image.mode, False, composited, False, deep)
    return rgb, report


def _guarded(image: Image, where: str, least: Least | None) -> tuple[Image, ImageReport, Reduced | None]:
    """Decode; whatever a decoder raises on what it was given leaves as ImageError."""
    from PIL import Image as Pillow

    tiles = getattr(image, "tile", None)
    try:
        return _flattened(image, where, least)
    except ImageError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise _too_large(where, None) from error
    except Exception as error:
        # Pillow forgets what it had to decode even where it failed, and would hand out a half-decoded image next.
        if tiles:
            image.tile = tiles  # type: ignore[attr-defined]
        raise _damaged(where, error) from error


def _flattened(image: Image, where: str, least: Least | None) -> tuple[Image, ImageReport, Reduced | None]:
    from PIL.Image import Transpose

    _check_pixels(image.width, image.height, where)
    raw_modes = str([tile[3] for tile in getattr(image, "tile", ())])
    # Pillow turns TIFFs itself while it loads them, and gives their turned size before; ask before that.
    stored = _orientation(image) if image.format == "TIFF" else 0
    several = bool(getattr(image, "is_animated", False))
    full = image.size
    jpeg = image.format == "JPEG"
    scale = 1 if least is None else _drafted(image, least)
    image.load()
    size = image.size
    left = _orientation(image)
    stored = stored or left
    full = image.size if scale == 1 else full
    width, height = full if stored < 5 or left >= 5 else full[::-1]

    mode = image.mode
    deep = mode in DEEP_MODES or ";16" in raw_modes
    if mode in DEEP_MODES:
        image = shallow(image, 4095 if ";12" in raw_modes else 65535, where)
    elif mode not in PLAIN_MODES | ALPHA_MODES | PREMULTIPLIED_MODES:
        raise ImageError(
            f"{where} has the pixel format {mode!r}, which has no one meaning as 8-bit RGB. "
            'Scale its values to 0..255 yourself and pass a uint8 array, or image.convert("L").'
        )
    elif mode == "RGB" and deep and "transparency" in image.info:
        # Of a colour that stands for transparency, as of the pixels, the upper bytes are left.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    rgb, composited = to_rgb(image)
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    if left in turns:
        rgb = rgb.transpose(turns[left])
    report = ImageReport(width, height, mode, stored > 1, composited, several, deep, reduced=scale)
    return rgb, report, None if least is None or not jpeg else _turned(full, scale, size, left)


def _drafted(image: Image, least: Least) -> int:
    """Have a JPEG decoded at the smallest scale that leaves what must be; how many times smaller that is."""
    from PIL.ImageFile import ImageFile

    if image.format != "JPEG" or not isinstance(image, ImageFile):
        return 1
    width, height = image.size
    if _orientation(image) >= 5:
        high, wide = least(height, width)
    else:
        wide, high = least(width, height)
    possible = min(width // wide, height // high)
    scale = next((scale for scale in (8, 4, 2) if scale <= possible), 1)
    drafted = None if scale == 1 else image.draft(None, (width // scale, height // scale))
    return 1 if drafted is None else scale


def _turned(full: tuple[int, int], scale: int, size: tuple[int, int], orientation: int) -> Reduced:
    """Where an image of the stored size `full` lies in its reduced pixels (stored: `size`), after it was turned."""
    across, down = ((0.0, full[0] / scale, size[0]), (0.0, full[1] / scale, size[1]))
    width, height = full
    if orientation >= 5:
        across, down, width, height = down, across, height, width
    if orientation in (2, 3, 6, 7):
        across = (across[2] - across[1], float(across[2]), across[2])
    if orientation in (3, 4, 7, 8):
        down = (down[2] - down[1], float(down[2]), down[2])
    return Reduced(width, height, (across[0], down[0], across[1], down[1]))


def _orientation(image: Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # A parser of foreign bytes: other readers show such an image as it is stored.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_pixels(width: int, height: int, where: str) -> None:
    from PIL import Image

    if width * height == 0:
        raise ImageError(f"{where} has no pixels: {width} x {height}. Leave it out.")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(where, width * height)


def _too_large(where: str, pixels: int | None) -> ImageError:
    from PIL import Image

    met = "too many pixels" if pixels is None else f"{pixels:,} pixels"
    return ImageError(
        f"{where} has {met}, expected at most {Image.MAX_IMAGE_PIXELS:,}. Shrink it, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust its source."
    )


def _damaged(where: str, error: Exception) -> ImageError:
    from PIL import UnidentifiedImageError

    unread = isinstance(error, UnidentifiedImageError)
    reason = "its header makes no sense" if unread else _shortened(str(error) or type(error).__name__)
    return ImageError(f"{where} cannot be decoded: {reason}. It is damaged or only a part of an image; fetch it again.")


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}"
