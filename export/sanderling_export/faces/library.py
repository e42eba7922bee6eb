"""The original: face-api's way from a photograph to faces, step by step as it takes them on tensors, with torch.

What runs in a bundle is measured against this, and this against the library itself, by figures that were taken with
its WebAssembly backend (tests/export/data/face_api.json).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sanderling_export.faces import shards
from sanderling_export.faces.attributes import EXPRESSIONS, LANDMARKS, SIZE, AgeGender, DenseNetwork
from sanderling_export.faces.detectors import SsdMobilenet, TinyDetector
from sanderling_export.faces.recognition import Recognition
from sanderling_export.faces.shards import Weights

Detector = Literal["ssd_mobilenetv1", "tiny_face_detector"]
Array = NDArray[np.float32]
Picture = NDArray[np.uint8]

# Of ImageNet, as dlib and Caffe subtract them.
MEAN = (122.782, 117.001, 104.298)
_TINY_MEAN = (117.001, 114.697, 97.404)
# Two boxes are one face above this overlap (intersection over union).
OVERLAP: dict[Detector, float] = {"ssd_mobilenetv1": 0.5, "tiny_face_detector": 0.4}
# The aligned square is this share of the distance from the eyes to the mouth, around this point of it.
SCALE, CENTER = 0.45, (0.5, 0.43)
# Around the landmarks, for expression, age and gender: this share of their box, half on each side.
MARGIN = 0.2
MAX_FACES = 100
_EYES_AND_MOUTH = ((36, 42), (42, 48), (48, 68))


@dataclass(frozen=True, slots=True)
class Sight:
    """One face as the original sees it: `box` (left, top, right, bottom) in pixels, `landmarks` (68, 2), and the
    networks' inputs and raw answers by the component's name."""

    score: float
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    inputs: dict[str, Array] = field(default_factory=dict)
    answers: dict[str, Array] = field(default_factory=dict)


class FaceLibrary:
    """All networks of one detector, loaded from the folder of face-api's models."""

    def __init__(self, folder: Path, detector: Detector) -> None:
        self.detector_name: Detector = detector
        made: dict[str, tuple[str, Callable[[Weights], nn.Module]]] = {
            "detector": (detector, SsdMobilenet if detector == "ssd_mobilenetv1" else TinyDetector),
            "landmarks": ("face_landmark_68", lambda weights: DenseNetwork(weights, 2 * LANDMARKS)),
            "recognition": ("face_recognition", Recognition),
            "expression": ("face_expression", lambda weights: DenseNetwork(weights, len(EXPRESSIONS))),
            "age_gender": ("age_gender", AgeGender),
        }
        self.networks: dict[str, nn.Module] = {}
        self.digests: dict[str, str] = {}
        for component, (network, build) in made.items():
            weights = shards.read(folder, network)
            self.networks[component] = build(weights).eval()
            self.digests[component] = weights.sha256
            weights.close()

    @property
    def size(self) -> int:
        """The side of the detector's square, in pixels."""
        return int(self.networks["detector"].size)

    def detector_input(self, picture: Picture) -> Array:
        """(3, size, size): the picture with black to the right and below, bilinearly, in the detector's values."""
        square = resized(padded(picture, center=False), self.size)
        if self.detector_name == "ssd_mobilenetv1":
            values = square / np.float32(127.5) - np.float32(1)
        else:
            values = (square - np.array(_TINY_MEAN, np.float32)) / np.float32(255)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def detect(self, picture: Picture, min_score: float) -> tuple[Array, Array, list[Sight]]:
        """The detector's input, its raw answer (logits and encodings side by side, (boxes, 5)), and the faces found."""
        fed = self.detector_input(picture)
        with torch.inference_mode():
            logits, encodings = self.networks["detector"](torch.from_numpy(fed[None].copy()))
            scores, boxes = self.networks["detector"].decoder(logits, encodings)
        raw = torch.cat([logits[0, :, None], encodings[0]], 1).numpy()
        chosen = suppressed(boxes[0].numpy(), scores[0].numpy(), min_score, OVERLAP[self.detector_name])
        clipped = np.clip(boxes[0].numpy().astype(np.float64), 0.0, 1.0) * np.tile(sides(picture, self.size), 2)
        empty = np.zeros((LANDMARKS, 2))
        # In single precision, as golden boxes are kept: where they are rounded down, both are.
        places = clipped.astype(np.float32).astype(np.float64)
        return fed, raw, [Sight(float(scores[0, i]), tuple(places[i].tolist()), empty) for i in chosen]

    def see(self, picture: Picture, min_score: float) -> list[Sight]:
        """All faces of a picture, with what every network says of each."""
        found = []
        for sight in self.detect(picture, min_score)[2]:
            crop = cut(picture, sight.box)
            if crop is None:
                continue
            face = cropped_input(crop, SIZE)
            raw = self.run("landmarks", face)
            points = np.array(placed(raw, crop.shape[1], crop.shape[0])) + sight.box[:2]
            aligned, loose = cut(picture, aligned_box(points)), cut(picture, loose_box(points))
            if aligned is None or loose is None:
                continue
            inputs = {"landmarks": face, "recognition": cropped_input(aligned, 150)}
            inputs |= dict.fromkeys(("expression", "age_gender"), cropped_input(loose, SIZE))
            answers = {name: self.run(name, value) for name, value in inputs.items()}
            found.append(Sight(sight.score, sight.box, points, inputs, answers))
        return found

    def run(self, component: str, value: Array) -> Array:
        """The raw answer of a network to one input (3, size, size), its outputs one after the other."""
        with torch.inference_mode():
            answer: Any = self.networks[component](torch.from_numpy(value[None].copy()))
        parts = answer if isinstance(answer, tuple) else (answer,)
        return np.concatenate([part[0].numpy().ravel() for part in parts])


