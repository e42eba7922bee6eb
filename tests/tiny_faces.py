"""A tiny bundle of faces, made by hand: a red quarter of a picture is a face, and its other colours say whose.

What is expected of it is computed here with loops over pixels, by the definitions in docs/bundle-format.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from tiny_bundles import Graph, _Build, png

from sanderling.manifest import Preprocessing
from sanderling.schema.answers import FaceOutput, FaceThreshold
from sanderling.schema.preprocessing import FacesPreprocessing, SquareInput
from sanderling.schema.variants import TensorSpec, Tolerance

EXPRESSIONS, GENDERS = ("glad", "grim"), ("she", "he")
DIMENSION, SPACE = 6, "7" * 64
DETECTOR, FACE, ALIGNED = 16, 10, 8
_RANDOM = np.random.default_rng(20261122)
EMBED = _RANDOM.normal(size=(3 * ALIGNED * ALIGNED, DIMENSION)).astype(np.float32)
EXPRESS = _RANDOM.normal(size=(3 * FACE * FACE, len(EXPRESSIONS))).astype(np.float32) / 10
SEX = _RANDOM.normal(size=(3 * FACE * FACE, len(GENDERS))).astype(np.float32) / 10
AGE = np.full((3 * FACE * FACE, 1), 0.1, np.float32)
# The quarters, each a little smaller than it is, and again a little shifted: second sights of the same face.
QUARTERS = np.array([[x, y, x + 0.45, y + 0.45] for y in (0.02, 0.52) for x in (0.02, 0.52)], np.float32)
BOXES = np.concatenate([QUARTERS, QUARTERS + np.float32(0.02)])
# Eyes high, the mouth low, all else around them, as shares of a face.
LANDMARKS = np.array(
    [[0.2 + 0.6 * (n % 5) / 4, 0.15 + 0.7 * (n % 7) / 6] for n in range(36)]
    + [[0.3, 0.35]] * 6 + [[0.7, 0.35]] * 6 + [[0.5, 0.75]] * 20,
    np.float32,
)  # fmt: skip
SETTINGS = FacesPreprocessing(
    detector=SquareInput(DETECTOR, "corner", (0.0, 0.0, 0.0), 255.0),
    landmarks=SquareInput(FACE, "center", (0.0, 0.0, 0.0), 255.0),
    recognition=SquareInput(ALIGNED, "center", (127.0, 127.0, 127.0), 128.0),
    attributes=SquareInput(FACE, "center", (0.0, 0.0, 0.0), 255.0),
    scale=0.45,
    center=(0.5, 0.43),
    margin=0.2,
)
HEAD = FaceOutput(
    output="embedding",
    dimension=DIMENSION,
    min_score=0.4,
    max_overlap=0.5,
    max_faces=3,
    threshold=FaceThreshold(0.9, 0.95, 10, 0.85, 20, 0.0, "made by hand"),
    expressions=EXPRESSIONS,
    genders=GENDERS,
)


def picture(*quarters: int, width: int = 64, height: int = 48, seed: int = 1) -> NDArray[np.uint8]:
    """A dark picture with red quarters of its longer side's square; green and blue in them are of a person each."""
    made = np.full((height, width, 3), 10, np.uint8)
    half = max(width, height) // 2
    for quarter in quarters:
        y, x = (quarter // 2) * half, (quarter % 2) * half
        person = np.random.default_rng(seed * 10 + quarter).integers(0, 200, (4, 4, 2), dtype=np.uint8)
        colours = person.repeat(half // 4, axis=0).repeat(half // 4, axis=1)
        part = made[y : y + half, x : x + half]
        part[:, :, 0] = 250
        part[:, :, 1:] = colours[: part.shape[0], : part.shape[1]]
    return made


def square(part: NDArray[np.uint8], settings: SquareInput) -> NDArray[np.float32]:
    """What a graph is given, (3, size, size), pixel by pixel."""
    height, width = part.shape[:2]
    side = max(height, width)
    before = [0, 0]
    if settings.pad == "center":
        before = [(side - n) - math.floor((side - n) / 2 + 0.5) for n in (height, width)]

    def at(row: int, column: int) -> NDArray[np.float64]:
        y, x = row - before[0], column - before[1]
        return part[y, x].astype(np.float64) if 0 <= y < height and 0 <= x < width else np.zeros(3)

    out = np.zeros((settings.size, settings.size, 3))
    for i in range(settings.size):
        for j in range(settings.size):
            ratio = np.float32(side / settings.size)
            y, x = float(np.float32(i) * ratio), float(np.float32(j) * ratio)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(math.ceil(y), side - 1), min(math.ceil(x), side - 1)
            high = at(top, left) + (at(top, right) - at(top, left)) * (x - left)
            low = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * (x - left)
            out[i, j] = high + (low - high) * (y - top)
    return np.ascontiguousarray(((out - settings.mean) / settings.divisor).transpose(2, 0, 1).astype(np.float32))


def cut(made: NDArray[np.uint8], box: Any) -> NDArray[np.uint8]:
    """The whole pixels of a picture in a box."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    width = math.floor(min(box[2] - left, made.shape[1] - left))
    height = math.floor(min(box[3] - top, made.shape[0] - top))
    return made[math.floor(top) :, math.floor(left) :][:height, :width]


def expected(made: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The faces of a picture by the definitions, the surest first: box, score, points, and each graph's input and
    answer."""
    given = square(made, SETTINGS.detector)
    scores = [float(given[0, y : y + 8, x : x + 8].mean()) for y in (0, 8) for x in (0, 8)]
    scale = [DETECTOR / math.floor(n * DETECTOR / max(made.shape[:2]) + 0.5) * n for n in made.shape[1::-1]]
    found = []
    for quarter in sorted(range(4), key=lambda n: -scores[n]):
        if scores[quarter] <= HEAD.min_score or len(found) == HEAD.max_faces:
            continue
        box = (QUARTERS[quarter].astype(np.float64) * np.tile(scale, 2)).astype(np.float32).astype(np.float64)
        face = cut(made, box)
        side = max(face.shape[:2])
        beside = np.array([side - face.shape[1], side - face.shape[0]]) / 2
        points = LANDMARKS.astype(np.float64) * side - beside + box[:2]
        middles = [points[36:42].mean(0), points[42:48].mean(0), points[48:68].mean(0)]
        size = math.floor((math.dist(middles[0], middles[2]) + math.dist(middles[1], middles[2])) / 2 / SETTINGS.scale)
        x, y = (
            math.floor(max(0.0, sum(m[axis] for m in middles) / 3 - share * size))
            for axis, share in ((0, SETTINGS.center[0]), (1, SETTINGS.center[1]))
        )
        close = square(cut(made, (x, y, x + size, y + size)), SETTINGS.recognition)
        low, high = points.min(0), points.max(0)
        more = (high - low) * SETTINGS.margin / 2
        wide = square(cut(made, (*(low - more), *(high + more))), SETTINGS.attributes)
        found.append(
            {
                "box": box,
                "score": scores[quarter],
                "points": points,
                "landmarks": (square(face, SETTINGS.landmarks), LANDMARKS.reshape(-1)),
                "recognition": (close, close.reshape(-1).astype(np.float64) @ EMBED),
                "expression": (wide, wide.reshape(-1).astype(np.float64) @ EXPRESS),
                "age_gender": (wide, wide.reshape(-1).astype(np.float64) @ np.column_stack([AGE, SEX])),
            }
        )
    return found


def faces_bundle(target: Path, *, attributes: bool = True, head: FaceOutput = HEAD, space: str = SPACE) -> Path:
    """`tiny-faces`, with golden pictures of two faces, of one, and of none; without `attributes` it has no expression,
    age and gender."""
    wide = ("expression", "age_gender") if attributes else ()
    parts: dict[str, tuple[int, tuple[TensorSpec, ...], Graph]] = {
        "detector": (DETECTOR, (_spec("boxes", 8, 4), _spec("scores", 8)), _detector()),
        "landmarks": (FACE, (_spec("landmarks", 136),), _fixed()),
        "recognition": (ALIGNED, (_spec("embedding", DIMENSION),), _linear(embedding=EMBED)),
        "expression": (FACE, (_spec("logits", len(EXPRESSIONS)),), _linear(logits=EXPRESS)),
        "age_gender": (FACE, (_spec("age", 1), _spec("gender", len(GENDERS))), _linear(age=AGE, gender=SEX)),
    }
    if not attributes:
        import msgspec

        head = msgspec.structs.replace(head, expressions=(), genders=())
    samples, tensors = [], {}
    with _Build(target) as build:
        for name, made in (("two", picture(0, 1)), ("one", picture(1, width=40, height=40)), ("none", picture())):
            samples.append({"id": name, "image": build.write(f"golden/{name}.png", png(made))})
            faces = expected(made)
            tensors[f"{name}.input.pixel_values"] = square(made, SETTINGS.detector)
            rows = [[*face["box"], face["score"]] for face in faces]
            tensors[f"{name}.output"] = np.array(rows, np.float32).reshape(-1, 5)
            for part in ("landmarks", "recognition", *wide) if faces else ():
                tensors[f"{name}.{part}.input"] = np.stack([face[part][0] for face in faces])
                tensors[f"{name}.{part}.output"] = np.stack([face[part][1] for face in faces]).astype(np.float32)
        components = {}
        for part, (size, outputs, graph) in parts.items():
            if part in ("detector", "landmarks", "recognition", *wide):
                signature = ((TensorSpec("pixel_values", "float32", ("batch", 3, size, size)),), outputs)
                components[part] = build.component(signature, {"fp32": graph}, {"fp32": Tolerance(0.99999, 1e-3)}, part)
        build.commit(
            "tiny-faces",
            ("general", "face-recognition"),
            components,
            Preprocessing(faces=SETTINGS),
            head,
            build.golden(samples, tensors),
            space=space,
        )
    return target


def _detector() -> Graph:
    red = np.zeros((1, 3, 8, 8), np.float32)
    red[0, 0] = 1 / 64
    nodes = [
        helper.make_node("Conv", ["pixel_values", "red"], ["quarters"], strides=[8, 8]),
        helper.make_node("Reshape", ["quarters", "four"], ["sure"]),
        helper.make_node("Mul", ["sure", "less"], ["unsure"]),
        helper.make_node("Concat", ["sure", "unsure"], ["scores"], axis=1),
        helper.make_node("Unsqueeze", ["scores", "last"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "places"], ["boxes"]),
    ]
    weights: dict[str, NDArray[Any]] = {
        "red": red,
        "four": np.array([-1, 4], np.int64),
        "less": np.array(0.9, np.float32),
        "last": np.array([2], np.int64),
        "zero": np.array(0, np.float32),
        "places": BOXES[None],
    }
    return nodes, weights


def _fixed() -> Graph:
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "nothing", "points"], ["landmarks"]),
    ]
    return nodes, {"nothing": np.zeros((3 * FACE * FACE, 136), np.float32), "points": LANDMARKS.reshape(-1)}


def _linear(**outputs: NDArray[np.float32]) -> Graph:
    nodes = [helper.make_node("Flatten", ["pixel_values"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", f"{name}_weight"], [name]) for name in outputs]
    return nodes, {f"{name}_weight": weight for name, weight in outputs.items()}


def _spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", *shape))
