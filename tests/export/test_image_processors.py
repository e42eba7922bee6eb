"""Image processors of transformers as steps: the same tensors for images of all shapes and kinds, or a refusal."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

transformers = pytest.importorskip("transformers", reason="the extra [export] is not installed")

from sanderling.errors import CheckpointError, RecipeError  # noqa: E402
from sanderling.preprocess.canonical import canonical  # noqa: E402
from sanderling.preprocess.image import ImagePipeline  # noqa: E402
from sanderling.schema.preprocessing import (  # noqa: E402
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
)
from sanderling_export import images  # noqa: E402

SIZES = ((90, 134), (133, 61), (29, 31), (20, 260))
MODES = ("RGB", "L", "P", "RGBA", "CMYK", "1", "LA")
SMALL = {"height": 40, "width": 40}

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "beit": ("BeitImageProcessor", {"size": {"height": 46, "width": 46}, "crop_size": SMALL}),
    "beit, no crop": ("BeitImageProcessor", {"size": SMALL, "do_center_crop": False, "do_reduce_labels": True}),
    "bit": ("BitImageProcessor", {"size": {"shortest_edge": 48}, "crop_size": SMALL}),
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SMALL}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 40}, "crop_pct": 0.875}),
    "convnext, squeezed": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "deit": ("DeiTImageProcessor", {"size": {"height": 46, "width": 50}, "crop_size": SMALL}),
    "efficientnet": ("EfficientNetImageProcessor", {"size": SMALL}),
    "efficientnet, offset and crop": (
        "EfficientNetImageProcessor",
        {
            "size": {"height": 48, "width": 44},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": SMALL,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
        },
    ),
    "efficientnet, without top": ("EfficientNetImageProcessor", {"size": SMALL, "include_top": False}),
    "levit": ("LevitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SMALL}),
    "mobilenet v1": ("MobileNetV1ImageProcessor", {"size": {"shortest_edge": 45}, "crop_size": SMALL}),
    "mobilenet v2": ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 45}, "crop_size": SMALL}),
    "mobilevit, BGR": ("MobileViTImageProcessor", {"size": {"shortest_edge": 46}, "crop_size": SMALL}),
    "mobilevit, RGB": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": SMALL, "do_flip_channel_order": False},
    ),
    "poolformer": ("PoolFormerImageProcessor", {"size": {"shortest_edge": 40}, "crop_pct": 0.9, "crop_size": SMALL}),
    "poolformer, square": ("PoolFormerImageProcessor", {"size": SMALL, "crop_pct": 0.9, "crop_size": SMALL}),
    "poolformer, not square": (
        "PoolFormerImageProcessor",
        {"size": {"height": 42, "width": 38}, "crop_pct": 0.8, "crop_size": SMALL},
    ),
    "pvt": ("PvtImageProcessor", {"size": SMALL}),
    "segformer": ("SegformerImageProcessor", {"size": SMALL}),
    "siglip": ("SiglipImageProcessor", {"size": SMALL}),
    "idefics 3, whole": (
        "Idefics3ImageProcessor",
        {"size": {"longest_edge": 93}, "max_image_size": {"longest_edge": 40}, "do_image_splitting": False},
    ),
    "smolvlm, whole": (
        "SmolVLMImageProcessor",
        {"size": {"longest_edge": 80}, "max_image_size": {"longest_edge": 40}, "do_image_splitting": False},
    ),
    "vilt": ("ViltImageProcessor", {"size": {"shortest_edge": 42}, "size_divisor": 3}),
    "vit": ("ViTImageProcessor", {"size": SMALL, "resample": 1}),
    "vit, saved by a processor on tensors": (
        "ViTImageProcessor",
        {"size": SMALL, "default_to_square": True, "data_format": "channels_first", "disable_grouping": None},
    ),
}


def made(name: str) -> Any:
    kind, options = PROCESSORS[name]
    return getattr(transformers, kind)(**options)


def picture(height: int, width: int, mode: str) -> bytes:
    """A file of the kind, with detail at every scale."""
    draw = np.random.default_rng((height, width))
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([np.sin(x / (3 + c)) * 60 + np.cos(y / (5 - c)) * 50 + 120 for c in range(3)], axis=-1)
    pixels += draw.normal(0, 20, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode[:-1])
        image.putalpha(Image.fromarray(np.clip(x * 3, 0, 255).astype(np.uint8)))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_same_tensors(name: str) -> None:
    processor = made(name)
    pipeline = ImagePipeline(images.steps(processor))
    for index, (height, width) in enumerate(SIZES):
        for mode in MODES[index % 2 :: 2]:
            rgb, _ = canonical(picture(height, width, mode))
            expected = processor(images=rgb, return_tensors="np")["pixel_values"][0]
            if name.endswith(", whole"):
                (expected,) = expected  # a list of pictures, of which there is one
            values, _ = pipeline(rgb)
            assert values.shape == expected.shape
            assert np.abs(values - expected).max() <= 1e-6, (name, height, width, mode)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "patches": ("Siglip2ImageProcessor", {}, r"it sets max_num_patches \(256\), patch_size \(16\)"),
    "a multiple": ("TextNetImageProcessor", {}, r"it sets size_divisor \(32\)"),
    "thumbnails and padding": ("DonutImageProcessor", {}, r"it sets do_pad \(True\), do_thumbnail \(True\)"),
    "colours": ("ImageGPTImageProcessor", {"clusters": [[0, 0, 0]]}, r"clusters .*, do_color_quantize \(True\)"),
    "a setting of the future": ("ViTImageProcessor", {"do_sharpen": True}, r"it sets do_sharpen \(True\)"),
    "both edges": (
        "ViTImageProcessor",
        {"size": {"shortest_edge": 20, "longest_edge": 40}},
        "its size is .*longest_edge",
    ),
    "a crop by share": ("PerceiverImageProcessor", {}, "it does more than its settings say"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_step_says_is_refused_by_its_name(name: str) -> None:
    kind, options, message = REFUSED[name]
    processor = getattr(transformers, kind)(**options)
    for setting, value in options.items():
        setattr(processor, setting, value)  # a slow processor may drop what it does not know; its file would not
    with pytest.raises(CheckpointError, match=message):
        images.steps(processor)


@pytest.mark.parametrize("rounding", ["floor", "half_even"])
@pytest.mark.parametrize("first", [Resize(45, 52, "bilinear"), ResizeShortest(37, "bicubic")])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_recipes_steps_in_torch_and_here(first: ImageStep, rounding: Any, channels: Any) -> None:
    """Crops that are smaller, larger, and both, with a pixel left over on each side."""
    torch_preprocess = pytest.importorskip("sanderling_export.original").torch_preprocess
    rest = (Rescale(divisor=255.0), Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    for crop in ((40, 40), (38, 61), (60, 39), (64, 63)):
        settings = ImagePreprocessing((first, CenterCrop(*crop, rounding), *rest), channels)
        pipeline = ImagePipeline(settings)
        for height, width in SIZES:
            rgb, _ = canonical(picture(height, width, "RGB"))
            assert np.array_equal(pipeline(rgb)[0], torch_preprocess(rgb, settings).numpy())


@pytest.mark.parametrize(
    "step", [ResizeFit(40, 40, "cover", "bilinear"), CenterCrop(40, 40, "half_even", (9, 9, 9))], ids=["fit", "fill"]
)
def test_steps_that_are_timms_alone_are_refused_in_recipes(step: ImageStep) -> None:
    torch_preprocess = pytest.importorskip("sanderling_export.original").torch_preprocess
    with pytest.raises(RecipeError, match=r"A recipe's image\.steps"):
        torch_preprocess(canonical(picture(30, 30, "RGB"))[0], ImagePreprocessing((step, Rescale(divisor=255.0))))
