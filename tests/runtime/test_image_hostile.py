"""Files that are no images, or not whole: always ImageError or a picture, in bounded time and memory."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sanderling.errors import ImageError
from sanderling.preprocess import canonical as module
from sanderling.preprocess.image import canonical

# Pillow warns of damaged tags beside what it raises.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RANDOM = np.random.default_rng(11)
PICTURE = Image.fromarray(np.kron(RANDOM.integers(0, 256, (12, 16, 3), dtype=np.uint8), np.ones((3, 3, 1), np.uint8)))


def encoded(fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, fmt, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


EXIF = Image.Exif()
EXIF[0x0112] = 6
FILES = {
    "png": encoded("PNG", exif=EXIF),
    "jpeg": encoded("JPEG", exif=EXIF),
    "progressive": encoded("JPEG", progressive=True),
    "webp": encoded("WEBP", exif=EXIF),
    "tiff": encoded("TIFF", exif=EXIF),
    "tiff lzw": encoded("TIFF", compression="tiff_lzw"),
    "gif": encoded("GIF"),
    "bmp": encoded("BMP"),
    "ppm": encoded("PPM"),
}


def survives(data: bytes) -> np.ndarray | None:
    """The picture, or None after an ImageError; anything else fails the test."""
    try:
        rgb, _ = canonical(data)
    except ImageError:
        return None
    return np.asarray(rgb)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_an_error_or_the_whole_picture(name: str) -> None:
    data = FILES[name]
    whole = survives(data)
    assert whole is not None
    lengths = sorted({*range(min(len(data), 80)), *range(0, len(data), max(1, len(data) // 60)), len(data) - 1})
    refused = 0
    for length in lengths:
        picture = survives(data[:length])
        refused += picture is None
        if picture is not None and "tiff" not in name:
            # What was cut is behind the pixels, such as the end marker.
            assert np.array_equal(picture, whole), f"{name} cut at {length} of {len(data)} gave another picture"
    assert refused > len(lengths) * 0.9


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.data())
def test_flipped_bytes(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [b"", *sorted({d[:n] for d in FILES.values() for n in (4, 12, 26)}), b"P1 9 9 ", b"\0\0\0\x20ftypavif"]
    ),
    st.binary(max_size=300),
)
def test_random_bytes(head: bytes, tail: bytes) -> None:
    survives(head + tail)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty; PNG, JPEG, .* was expected"),
        (b"hello", r"begins with b'hello'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"begins with b'%!PS-Adobe"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), r"no image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"no image that can be read"),
        (b"8BPS\0\1" + bytes(60), r"no image that can be read"),
        (b"\x89PNG\r\n\x1a\n", r"cannot be decoded: its header makes no sense"),
        (png(0, 5), r"(no pixels|cannot be decoded)"),
        (b"P5 0 5 255\n", r"(no pixels|cannot be decoded)"),
        (FILES["png"][:-200], r"cannot be decoded: .*truncated"),
    ],
)
def test_what_is_no_image(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        canonical(data)


def test_a_format_that_calls_another_program_is_not_opened_from_a_pillow_image() -> None:
    eps = Image.open(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"))
    assert eps.format == "EPS"
    with pytest.raises(ImageError, match=r"opened as EPS, expected PNG.*Decode it first"):
        canonical(eps)


@pytest.mark.parametrize("side", [60_000, 10_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_by_the_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("began to decode"))
    for data in (
        png(side, side),
        b"P6 %d %d 255\n" % (side, side),
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
    ):
        with pytest.raises(
            ImageError, match=rf"has {side * side:,} pixels, expected at most 89,478,485.*MAX_IMAGE_PIXELS"
        ):
            canonical(data)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_with_warnings_as_errors() -> None:
    with pytest.raises(ImageError, match="100,000,000 pixels"):
        canonical(png(10_000, 10_000))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_on_pixels_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    array = np.zeros((11, 10, 3), np.uint8)
    for source in (array, Image.fromarray(array), png(10, 11, body=bytes(121))):
        with pytest.raises(ImageError, match="110 pixels, expected at most 100"):
            canonical(source)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert canonical(array)[0].size == (10, 11)


def test_a_failed_decode_does_not_pass_the_second_time() -> None:
    image = Image.open(io.BytesIO(FILES["png"][:-200]))
    for _ in range(3):
        with pytest.raises(ImageError, match="cannot be decoded"):
            canonical(image)


def test_a_closed_pillow_image_is_an_image_error() -> None:
    image = Image.open(io.BytesIO(FILES["jpeg"]))
    image.close()
    with pytest.raises(ImageError, match="cannot be decoded"):
        canonical(image)


def test_paths_that_are_no_image_files(tmp_path: Path) -> None:
    cases: list[tuple[object, str]] = [
        (tmp_path / "missing.png", "missing.png does not exist"),
        (tmp_path, "is a folder; an image file was expected"),
        ("https://example.org/a.png", "URLs are not fetched"),
        ("a\0b.png", "embedded null"),
        ("x" * 100_000, "cannot be read|does not exist"),
    ]
    for path, message in cases:
        with pytest.raises(ImageError, match=message) as caught:
            canonical(path)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 500


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes and devices")
def test_pipes_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="is a pipe or device"):
            canonical(path)


def test_a_file_too_large_to_be_an_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 50)
    (tmp_path / "big.png").write_bytes(FILES["png"])
    with pytest.raises(ImageError, match=r"big.png has [\d,]+ bytes; an image file has at most 50"):
        canonical(tmp_path / "big.png")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX rights, and a user other than root")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES["png"])
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        canonical(tmp_path / "a.png")


def test_pillow_is_loaded_on_first_use_only() -> None:
    code = """
        import sys
        import sanderling.preprocess.image, sanderling.manifest
        assert "PIL" not in sys.modules and "PIL.Image" not in sys.modules
        import numpy
        sanderling.preprocess.image.canonical(numpy.zeros((4, 4, 3), "uint8"))
        assert "PIL.Image" in sys.modules
        assert "PIL.EpsImagePlugin" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
