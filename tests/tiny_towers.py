"""`tiny-clip`: a bundle of two towers of a few kilobytes, whose answers numpy gives independently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_bundles import (
    DIMENSION,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    PICTURE,
    TABLE,
    TEXTS,
    Graph,
    _Build,
    _spec,
    _text_settings,
    _token_tensors,
    png,
    reference_pixels,
    token_ids,
)

from sanderling.manifest import Preprocessing
from sanderling.schema.answers import ContrastiveOutput
from sanderling.schema.preprocessing import CenterCrop, ImagePreprocessing, Normalize, Rescale, Resize
from sanderling.schema.variants import TensorSpec, Tolerance
from sanderling.schema.vectors import EmbeddingOutput

SCALE, BIAS = 10.0, -2.0
TEMPLATE = "the {}"
SPACE = "7" * 64
_RANDOM = np.random.default_rng(20240301)
WEIGHT = _RANDOM.normal(size=(3 * IMAGE_HEIGHT * IMAGE_WIDTH, DIMENSION)).astype(np.float32)


def reference_text(text: str) -> NDArray[np.float32]:
    """Mean of the tokens' table rows, normalized; (DIMENSION,)."""
    mean = TABLE[token_ids(text)].astype(np.float64).mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def reference_image(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The pixels through a linear layer, normalized; (DIMENSION,)."""
    found = reference_pixels(picture).reshape(-1).astype(np.float64) @ WEIGHT
    return (found / np.linalg.norm(found)).astype(np.float32)


def dual_bundle(target: Path, **head: Any) -> Path:
    """`tiny-clip` in fp32 and in a quantized variant whose text tower rounds its table; `head` changes its scores."""
    scale = np.float32(np.abs(TABLE).max() / 127)
    texts: dict[str, Graph] = {
        "fp32": (_mean("table"), {"table": TABLE, **_AXES}),
        "int8-dynamic": (
            [helper.make_node("DequantizeLinear", ["whole", "scale"], ["table"]), *_mean("table")],
            {"whole": np.round(TABLE / scale).astype(np.int8), "scale": np.array(scale), **_AXES},
        ),
    }
    flat = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["image_embeds"]),
    ]
    images: dict[str, Graph] = dict.fromkeys(texts, (flat, {"weight": WEIGHT}))
    taken = (_spec("input_ids", "int64"), _spec("attention_mask", "int64"))
    seen = (TensorSpec("pixel_values", "float32", ("batch", 3, IMAGE_HEIGHT, IMAGE_WIDTH)),)
    steps = (
        Resize(IMAGE_HEIGHT, IMAGE_WIDTH + 2, "bilinear"),
        CenterCrop(IMAGE_HEIGHT, IMAGE_WIDTH),
        Rescale(divisor=255.0),
        Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    tolerances = {"fp32": Tolerance(0.999999, 1e-4), "int8-dynamic": Tolerance(0.999)}
    tensors = {f"{name}.output": reference_text(content) for name, content in TEXTS.items()} | _token_tensors()
    tensors |= {
        "shore.output": reference_image(PICTURE),
        "shore.input.pixel_values": np.ascontiguousarray(reference_pixels(PICTURE)),
    }
    with _Build(target) as build:
        settings = _text_settings(build, prompts={})
        picture = build.write("golden/shore.png", png(PICTURE))
        samples = [{"id": name, "text": content} for name, content in TEXTS.items()]
        build.commit(
            "tiny-clip",
            ("multimodal", "zero-shot-image-classification"),
            {
                "text_encoder": build.component((taken, (_vector("text_embeds"),)), texts, tolerances, "text_encoder"),
                "vision_encoder": build.component(
                    (seen, (_vector("image_embeds"),)), images, tolerances, "vision_encoder"
                ),
            },
            Preprocessing(text=settings, image=ImagePreprocessing(steps)),
            ContrastiveOutput(
                **{
                    "text": EmbeddingOutput("text_embeds", "none", True, DIMENSION),
                    "image": EmbeddingOutput("image_embeds", "none", True, DIMENSION),
                    "activation": "softmax",
                    "logit_scale": SCALE,
                    "templates": (TEMPLATE,),
                    **head,
                }
            ),
            build.golden([*samples, {"id": "shore", "image": picture}], tensors),
            space=SPACE,
        )
    return target


_AXES = {"last": np.array([2], np.int64), "middle": np.array([1], np.int64)}


def _mean(table: str) -> list[Any]:
    return [
        helper.make_node("Gather", [table, "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["text_embeds"]),
    ]


def _vector(name: str) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", DIMENSION))
