"""JPEG files decoded at reduced scale: as near as the full decode allows, told in the report, bounded, never silent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

import sanderling
from sanderling.codec import decode, encode
from sanderling.errors import BundleError, ImageError, InputError, ManifestError
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.preprocess.image import ImagePipeline, canonical, decoded
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
)
from sanderling.schema.variants import Distances, Drift

CopyBundle = Callable[[Path], Path]
FIRST: dict[str, ImageStep] = {
    "resize": Resize(40, 56, "bilinear"),
    "shortest": ResizeShortest(48, "bicubic"),
    "cover": ResizeFit(40, 56, "cover", "bicubic"),
    "contain": ResizeFit(40, 56, "contain", "bilinear"),
}
REST: tuple[ImageStep, ...] = (
    CenterCrop(36, 50, "half_even"),
    Rescale(divisor=255.0),
    Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


def pipeline(first: str, margin: float = 1.0) -> ImagePipeline:
    return ImagePipeline(ImagePreprocessing((FIRST[first], *REST), reduced_decode=margin))


def smooth(width: int, height: int) -> Image.Image:
    """Waves so long that decoding at an eighth leaves them, so that a shift by a part of a pixel shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / (25 + 9 * c) + c) * 55 + np.cos(y / (31 - 4 * c)) * 55 + 128 for c in range(3)]
    return Image.fromarray(np.clip(np.stack(waves, axis=-1), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif.tobytes(), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_same_picture_whichever_way_it_is_stored(first: str, orientation: int) -> None:
    """437 and 331 leave a part of a block at every scale: where it lies after turning is what this is about."""
    made, file = pipeline(first), jpeg(smooth(437, 331), orientation)
    exact, report, nothing = decoded(file)
    assert nothing is None
    assert report.reduced == 1
    rgb, told, reduced = decoded(file, made.least)
    assert reduced is not None
    assert told == replace(report, reduced=told.reduced)
    assert (reduced.width, reduced.height) == exact.size
    assert told.reduced in (2, 4, 8)
    assert rgb.size == tuple(-(-side // told.reduced) for side in exact.size)
    values, cropped = made(rgb, reduced)
    expected, share = made(exact)
    assert values.shape == expected.shape
    assert cropped == share
    assert np.abs(values - expected).max() < 4 / 255
    assert np.abs(values - expected).mean() < 1 / 255


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    first=st.sampled_from(sorted(FIRST)),
    margin=st.sampled_from([1.0, 1.3, 2.0, 3.0]),
    orientation=st.integers(1, 8),
)
def test_what_must_be_left_is_left_and_no_more_scale_would_leave_it(
    width: int, height: int, first: str, margin: float, orientation: int
) -> None:
    made = pipeline(first, margin)
    rgb, report, reduced = decoded(jpeg(Image.new("RGB", (width, height), (9, 99, 199)), orientation), made.least)
    upright = (width, height) if orientation < 5 else (height, width)
    least = made.least(*upright)
    fitting = [scale for scale in (2, 4, 8) if all(a // scale >= b for a, b in zip(upright, least, strict=True))]
    assert report.reduced == max(fitting, default=1)
    assert reduced is not None
    left, upper, right, lower = reduced.box
    assert 0 <= left < right <= rgb.width
    assert 0 <= upper < lower <= rgb.height
    if report.reduced == 1:
        assert reduced.box == (0, 0, *rgb.size)
    else:
        assert all(a >= b for a, b in zip(rgb.size, least, strict=True))
    assert (report.width, report.height) == (width, height)
    values, _ = made(rgb, reduced)
    assert values.shape == (3, 36, 50)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_every_kind_of_jpeg(mode: str) -> None:
    for options in ({}, {"progressive": True}):
        file = jpeg(smooth(640, 480).convert(mode), **options)
        made = pipeline("shortest")
        rgb, report, reduced = decoded(file, made.least)
        assert (report.reduced, report.mode) == (8, mode)
        assert np.abs(made(rgb, reduced)[0] - made(canonical(file)[0])[0]).mean() < 2 / 255


def test_nothing_but_jpeg_files_is_reduced(tmp_path: Path) -> None:
    least, picture = pipeline("shortest").least, smooth(640, 480)
    picture.save(tmp_path / "picture.png")
    (tmp_path / "picture.jpg").write_bytes(jpeg(picture))
    opened = Image.open(tmp_path / "picture.jpg")
    for given_ in (tmp_path / "picture.png", np.asarray(picture), picture, opened):
        _, report, reduced = decoded(given_, least)
        assert (report.reduced, reduced) == (1, None)
    assert opened.size == (640, 480)
    assert decoded(tmp_path / "picture.jpg", least)[1].reduced == 8


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_files_are_errors_as_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    least = pipeline("shortest").least
    file = jpeg(smooth(640, 480))
    for end in range(0, len(file) - 2, 997):
        with pytest.raises(ImageError):
            decoded(file[:end], least)
    random = np.random.default_rng(5)
    for _ in range(40):
        broken = bytearray(file)
        for place in random.integers(2, len(file), 12):
            broken[place] ^= 1 << int(random.integers(8))
        try:
            rgb, _, reduced = decoded(bytes(broken), least)
        except ImageError:
            continue
        assert pipeline("shortest")(rgb, reduced)[0].shape == (3, 36, 50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 640 * 480 - 1)
    with pytest.raises(ImageError, match="307,200 pixels"):
        decoded(file, least)


def fast(manifest: Manifest, *, by_itself: bool) -> Manifest:
    drift = Drift(Distances(48, 0.999, 0.99), 0.01, 1.0)
    component = manifest.components["model"]
    variants = {
        name: replace(variant, fast_decode=drift, decode="fast" if by_itself else "exact")
        for name, variant in component.variants.items()
    }
    image = manifest.preprocessing.image
    assert image is not None
    return replace(
        manifest,
        components={"model": replace(component, variants=variants)},
        preprocessing=replace(manifest.preprocessing, image=replace(image, reduced_decode=1.0)),
    )


def rewritten(bundle: Path, change: Callable[[Manifest], Manifest]) -> Path:
    file = bundle / MANIFEST_NAME
    file.write_bytes(encode(change(decode(file.read_bytes(), str(file)))))
    return bundle


def test_load_decodes_fast_where_that_was_measured_and_held(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    file = jpeg(smooth(640, 480))
    with sanderling.load(image_bundle) as model:
        assert model.decode == "exact"
        assert model(file).report.reduced == 1
    bundle = rewritten(copy_bundle(image_bundle), lambda manifest: fast(manifest, by_itself=True))
    with sanderling.load(bundle) as model:
        assert model.decode == "fast"
        answer = model(file)
        assert answer.report.reduced == 8
        assert (answer.report.width, answer.report.height) == (640, 480)
        both = model([file, np.asarray(smooth(640, 480))])
        assert [item.report.reduced for item in both] == [8, 1]
    with sanderling.load(bundle, decode="exact") as model:
        exact = model(file)
        assert (model.decode, exact.report.reduced) == ("exact", 1)
    np.testing.assert_allclose(answer.logits, exact.logits, atol=0.3)
    assert sanderling.verify(bundle).held


def test_load_decodes_fast_only_when_asked_where_it_was_measured_and_did_not_hold(
    copy_bundle: CopyBundle, image_bundle: Path
) -> None:
    bundle = rewritten(copy_bundle(image_bundle), lambda manifest: fast(manifest, by_itself=False))
    with sanderling.load(bundle) as model:
        assert model.decode == "exact"
    with sanderling.load(bundle, decode="fast") as model:
        assert model(jpeg(smooth(640, 480))).report.reduced == 8


def test_load_refuses_what_was_not_measured(image_bundle: Path, text_bundle: Path) -> None:
    for bundle in (image_bundle, text_bundle):
        with pytest.raises(BundleError, match="was not measured"):
            sanderling.load(bundle, decode="fast")
        with pytest.raises(InputError, match="decode is 'quick'; 'exact' or 'fast' was expected"):
            sanderling.load(bundle, decode="quick")  # type: ignore[arg-type]
        sanderling.load(bundle, decode="exact").close()


def _no_margin(manifest: dict[str, Any]) -> None:
    manifest["preprocessing"]["image"]["reduced_decode"] = None


def _no_drift(manifest: dict[str, Any]) -> None:
    manifest["components"]["model"]["variants"]["fp32"]["fast_decode"] = None


def _crop_first(manifest: dict[str, Any]) -> None:
    steps = manifest["preprocessing"]["image"]["steps"]
    steps[0], steps[1] = steps[1], steps[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_margin, "has a fast_decode, but no image.reduced_decode"),
        (_no_drift, "decodes fast, but its drift then is not stated"),
        (_crop_first, "of which the first is a resize"),
    ],
)
def test_contradictions_are_refused(change: Callable[[dict[str, Any]], None], message: str, image_bundle: Path) -> None:
    raw = encode(fast(decode((image_bundle / MANIFEST_NAME).read_bytes(), ""), by_itself=True))
    manifest = json.loads(raw)
    change(manifest)
    with pytest.raises(ManifestError, match=message):
        decode(json.dumps(manifest).encode(), "bundle.json")


def test_the_command_line_says_it(copy_bundle: CopyBundle, image_bundle: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    from sanderling.cli import build_app

    bundle = rewritten(copy_bundle(image_bundle), lambda manifest: fast(manifest, by_itself=True))
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(jpeg(smooth(640, 480)))
    runner = testing.CliRunner()
    told = runner.invoke(build_app(), ["run", str(bundle), str(photograph), "--json"])
    assert json.loads(told.stdout)["lost"]["reduced"] == 8
    exact = runner.invoke(build_app(), ["run", str(bundle), str(photograph), "--json", "--decode", "exact"])
    assert "reduced" not in json.loads(exact.stdout)["lost"]
    shown = runner.invoke(build_app(), ["inspect", str(bundle), "--drift"], env={"COLUMNS": "160"})
    assert "decoded at reduced scale" in shown.stdout
    found = json.loads(runner.invoke(build_app(), ["inspect", str(bundle), "--drift", "--json"]).stdout)
    (variant,) = found["variants"]
    assert variant["decode"] == "fast"
    assert variant["fast_decode"]["cosine"]["samples"] == 48
