"""How far JPEG files may be reduced is measured on files just large enough, and stated whether it holds or not."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_bundles
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("torch", reason="the extra [export] is not installed")

import sanderling
from sanderling.codec import encode
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.preprocess.canonical import decoded
from sanderling.preprocess.image import ImagePipeline
from sanderling.schema.preprocessing import CenterCrop, ImagePreprocessing, Rescale, Resize, ResizeShortest
from sanderling_export import decoding
from sanderling_export.recipe import DEFAULT_FLOORS, Floor

CopyBundle = Callable[[Path], Path]


class Reference:
    """Answers as the original of the tiny bundle does; counts what it was asked."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def answers(self, items: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.sizes += [item.size for item in items]
        return np.stack([tiny_bundles.reference_image_logits(np.asarray(item)) for item in items])


def pictures(count: int) -> list[Image.Image]:
    draw = np.random.default_rng(9)
    found = []
    for _ in range(count):
        height, width = int(draw.integers(20, 60)), int(draw.integers(20, 60))
        coarse = Image.fromarray(draw.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        found.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return found


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_files_are_just_large_enough_for_their_scale(margin: float) -> None:
    settings = ImagePreprocessing((ResizeShortest(16, "bicubic"), CenterCrop(14, 14)), reduced_decode=margin)
    files, names = decoding.large_files(pictures(24), settings)
    least = ImagePipeline(replace(settings, steps=(*settings.steps, Rescale(divisor=255.0)))).least
    found = [decoded(file, least)[1].reduced for file in files]
    assert len(files) == len(names) == 24
    assert found == [2, 4, 8] * 8
    assert all(f"decoded at 1/{scale}" in name for scale, name in zip(found, names, strict=True))


def test_the_grain_of_the_image_is_there_again() -> None:
    draw = np.random.default_rng(2)
    grained = Image.fromarray(draw.integers(90, 166, (40, 50, 3), dtype=np.uint8))
    (file,), _ = decoding.large_files([grained], ImagePreprocessing((Resize(30, 30, "bicubic"),), reduced_decode=4.0))
    large = Image.open(io.BytesIO(file)).convert("RGB")
    finest = np.abs(np.diff(np.asarray(large, np.int16), axis=1)).mean()
    plain = np.asarray(grained.resize(large.size, Image.Resampling.BICUBIC), np.int16)
    assert finest > 3 * np.abs(np.diff(plain, axis=1)).mean()


def measured(bundle: Path, floor: Floor, draft: Manifest | None = None) -> tuple[Manifest, Reference]:
    draft = draft or tiny_bundles.read_manifest(bundle)
    source = Reference()
    component = draft.components["model"]
    image, variants = decoding.measured(
        bundle,
        draft,
        component.variants,
        source,  # type: ignore[arg-type]
        pictures(30),
        {"fp32": floor},
    )
    made = replace(
        draft,
        components={"model": replace(component, variants=variants)},
        preprocessing=replace(draft.preprocessing, image=image),
    )
    (bundle / MANIFEST_NAME).write_bytes(encode(made))
    return made, source


def test_what_holds_the_floor_is_done(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    bundle = copy_bundle(image_bundle)
    made, source = measured(bundle, Floor(mean_cosine=0.9, min_cosine=0.5))
    variant = made.components["model"].variants["fp32"]
    assert made.preprocessing.image is not None
    assert made.preprocessing.image.reduced_decode == 1.0
    assert variant.decode == "fast"
    assert variant.fast_decode is not None
    assert variant.fast_decode.cosine.samples == len(source.sizes) == 30
    assert 0.9 < variant.fast_decode.cosine.mean < 1.0
    assert variant.fast_decode.agreement is not None
    assert len(variant.fast_decode.worst) == 5
    # Original and variant were asked about the same files: the original saw them in full.
    assert min(min(size) for size in source.sizes) >= 2 * tiny_bundles.IMAGE_HEIGHT
    with sanderling.load(bundle) as model:
        assert model.decode == "fast"


def test_what_holds_no_floor_is_stated_and_not_done(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    bundle = copy_bundle(image_bundle)
    made, source = measured(bundle, Floor(mean_cosine=0.99, min_cosine=1.0))
    variant = made.components["model"].variants["fp32"]
    assert made.preprocessing.image is not None
    assert made.preprocessing.image.reduced_decode == max(decoding.MARGINS)
    assert len(source.sizes) == 30 * len(decoding.MARGINS)
    assert variant.decode == "exact"
    assert variant.fast_decode is not None
    with sanderling.load(bundle) as model:
        assert model.decode == "exact"
    sanderling.load(bundle, decode="fast").close()


def test_a_floor_as_near_as_that_of_fp32_is_tried_with_the_largest_margin_alone(
    copy_bundle: CopyBundle, image_bundle: Path
) -> None:
    made, source = measured(copy_bundle(image_bundle), DEFAULT_FLOORS["fp32"])
    assert made.preprocessing.image is not None
    assert made.preprocessing.image.reduced_decode == max(decoding.MARGINS)
    assert len(source.sizes) == 30
    assert made.components["model"].variants["fp32"].decode == "exact"


def test_a_margin_that_was_given_is_the_only_one(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    bundle = copy_bundle(image_bundle)
    draft = tiny_bundles.read_manifest(bundle)
    assert draft.preprocessing.image is not None
    image = replace(draft.preprocessing.image, reduced_decode=3.0)
    draft = replace(draft, preprocessing=replace(draft.preprocessing, image=image))
    made, source = measured(bundle, Floor(mean_cosine=1.0), draft)
    assert made.preprocessing.image is not None
    assert made.preprocessing.image.reduced_decode == 3.0
    assert len(source.sizes) == 30


def test_without_a_resize_first_nothing_is_reduced(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    bundle = copy_bundle(image_bundle)
    draft = tiny_bundles.read_manifest(bundle)
    assert draft.preprocessing.image is not None
    image = replace(draft.preprocessing.image, steps=draft.preprocessing.image.steps[1:])
    made, source = measured(bundle, Floor(), replace(draft, preprocessing=replace(draft.preprocessing, image=image)))
    assert made.preprocessing.image is not None
    assert made.preprocessing.image.reduced_decode is None
    assert made.components["model"].variants["fp32"].fast_decode is None
    assert source.sizes == []
