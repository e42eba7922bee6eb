"""The canonical step: every pixel format, orientation and array to 8-bit RGB, against Pillow and plain arithmetic."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from sanderling.errors import ImageError
from sanderling.preprocess.image import canonical

RANDOM = np.random.default_rng(5)
COLOURS = RANDOM.integers(0, 256, (23, 31, 3), dtype=np.uint8)
GREYS = RANDOM.integers(0, 256, (23, 31), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (256, 257), dtype=np.uint16)
DEEP.reshape(-1)[:65536] = np.arange(65536)


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    """Rounded to nearest in exact integers."""
    c, a = colour.astype(np.int64), alpha.astype(np.int64)
    return ((2 * (c * a + 255 * (255 - a)) + 255) // 510).astype(np.uint8)


def pixels(image: Any) -> NDArray[np.uint8]:
    rgb, _ = canonical(image)
    assert rgb.mode == "RGB"
    return np.asarray(rgb)


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_pixels_back(fmt: str, tmp_path: Path) -> None:
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(Image.fromarray(COLOURS), fmt, **options)
    (tmp_path / "image").write_bytes(data)
    for source in (data, tmp_path / "image", str(tmp_path / "image"), Image.open(io.BytesIO(data))):
        rgb, report = canonical(source)
        assert np.array_equal(np.asarray(rgb), COLOURS)
        assert (report.width, report.height, report.mode) == (31, 23, "RGB")
        done = (report.rotated, report.alpha_composited, report.frames_dropped, report.depth_reduced)
        assert not any(done)
        assert report.cropped == 0.0


def test_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    data = encoded(Image.fromarray(COLOURS), "JPEG")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_opaque_modes_convert_as_pillow_converts_them(mode: str) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    rgb, report = canonical(image)
    assert np.array_equal(np.asarray(rgb), np.asarray(image.convert("RGB")))
    assert report.mode == mode
    assert not report.alpha_composited


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_cmyk_files(fmt: str) -> None:
    data = encoded(Image.fromarray(COLOURS).convert("CMYK"), fmt)
    rgb, report = canonical(data)
    assert report.mode == "CMYK"
    assert np.array_equal(np.asarray(rgb), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("fmt", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_exif_orientation(orientation: int, fmt: str, options: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOURS), fmt, exif=exif, **options)
    rgb, report = canonical(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(rgb), np.asarray(expected))
    assert rgb.size == ((23, 31) if orientation >= 5 else (31, 23))
    assert report.rotated == (orientation > 1)
    assert (report.width, report.height) == (31, 23), "the report has the stored size"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_against_arrays(orientation: int) -> None:
    """Against the eight cases as the EXIF specification draws them: where row 0 and column 0 are seen."""
    a = COLOURS
    upright = {
        1: a,
        2: a[:, ::-1],
        3: a[::-1, ::-1],
        4: a[::-1],
        5: a.transpose(1, 0, 2),
        6: a[::-1].transpose(1, 0, 2),
        7: a[::-1, ::-1].transpose(1, 0, 2),
        8: a[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels(encoded(Image.fromarray(a), "PNG", exif=exif)), upright)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_leaves_the_image(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    rgb, report = canonical(encoded(Image.fromarray(COLOURS), "PNG", exif=exif))
    assert np.array_equal(np.asarray(rgb), COLOURS)
    assert not report.rotated


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_leaves_the_image() -> None:
    data = encoded(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert np.array_equal(pixels(data), COLOURS)


def test_every_colour_at_every_alpha_is_laid_on_white_exactly() -> None:
    colour, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([colour, 255 - colour, colour // 2, alpha], axis=2)
    expected = on_white(rgba[:, :, :3], rgba[:, :, 3:])
    for source in (Image.fromarray(rgba), rgba, encoded(Image.fromarray(rgba), "PNG")):
        rgb, report = canonical(source)
        assert np.array_equal(np.asarray(rgb), expected)
        assert report.alpha_composited
    assert expected[0, 7].tolist() == [255, 255, 255], "nothing of a colour at alpha 0"


def test_grey_with_alpha() -> None:
    alpha = RANDOM.integers(0, 256, GREYS.shape, dtype=np.uint8)
    image = Image.merge("LA", (Image.fromarray(GREYS), Image.fromarray(alpha)))
    rgb, report = canonical(image)
    assert np.array_equal(np.asarray(rgb), on_white(GREYS, alpha)[:, :, None].repeat(3, 2))
    assert (report.mode, report.alpha_composited) == ("LA", True)
    assert np.array_equal(pixels(encoded(image, "PNG")), np.asarray(rgb))


def test_palette_with_alpha() -> None:
    palette = Image.fromarray(COLOURS).quantize(16)
    alpha = RANDOM.integers(0, 256, GREYS.shape, dtype=np.uint8)
    image = palette.convert("PA")
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == "PA"
    expected = on_white(np.asarray(palette.convert("RGB")), alpha[:, :, None])
    assert np.array_equal(pixels(image), expected)


def test_premultiplied_alpha() -> None:
    rgba = RANDOM.integers(0, 256, (23, 31, 4), dtype=np.uint8)
    image = Image.fromarray(rgba).convert("RGBa")
    premultiplied = np.frombuffer(image.tobytes(), np.uint8).reshape(23, 31, 4).astype(int)
    rgb, report = canonical(image)
    assert np.array_equal(np.asarray(rgb), np.minimum(premultiplied[..., :3] + 255 - premultiplied[..., 3:], 255))
    assert report.alpha_composited
    assert np.abs(np.asarray(rgb).astype(int) - on_white(rgba[..., :3], rgba[..., 3:])).max() <= 1
    grey = Image.merge("LA", (Image.fromarray(GREYS), Image.fromarray(rgba[..., 3]))).convert("La")
    expected = on_white(GREYS, rgba[..., 3]).astype(int)
    assert np.abs(pixels(grey).astype(int) - expected[:, :, None]).max() <= 1


def test_transparency_entries_of_palette_grey_and_rgb() -> None:
    palette = Image.fromarray(COLOURS).quantize(8)
    indices = np.asarray(palette)
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[indices == 3] = 255
    for fmt in ("PNG", "GIF"):
        rgb, report = canonical(encoded(palette, fmt, transparency=3))
        assert np.array_equal(np.asarray(rgb), expected)
        assert (report.mode, report.alpha_composited) == ("P", True)

    table = bytes([0, 64, 128, 255, 255, 200, 255, 255])
    alpha = np.frombuffer(table, np.uint8)[indices]
    expected = on_white(np.asarray(palette.convert("RGB")), alpha[:, :, None])
    assert np.array_equal(pixels(encoded(palette, "PNG", transparency=table)), expected)

    value = int(GREYS[3, 4])
    expected = np.where(value == GREYS, 255, GREYS)[:, :, None].repeat(3, 2)
    assert np.array_equal(pixels(encoded(Image.fromarray(GREYS), "PNG", transparency=value)), expected)

    colour = tuple(int(v) for v in COLOURS[3, 4])
    expected = COLOURS.copy()
    expected[(COLOURS[3, 4] == COLOURS).all(2)] = 255
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOURS), "PNG", transparency=colour)), expected)


def test_opaque_alpha_is_not_called_composited() -> None:
    opaque = np.dstack([COLOURS, np.full(GREYS.shape, 255, np.uint8)])
    rgb, report = canonical(opaque)
    assert np.array_equal(np.asarray(rgb), COLOURS)
    assert not report.alpha_composited


def scaled(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.round(values.astype(np.float64) / 257).astype(np.uint8)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_never_clipped(fmt: str) -> None:
    rgb, report = canonical(encoded(Image.fromarray(DEEP), fmt))
    assert np.array_equal(np.asarray(rgb), scaled(DEEP)[:, :, None].repeat(3, 2))
    assert report.depth_reduced
    assert report.mode in ("I;16", "I")


def test_sixteen_bits_in_every_byte_order() -> None:
    expected = scaled(DEEP)[:, :, None].repeat(3, 2)
    size = (DEEP.shape[1], DEEP.shape[0])
    for mode, dtype in (("I;16", "<u2"), ("I;16B", ">u2")):
        image = Image.frombytes(mode, size, DEEP.astype(dtype).tobytes())
        assert np.array_equal(pixels(image), expected)
    assert np.array_equal(pixels(Image.fromarray(DEEP.astype(np.int32))), expected)
    assert np.array_equal(pixels(DEEP), expected)
    assert np.array_equal(pixels(DEEP.astype(">u2")), expected)


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    image = Image.fromarray(DEEP)
    rgb, report = canonical(encoded(image, "PNG", transparency=40_000))
    expected = np.where(DEEP == 40_000, 255, scaled(DEEP))
    assert np.array_equal(np.asarray(rgb)[:, :, 0], expected)
    assert report.alpha_composited
    assert report.depth_reduced


@pytest.mark.parametrize("transparent", [False, True])
def test_sixteen_bit_colour_keeps_the_upper_byte(transparent: bool) -> None:
    colours = np.array([[[65_535, 0x12FF, 0x80], [0, 255, 256]]], ">u2")
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))]
    chunks += [(b"tRNS", colours[0, 0].tobytes())] * transparent
    chunks += [(b"IDAT", zlib.compress(b"\0" + colours.tobytes())), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    rgb, report = canonical(b"\x89PNG\r\n\x1a\n" + data)
    first = [255, 255, 255] if transparent else [255, 0x12, 0]
    assert np.asarray(rgb).tolist() == [[first, [0, 0, 1]]]
    assert report.depth_reduced
    assert report.alpha_composited == transparent


def test_twelve_bits_fill_the_range() -> None:
    """A TIFF of two pixels, 4095 and 2048, packed into three bytes."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    pixels_at, tags_at = b"\xff\xf8\x00\0", struct.pack("<I", 12)
    data = b"II*\0" + tags_at + pixels_at + struct.pack("<H", len(tags)) + entries + bytes(4)
    rgb, report = canonical(data)
    assert np.asarray(rgb)[0].tolist() == [[255] * 3, [128] * 3]
    assert report.depth_reduced


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (0, 65_536), (0, 2**31 - 1)])
def test_integers_beyond_sixteen_bits_are_refused_not_clipped(low: int, high: int) -> None:
    image = Image.fromarray(np.array([[low, high]], np.int32))
    with pytest.raises(ImageError, match=rf"from {low:,} to {high:,}; 0 to 65,535 was expected"):
        canonical(image)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_formats_of_no_one_meaning_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=f"pixel format '{mode}'.*pass a uint8 array"):
        canonical(Image.new(mode, (4, 4)))


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        pytest.param(
            "AVIF",
            {"quality": 100},
            marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"),
        ),
    ],
)
def test_only_the_first_frame_is_seen_and_it_is_said(fmt: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    rgb, report = canonical(encoded(frames[0], fmt, save_all=True, append_images=frames[1:], **options))
    assert report.frames_dropped
    assert np.abs(np.asarray(rgb).astype(int) - [255, 0, 0]).max() <= 3
    assert not canonical(encoded(frames[0], fmt, **options))[1].frames_dropped


def test_frames_that_are_dropped_are_not_decoded() -> None:
    frames = [Image.fromarray(np.roll(COLOURS, i, 0)) for i in range(3)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    whole = encoded(frames[0], "TIFF")
    damaged = data[: len(whole) + 200] + bytes(len(data) - len(whole) - 200)
    rgb, report = canonical(damaged)
    assert report.frames_dropped
    assert np.array_equal(np.asarray(rgb), COLOURS)


def test_a_pillow_image_is_left_as_it_was() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(Image.fromarray(COLOURS), "PNG", exif=exif)))
    first, second = pixels(image), pixels(image)
    assert np.array_equal(first, second)
    assert image.size == (31, 23)
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays(channels: int, dtype: type) -> None:
    shape = (9, 7, channels) if channels else (9, 7)
    array = RANDOM.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    eight = scaled(array) if dtype is np.uint16 else array
    expected = {
        0: lambda: eight[:, :, None].repeat(3, 2),
        1: lambda: eight.repeat(3, 2),
        3: lambda: eight,
        4: lambda: on_white(eight[:, :, :3], eight[:, :, 3:]),
    }[channels]()
    rgb, report = canonical(array)
    assert np.array_equal(np.asarray(rgb), expected)
    assert (report.width, report.height) == (7, 9)
    assert report.depth_reduced == (dtype is np.uint16)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["flip", "step", "transpose", "channels", "readonly"]), st.integers(1, 12), st.integers(1, 12))