def padded(picture: Picture, *, center: bool) -> NDArray[np.float32]:
    """(side, side, 3) float32 with black beside the picture: half on each side, or all to the right and below."""
    height, width = picture.shape[:2]
    side = max(height, width)
    missing = side - min(height, width)
    # JavaScript rounds a half up.
    after = math.floor(missing * 0.5 + 0.5) if center else missing
    along = (missing - after, after)
    return np.pad(picture, [along if height < side else (0, 0), along if width < side else (0, 0), (0, 0)]).astype(
        np.float32
    )


def resized(square: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(side, side, 3) to (size, size, 3): bilinear as TensorFlow's first one, the source of pixel i at i * side / size.

    Not torch's, which has centres of pixels, nor an average where it shrinks.
    """
    side = square.shape[0]
    if side == size:
        return square
    places = np.arange(size, dtype=np.float32) * np.float32(side / size)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(np.ceil(places).astype(np.int64), side - 1)
    share = (places - low).astype(np.float32)
    rows = torch.lerp(
        torch.from_numpy(square[low]), torch.from_numpy(square[high]), torch.from_numpy(share)[:, None, None]
    )
    weight = torch.from_numpy(share)[None, :, None]
    found: NDArray[np.float32] = torch.lerp(
        rows[:, torch.from_numpy(low)], rows[:, torch.from_numpy(high)], weight
    ).numpy()
    return found


def sides(picture: Picture, size: int) -> tuple[float, float]:
    """Width and height of the padded square in pixels of the picture, as the library has them: by way of the whole
    number of pixels that the picture takes in it, so that they are not quite the same."""
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    across, down = (max(1, math.floor(n * scale + 0.5)) for n in (width, height))
    return size / across * width, size / down * height


def cropped_input(crop: Picture, size: int) -> Array:
    """(3, size, size): a crop in the middle of black, less the mean, divided by 255."""
    values = (resized(padded(crop, center=True), size) - np.array(MEAN, np.float32)) / np.float32(255)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def cut(picture: Picture, box: tuple[float, float, float, float]) -> Picture | None:
    """What of the picture lies in a box (left, top, right, bottom), in whole pixels; None where nothing does."""
    height, width = picture.shape[:2]
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    across, down = math.floor(min(box[2] - left, width - left)), math.floor(min(box[3] - top, height - top))
    x, y = math.floor(left), math.floor(top)
    return picture[y : y + down, x : x + across] if across > 0 and down > 0 else None


def placed(raw: Array, width: int, height: int) -> list[tuple[float, float]]:
    """Landmarks as shares of the padded square (136,) to pixels of the crop (width, height) in its middle."""
    side = max(width, height)
    left, top = (side - width) / 2, (side - height) / 2
    return [(float(x) * side - left, float(y) * side - top) for x, y in raw.reshape(-1, 2)]


def aligned_box(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The square that recognition sees, by the eyes and the mouth."""
    eyes_and_mouth = [points[first:last].mean(0) for first, last in _EYES_AND_MOUTH]
    mouth = eyes_and_mouth[2]
    distance = sum(float(np.hypot(*(mouth - eye))) for eye in eyes_and_mouth[:2]) / 2
    side = math.floor(distance / SCALE)
    x, y = np.mean(eyes_and_mouth, axis=0)
    left, top = (math.floor(max(0.0, place - share * side)) for place, share in ((x, CENTER[0]), (y, CENTER[1])))
    return left, top, left + side, top + side


def loose_box(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The box around all landmarks, with its margin."""
    low, high = points.min(0), np.maximum(points.max(0), 0)
    pad = (high - low) * MARGIN / 2
    left, top = low - pad
    right, bottom = high + pad
    return float(left), float(top), float(right), float(bottom)


def suppressed(boxes: Array, scores: Array, min_score: float, overlap: float) -> list[int]:
    """Boxes (n, 4) that are no second sight of a better one, best first: at most MAX_FACES."""
    chosen: list[int] = []
    for index in sorted(np.flatnonzero(scores > min_score).tolist(), key=lambda i: -scores[i]):
        if len(chosen) == MAX_FACES:
            break
        if all(_overlap(boxes[index], boxes[other]) <= overlap for other in chosen):
            chosen.append(index)
    return chosen


def _overlap(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, float(width)) * max(0.0, float(height))
    return shared / (float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - shared)
