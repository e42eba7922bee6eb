"""Crops of real photographs, in every pixel format an image file has, and a reference that prepares them anew."""

from __future__ import annotations

import importlib.util
import io
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checks import ROOT
from numpy.typing import NDArray
from PIL import Image, ImageOps

PHOTOGRAPHS = {
    "skimage": (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
        "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png",
        "retina.jpg", "rocket.jpg",
    ),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop as a file, and what the canonical step must make of it (8-bit RGB, upright, on white)."""

    name: str
    kind: str
    file: bytes
    upright: Image.Image


def photographs() -> dict[str, Path]:
    """Where the installed packages keep the photographs, by file name."""
    found = {}
    for package, names in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"The package {package} is not installed; make acceptance installs it.")
        folder = Path(spec.origin).parent / _FOLDERS[package]
        found |= {name: folder / name for name in names}
    return found


def unseen_by_calibration(recipe: str) -> list[str]:
    """File names of the photographs that a recipe does not calibrate on, nor on another view of the same scene."""
    parsed = tomllib.loads((ROOT / "models" / f"{recipe}.toml").read_text(encoding="utf-8"))
    seen = {place.rpartition("/")[2] for place in parsed["data"]["calibration"]}
    assert seen, f"models/{recipe}.toml names no photographs to calibrate on"
    scenes = [{"motorcycle_left.png", "motorcycle_right.png"}]
    seen |= {name for scene in scenes if scene & seen for name in scene}
    return [name for name in photographs() if name not in seen]


def crops(count: int, names: Sequence[str], *, seed: int, kinds: Sequence[str] | None = None) -> list[Crop]:
    """`count` crops of the photographs, none square, the kinds of file in turn."""
    places = photographs()
    opened = {name: Image.open(places[name]).convert("RGB") for name in names}
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        name = names[number % len(names)]
        kind = (kinds or KINDS)[number % len(kinds or KINDS)]
        made.append(_crop(opened[name], name, kind, rng))
    return made


def _crop(photograph: Image.Image, name: str, kind: str, rng: np.random.Generator) -> Crop:
    shorter = min(photograph.size)
    width, height = 0, 0
    while width == height:
        width, height = (int(rng.integers(min(160, shorter // 2), side + 1)) for side in photograph.size)
    left = int(rng.integers(0, photograph.width - width + 1))
    top = int(rng.integers(0, photograph.height - height + 1))
    rgb = photograph.crop((left, top, left + width, top + height))
    file, upright = _encoded(rgb, kind, rng)
    return Crop(f"{name} {width}x{height} {kind}", kind, file, upright)


_ORIENTED = {  # orientation tag: how a viewer turns the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
KINDS = (
    "RGB", "JPEG", "EXIF 6", "alpha", "EXIF 8", "palette", "grey", "CMYK", "16-bit grey", "EXIF 3", "grey and alpha",
    "palette and transparency", "1-bit", "WebP", "EXIF 5", "EXIF 2", "EXIF 4", "EXIF 7", "YCbCr TIFF",
)  # fmt: skip


def _encoded(rgb: Image.Image, kind: str, rng: np.random.Generator) -> tuple[bytes, Image.Image]:
    """The file, and its canonical image by the definition in the bundle format, written out here once more."""
    if kind.startswith("EXIF"):
        exif = Image.Exif()
        exif[0x0112] = int(kind.split()[1])
        file = _saved(rgb, "JPEG", quality=95, exif=exif.tobytes())
        return file, Image.open(io.BytesIO(file)).convert("RGB").transpose(_ORIENTED[exif[0x0112]])
    if kind in ("JPEG", "CMYK", "WebP", "YCbCr TIFF", "RGB"):
        mode, form = {
            "JPEG": ("RGB", "JPEG"),
            "CMYK": ("CMYK", "JPEG"),
            "WebP": ("RGB", "WEBP"),
            "YCbCr TIFF": ("YCbCr", "TIFF"),
            "RGB": ("RGB", "PNG"),
        }[kind]
        file = _saved(rgb.convert(mode), form)
        return file, ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    if kind in ("alpha", "grey and alpha"):
        base = rgb if kind == "alpha" else rgb.convert("L")
        layered = base.copy()
        layered.putalpha(_alpha(rgb.size, rng))
        return _saved(layered, "PNG"), _on_white(layered)
    if kind in ("palette", "palette and transparency"):
        indexed = rgb.quantize(200)
        if kind == "palette":
            return _saved(indexed, "PNG"), indexed.convert("RGB")
        file = _saved(indexed, "PNG", transparency=3)
        return file, _on_white(Image.open(io.BytesIO(file)).convert("RGBA"))
    if kind == "16-bit grey":
        grey = np.asarray(rgb.convert("L"), np.uint32) * 257
        deep = np.clip(grey + rng.integers(-120, 121, grey.shape), 0, 65535).astype(np.uint16)
        shallow = np.floor(deep / 257 + 0.5).astype(np.uint8)
        return _saved(Image.fromarray(deep), "PNG"), Image.fromarray(shallow).convert("RGB")
    plain = rgb.convert({"grey": "L", "1-bit": "1"}[kind])
    return _saved(plain, "PNG"), plain.convert("RGB")


def _alpha(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    ramp = np.linspace(0, 255, size[0])[None, :] + rng.integers(-40, 41, (size[1], size[0]))
    return Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    layers = np.asarray(image.convert("RGBA"), np.float64)
    alpha = layers[:, :, 3:] / 255.0
    return Image.fromarray(np.floor(layers[:, :, :3] * alpha + 255.0 * (1.0 - alpha) + 0.5).astype(np.uint8))


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def prepared(upright: Image.Image, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """The ImageNet evaluation of torchvision, written from its documentation, on Pillow and torch: (3, 224, 224).

    Resize(256, bicubic): the shorter side becomes 256, the longer int(256 * longer / shorter). CenterCrop(224):
    the offset is rounded to the nearest, ties to even. ToTensor: divided by 255. Normalize: (x - mean) / std.
    """
    import torch

    width, height = upright.size
    longer = int(256 * max(width, height) / min(width, height))
    size = (256, longer) if width <= height else (longer, 256)
    resized = upright if size == upright.size else upright.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - 224) / 2.0), round((size[1] - 224) / 2.0)
    cut = resized.crop((left, top, left + 224, top + 224))
    tensor = torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    shift, scale = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))
    found: NDArray[np.float32] = tensor.sub(shift).div(scale).numpy()
    return found
