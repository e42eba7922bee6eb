"""Photographs with faces, and each of them changed: two pictures of one face, whoever it is, without asking."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from sanderling.faces.verification import matched
from sanderling.preprocess.canonical import canonical
from sanderling_export import references
from sanderling_export.faces.library import FaceLibrary, Sight

Boxes = NDArray[np.float64]

_DARK = 0.6
_QUALITY = 30
_TRIMMED = (37, 23, 11, 9)
_LEAST_SHARED = 0.3


@dataclass(frozen=True, slots=True)
class Alteration:
    """A change of a photograph, and where it takes boxes (n, 4) of one that was (width, height)."""

    name: str
    change: Callable[[Image.Image], Image.Image]
    place: Callable[[Boxes, tuple[int, int]], Boxes]


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image) -> Image.Image:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=_QUALITY)
    return Image.open(kept).convert("RGB")


def _trim(image: Image.Image) -> Image.Image:
    left, top, right, bottom = _TRIMMED
    return image.crop((left, top, image.width - right, image.height - bottom))


def _as_it_is(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    del size
    return boxes


ALTERATIONS = (
    Alteration("half the size", _half, lambda boxes, _: boxes / 2),
    Alteration("mirrored", ImageOps.mirror, lambda boxes, size: _mirrored(boxes, size[0])),
    Alteration(f"JPEG of quality {_QUALITY}", _jpeg, _as_it_is),
    Alteration(f"{_DARK:g} of the light", lambda image: ImageEnhance.Brightness(image).enhance(_DARK), _as_it_is),
    Alteration("trimmed", _trim, lambda boxes, _: boxes - np.array(2 * _TRIMMED[:2])),
)


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    return np.column_stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]])


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph's faces, and the same faces in its altered copies: None where one is not found there."""

    name: str
    image: Image.Image
    faces: list[Sight]
    altered: dict[str, list[Sight | None]]

    @property
    def sights(self) -> list[Sight]:
        """Every sight of every face."""
        again = [sight for found in self.altered.values() for sight in found if sight is not None]
        return [*self.faces, *again]


def load(references_: Sequence[str], base: Path, distributions: tuple[str, ...]) -> list[tuple[str, Image.Image]]:
    """The photographs of references, by the last part of their names, as 8-bit RGB."""
    paths = [references.locate(name, base, distributions) for name in references_]
    return [(path.name, canonical(path)[0]) for path in paths]


def study(library: FaceLibrary, name: str, image: Image.Image, min_score: float) -> Photograph:
    """All faces of a photograph, in it and in its altered copies."""
    faces = library.see(np.asarray(image), min_score)
    boxes = np.array([sight.box for sight in faces]).reshape(-1, 4)
    altered = {}
    for one in ALTERATIONS:
        again = library.see(np.asarray(one.change(image)), min_score)
        altered[one.name] = _partners(again, one.place(boxes, image.size))
    return Photograph(name, image, faces, altered)


def _partners(found: list[Sight], expected: Boxes) -> list[Sight | None]:
    """Of each expected box the sight that shares most with it, None where none does."""
    partners: list[Sight | None] = []
    for box in expected:
        shares = [_shared(np.array(sight.box), box) for sight in found]
        best = int(np.argmax(shares)) if shares else -1
        partners.append(found[best] if shares and shares[best] > _LEAST_SHARED else None)
    return partners


def _shared(a: Boxes, b: Boxes) -> float:
    both = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def same_faces(found: Sequence[Sight], expected: Sequence[Sight]) -> bool:
    """Whether two lists of sights are of the same faces, by their boxes."""
    ours, theirs = (np.array([sight.box for sight in sights]).reshape(-1, 4) for sights in (found, expected))
    return matched(ours, theirs) is not None