def test_arrays_in_any_memory_order(how: str, height: int, width: int) -> None:
    base = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    view: NDArray[np.uint8] = {
        "flip": lambda: base[::-1, ::-1],
        "step": lambda: base.repeat(2, 0).repeat(2, 1)[::2, ::2],
        "transpose": lambda: np.asfortranarray(base),
        "channels": lambda: base[:, :, ::-1],
        "readonly": lambda: np.frombuffer(base.tobytes(), np.uint8).reshape(base.shape),
    }[how]()
    rgb, _ = canonical(view)
    assert np.array_equal(np.asarray(rgb), view)


def test_the_result_does_not_change_with_the_array() -> None:
    array = COLOURS.copy()
    rgb, _ = canonical(array)
    array[:] = 0
    assert np.array_equal(np.asarray(rgb), COLOURS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64.*round\(\)\.clip\(0, 255\)\.astype"),
        (np.zeros((4, 4, 3), np.float16), r"float16.*round\(\)\.clip\(0, 255\)\.astype"),
        (np.full((4, 4, 3), np.nan, np.float32), r"holds NaN"),
        (np.zeros((4, 4), bool), r'bool.*astype\("uint8"\) \* 255'),
        (np.zeros((4, 4), np.int64), r"int64.*clip\(0, 255\)"),
        (np.zeros((4, 4), np.int8), r"int8.*clip\(0, 255\)"),
        (np.zeros((4, 4), np.uint32), r"uint32.*clip\(0, 255\)"),
        (np.zeros((4, 4), object), r"object.*uint8 was expected"),
        (np.zeros((4, 4), "S1"), r"uint8 was expected"),
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((8, 9, 2), np.uint8), r"8 x 9 x 2.*wrong shape"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"wrong shape.*one by one"),
        (np.zeros(12, np.uint8), r"wrong shape"),
        (np.array(3, np.uint8), r"no dimensions.*wrong shape"),
        (np.zeros((0, 9, 3), np.uint8), r"no pixels: 9 x 0"),
        (np.zeros((9, 0), np.uint8), r"no pixels: 0 x 9"),
    ],
)
def test_arrays_that_cannot_be_images(array: NDArray[Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        canonical(array)


@pytest.mark.parametrize("value", [None, 3, 2.5, [1, 2], [[1]], object(), {"path": "a"}])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(ImageError, match=r"of type \w+; a path, bytes, a PIL image"):
        canonical(value)
