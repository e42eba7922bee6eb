"""JPEG files at reduced scale: how small they may be decoded, and how far the answers drift then."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from sanderling import cores
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.loading import assemble
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.plan import default_plan
from sanderling.preprocess.canonical import canonical
from sanderling.preprocess.image import resized_size
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import ImagePreprocessing, Resize, ResizeFit, ResizeShortest
from sanderling.schema.variants import Drift, Variant
from sanderling_export import drift
from sanderling_export.original import Original
from sanderling_export.recipe import Floor

# Times the pixels a side that the first resize leaves: the least that is tried first, for it is the fastest. With
# EfficientNet-Lite0 in int8, 1 gave a mean cosine of 0.9938 and too few labels as the original's (44 of 47).
MARGINS = (1.0, 1.15, 1.4, 2.0)
# A floor of the mean cosine as near the original as fp32's is held by the largest margin, if by any.
_NEAR = 0.999
_SCALES = (2, 4, 8)
_FILES = 48
# A file is large enough for its scale, and up to so many times as large: the next scale begins at twice.
_LARGEST = 1.9
_MOST_PIXELS = 24_000_000
_QUALITY = 90
# Detail finer than so many pixels is laid over again, after enlarging.
_GRAIN = 2
_AT_A_TIME = 8
_SEED = 20240501

Measured = Mapping[str, Variant]


def measured(
    staging: Path,
    draft: Manifest,
    variants: Measured,
    source: Original,
    check: Sequence[object],
    floors: Mapping[str, Floor],
    component: str | None = None,
) -> tuple[ImagePreprocessing | None, dict[str, Variant]]:
    """The preprocessing with the least margin at which the default variant holds its floor, and the variants with their
    drift at it. Those that hold their floors decode fast from now on; where no margin will do, none does. Of a floor
    that only the largest margin might hold, no other is tried.

    Those are of one `component`, or of a bundle that has no other. `draft` is the manifest of the bundle in `staging`
    so far, `check` are RGB images that calibration never saw.
    """
    settings = draft.preprocessing.image
    if settings is None or not isinstance(settings.steps[0], Resize | ResizeShortest | ResizeFit):
        return settings, dict(variants)
    floor = floors[draft.default_variant]
    margins = MARGINS if floor.mean_cosine < _NEAR else MARGINS[-1:]
    if settings.reduced_decode is not None:
        margins = (settings.reduced_decode,)
    found: dict[str, Drift] = {}
    for margin in margins:
        settings = replace(settings, reduced_decode=margin)
        preprocessing = replace(draft.preprocessing, image=settings)
        (staging / MANIFEST_NAME).write_bytes(encode(replace(draft, preprocessing=preprocessing)))
        files, names = large_files([item for item in check if isinstance(item, Image.Image)], settings)
        if not files:
            return replace(settings, reduced_decode=None), dict(variants)
        expected = _answers(source, files)
        labels = isinstance(draft.postprocessing, ClassificationOutput)
        found = {name: _drift(staging, name, files, expected, names, labels, component) for name in variants}
        if not drift.shortfalls(found[draft.default_variant], floor):
            break
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    holding = {name for name, one in found.items() if not drift.shortfalls(one, floors[name])}
    return settings, {
        name: replace(variant, fast_decode=found[name], decode="fast" if name in holding else "exact")
        for name, variant in variants.items()
    }


def large_files(images: Sequence[Image.Image], settings: ImagePreprocessing) -> tuple[list[bytes], list[str]]:
    """JPEG files of the images, each large enough to be decoded at a half, a quarter or an eighth, and what they are.

    A photograph that is enlarged has lost what reduced decoding leaves out: its finest detail. So that of the image's
    own pixels is laid over it again, side by side.
    """
    first, margin = settings.steps[0], settings.reduced_decode or 1.0
    assert isinstance(first, Resize | ResizeShortest | ResizeFit)  # asked before
    draw = random.Random(_SEED)
    files, names = [], []
    for index, image in enumerate(images[:_FILES]):
        scale = _SCALES[index % len(_SCALES)]
        wide, high = resized_size(first, image.size)
        times = scale * margin * draw.uniform(1.0, _LARGEST) * max(wide / image.width, high / image.height)
        size = (int(image.width * times) + scale, int(image.height * times) + scale)
        if size[0] * size[1] > _MOST_PIXELS:
            continue
        buffer = io.BytesIO()
        _enlarged(image, size).save(buffer, "JPEG", quality=_QUALITY)
        files.append(buffer.getvalue())
        names.append(f"image {index + 1} ({size[0]} x {size[1]}, decoded at 1/{scale})")
    return files, names


def _enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    large = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = np.asarray(image, np.int16) - np.asarray(_smooth(image), np.int16)
    rows = _mirrored(image.height, size[1])
    columns = _mirrored(image.width, size[0])
    return Image.fromarray(np.clip(large + grain[rows][:, columns], 0, 255).astype(np.uint8))


def _smooth(image: Image.Image) -> Image.Image:
    small = (max(1, image.width // _GRAIN), max(1, image.height // _GRAIN))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)


def _mirrored(side: int, length: int) -> NDArray[np.int64]:
    """Places that lead to and fro over a side, as often as it takes."""
    place = np.arange(length) % (2 * side)
    return np.minimum(place, 2 * side - 1 - place)


def _answers(source: Original, files: Sequence[bytes]) -> NDArray[np.float32]:
    """The original's answers to the files, decoded in full, a few at a time: each is large."""
    parts = [files[start : start + _AT_A_TIME] for start in range(0, len(files), _AT_A_TIME)]
    return np.concatenate([source.answers([canonical(file)[0] for file in part]) for part in parts])


def _drift(
    staging: Path,
    name: str,
    files: list[bytes],
    expected: NDArray[np.float32],
    names: list[str],
    labels: bool,
    component: str | None,
) -> Drift:
    plan = replace(default_plan(name, "cpu", cores.granted()), decode="fast")
    with assemble(open_bundle(staging, integrity="full"), plan, components=component) as model:
        rows = model.answer(list(files)).rows
    return drift.measure(rows, expected, labels=labels, names=names)
