"""A Hugging Face image processor as the manifest's steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sanderling.errors import CheckpointError
from sanderling.preprocess.image import ImagePipeline
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeBounded,
    ResizeLongest,
    ResizeShortest,
)

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# ConvNeXt's processor shrinks and crops below this size, and squeezes at it or above.
_CONVNEXT_SQUEEZES = 384
# LeViT's processor leaves this margin around what it crops to.
_LEVIT_MARGIN = 256 / 224
TOLERANCE = 1e-6
# Which brings pictures to a size between bounds, and in a batch to one size.
_VILT = "ViltImageProcessor"
# Which bring pictures to a longest side, then to a square, and in a batch to as many.
_IDEFICS = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")

# What a list of steps can say.
_KNOWN = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor",
    "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top", "do_flip_channel_order",
}  # fmt: skip
# What changes no image here: names, what the canonical step does already, what is for other inputs (masks and boxes)
# or for the processors on tensors, which are not what is compared with.
_INERT = {
    "_processor_class", "processor_class", "image_processor_type", "feature_extractor_type", "_valid_processor_keys",
    "do_convert_rgb", "do_reduce_labels", "reduce_labels", "do_convert_annotations", "format", "pad_size",
    "data_format", "input_data_format", "return_tensors", "device", "default_to_square", "disable_grouping",
    "use_square_size", "auto_map", "_name_or_path",
}  # fmt: skip
# Noise of these sizes (height, width) is compared: wide, tall, smaller than any crop, long and thin.
_COMPARED = ((271, 389), (612, 345), (41, 56), (36, 700))


def steps(processor: Any) -> ImagePreprocessing:
    """The steps that `processor` (not a fast one) takes on an RGB image.

    What it does is then compared with these steps on several images, so that nothing it does can slip through.
    Raises CheckpointError: a processor that no list of steps describes, with the name of the setting that none does.
    """
    _refuse_unknown(processor)
    found: list[ImageStep] = []
    if getattr(processor, "do_resize", False):
        found += _resize(processor)
    if getattr(processor, "do_center_crop", False):
        found.append(CenterCrop(*_height_width(processor, processor.crop_size)))
    if getattr(processor, "do_rescale", False):
        found.append(Rescale(factor=float(processor.rescale_factor)))
        if getattr(processor, "rescale_offset", False):
            found.append(Normalize((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)))
    if getattr(processor, "do_normalize", False):
        found.append(Normalize(_three(processor.image_mean), _three(processor.image_std)))
    if getattr(processor, "include_top", False):
        found.append(Normalize((0.0, 0.0, 0.0), _three(processor.image_std)))
    if not found:
        raise _unknown(processor, "it does nothing that is known")
    flipped = bool(getattr(processor, "do_flip_channel_order", False))
    settings = ImagePreprocessing(tuple(found), "BGR" if flipped else "RGB")
    _compare(processor, settings)
    return settings


def _refuse_unknown(processor: Any) -> None:
    known = _KNOWN | _INERT
    if type(processor).__name__ == _VILT:
        known = known | {"size_divisor", "do_pad"}  # to the largest of a batch: nothing where a picture is by itself
    if type(processor).__name__ in _IDEFICS:
        if processor.do_image_splitting:
            raise _unknown(processor, "it cuts pictures into tiles; set do_image_splitting to false in its config")
        known = known | {"do_pad", "max_image_size", "do_image_splitting"}
    said = {name: value for name, value in processor.to_dict().items() if name not in known}
    acting = sorted(name for name, value in said.items() if value is not None and value is not False)
    if acting:
        named = ", ".join(f"{name} ({str(said[name])[:60]})" for name in acting[:5])
        raise _unknown(processor, f"it sets {named}")


def _resize(processor: Any) -> list[ImageStep]:
    size, resample = dict(processor.size), RESAMPLE[int(processor.resample)]
    kind, shortest, pct = type(processor).__name__, size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if kind in _IDEFICS:
        side = int(processor.max_image_size["longest_edge"])
        return [ResizeLongest(int(size["longest_edge"]), resample), Resize(side, side, resample)]  # type: ignore[arg-type]
    if kind == _VILT and shortest:
        # The longer side is bounded by 1333 where the shorter one is 800, and in proportion.
        longest = int(1333 / 800 * shortest)
        return [ResizeBounded(shortest, longest, int(processor.size_divisor), resample)]  # type: ignore[arg-type]
    if shortest and "longest_edge" in size:
        raise _unknown(processor, f"its size is {size!r}")
    if "ConvNext" in kind and shortest:
        if shortest >= _CONVNEXT_SQUEEZES:
            return [Resize(shortest, shortest, resample)]  # type: ignore[arg-type]
        return [
            ResizeShortest(int(shortest / pct), resample),  # type: ignore[arg-type]
            CenterCrop(shortest, shortest),
        ]
    if shortest and "Levit" in kind:
        return [ResizeShortest(int(_LEVIT_MARGIN * shortest), resample)]  # type: ignore[arg-type]
    if shortest:
        return [ResizeShortest(int(shortest / pct) if pct else shortest, resample)]  # type: ignore[arg-type]
    height, width = _height_width(processor, size)
    if pct and height == width:
        return [ResizeShortest(int(height / pct), resample)]  # type: ignore[arg-type]
    if pct:
        return [Resize(int(height / pct), int(width / pct), resample)]  # type: ignore[arg-type]
    return [Resize(height, width, resample)]  # type: ignore[arg-type]


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
    for image in noise():
        expected = processor(images=image, return_tensors="np")["pixel_values"][0]
        if type(processor).__name__ in _IDEFICS:
            (expected,) = expected  # a list of pictures, of which there is one
        values, _ = pipeline(image)
        if values.shape != expected.shape or np.abs(values - expected).max() > TOLERANCE:
            raise _unknown(processor, "it does more than its settings say")


def noise() -> list[Image.Image]:
    """Made-up RGB images of all shapes, with detail at every scale, to compare two ways of preprocessing on."""
    draw = np.random.default_rng(0)
    found = []
    for height, width in _COMPARED:
        coarse = Image.fromarray(draw.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8))
        found.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return found


def _unknown(processor: Any, why: str) -> CheckpointError:
    return CheckpointError(
        f"The image processor {type(processor).__name__} cannot be written as resize, crop, rescale and normalize: "
        f"{why}. Write a recipe with [[image.steps]] that say what the model expects."
    )
