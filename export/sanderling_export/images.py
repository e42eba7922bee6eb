"""A Hugging Face image processor as the manifest's steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sanderling.errors import CheckpointError
from sanderling.manifest import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeShortest,
)
from sanderling.preprocess.image import ImagePipeline

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# ConvNeXt's processor shrinks and crops below this size, and squeezes at it or above.
_CONVNEXT_SQUEEZES = 384
_TOLERANCE = 1e-6


def steps(processor: Any) -> ImagePreprocessing:
    """The steps that `processor` (not a fast one) takes on an RGB image.

    What it does is then compared with these steps on two images, so that an unknown option cannot slip through.
    Raises CheckpointError: a processor that no list of steps describes.
    """
    found: list[ImageStep] = []
    if getattr(processor, "do_resize", False):
        found += _resize(processor)
    if getattr(processor, "do_center_crop", False):
        found.append(CenterCrop(*_height_width(processor, processor.crop_size)))
    if getattr(processor, "do_rescale", False):
        found.append(Rescale(factor=float(processor.rescale_factor)))
    if getattr(processor, "do_normalize", False):
        found.append(Normalize(_three(processor.image_mean), _three(processor.image_std)))
    if not found:
        raise _unknown(processor, "it does nothing that is known")
    settings = ImagePreprocessing(tuple(found))
    _compare(processor, settings)
    return settings


def _resize(processor: Any) -> list[ImageStep]:
    size, resample = dict(processor.size), _RESAMPLE[int(processor.resample)]
    shortest = size.get("shortest_edge")
    if "ConvNext" in type(processor).__name__ and shortest:
        if shortest >= _CONVNEXT_SQUEEZES:
            return [Resize(shortest, shortest, resample)]  # type: ignore[arg-type]
        return [
            ResizeShortest(int(shortest / processor.crop_pct), resample),  # type: ignore[arg-type]
            CenterCrop(shortest, shortest),
        ]
    if shortest and "longest_edge" not in size:
        return [ResizeShortest(shortest, resample)]  # type: ignore[arg-type]
    return [Resize(*_height_width(processor, size), resample)]  # type: ignore[arg-type]


def _height_width(processor: Any, size: Any) -> tuple[int, int]:
    if set(size) != {"height", "width"}:
        raise _unknown(processor, f"its size is {dict(size)!r}")
    return int(size["height"]), int(size["width"])


def _three(values: Any) -> tuple[float, float, float]:
    listed = [float(v) for v in values] if hasattr(values, "__iter__") else [float(values)] * 3
    if len(listed) != 3:
        raise CheckpointError(f"The image processor normalizes {len(listed)} channels; Sanderling takes images of 3.")
    return listed[0], listed[1], listed[2]


def _compare(processor: Any, settings: ImagePreprocessing) -> None:
    pipeline = ImagePipeline(settings)
    draw = np.random.default_rng(0)
    for height, width in ((271, 389), (612, 345)):
        coarse = Image.fromarray(draw.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        expected = processor(images=image, return_tensors="np")["pixel_values"][0]
        values, _ = pipeline(image)
        if values.shape != expected.shape or np.abs(values - expected).max() > _TOLERANCE:
            raise _unknown(processor, "it does more than its settings say")


def _unknown(processor: Any, why: str) -> CheckpointError:
    return CheckpointError(
        f"The image processor {type(processor).__name__} cannot be written as resize, crop, rescale and normalize: "
        f"{why}. Write a recipe with [[image.steps]] that say what the model expects."
    )
