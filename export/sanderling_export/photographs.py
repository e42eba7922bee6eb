"""Photographs to calibrate and to measure on: crops of a few, so that one installed photo serves as many samples."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sanderling.errors import ExportError
from sanderling.preprocess.canonical import canonical
from sanderling_export import references

# Installed with scikit-image and scikit-learn: what a checkpoint without a recipe is calibrated and checked on.
CALIBRATION = (
    "package:skimage/data/astronaut.png",
    "package:skimage/data/motorcycle_left.png",
    "package:skimage/data/camera.png",
    "package:skimage/data/retina.jpg",
    "package:skimage/data/ihc.png",
    "package:skimage/data/brick.png",
    "package:skimage/data/grass.png",
    "package:skimage/data/hubble_deep_field.jpg",
    "package:skimage/data/coins.png",
    "package:sklearn/datasets/images/flower.jpg",
)
CHECK = (
    "package:skimage/data/coffee.png",
    "package:skimage/data/chelsea.png",
    "package:skimage/data/rocket.jpg",
    "package:skimage/data/gravel.png",
    "package:skimage/data/moon.png",
    "package:sklearn/datasets/images/china.jpg",
)
_DISTRIBUTIONS = ("scikit-image", "scikit-learn")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_SEED = 20240501
_SMALLEST_CROP = 0.35
GOLDEN_SIDE = 192


def installed() -> bool:
    """Whether the default photographs are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("skimage", "sklearn"))


def load(names: Sequence[str], base: Path) -> list[Image.Image]:
    """The photographs of references, as 8-bit RGB."""
    return [canonical(references.locate(name, base, _DISTRIBUTIONS))[0] for name in names]


def folder(path: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """The images of a folder, every other one for calibration and for the check. Raises ExportError."""
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in _SUFFIXES and p.is_file()]
    if len(files) < 2:
        raise ExportError(
            f"{path} holds {len(files)} images ({', '.join(sorted(_SUFFIXES))}); at least 2 are needed, one to "
            "calibrate on and one to measure with; 100 are better."
        )
    images = [canonical(file)[0] for file in files]
    return images[::2], images[1::2]


def crops(photographs: Sequence[Image.Image], count: int, seed: int = _SEED) -> list[Image.Image]:
    """`count` random crops of the photographs in turn, none square but by chance, half of them mirrored."""
    draw = random.Random(seed)
    found = []
    for index in range(count):
        image = photographs[index % len(photographs)]
        share = draw.uniform(_SMALLEST_CROP, 1.0)
        width = max(1, int(image.width * share * draw.uniform(0.8, 1.0)))
        height = max(1, int(image.height * share * draw.uniform(0.8, 1.0)))
        left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
        crop = image.crop((left, top, left + width, top + height))
        mirrored = draw.random() < 0.5
        found.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop)
    return found


def golden(photographs: Sequence[Image.Image], count: int) -> list[Image.Image]:
    """Small crops to keep in the bundle: at most 192 pixels a side, so that each is some 50 kB as PNG."""
    found = []
    for crop in crops(photographs, count, _SEED + 1):
        crop.thumbnail((GOLDEN_SIDE, GOLDEN_SIDE), Image.Resampling.LANCZOS)
        found.append(crop)
    return found
