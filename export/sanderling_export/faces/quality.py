"""How far each graph of a bundle of faces is from the original's, and what that does to faces found and told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.schema.answers import FaceThreshold
from sanderling.schema.variants import Drift, Invariance, Metric, Tolerance
from sanderling.tasks.face_recognition import FaceRecognizer
from sanderling.verification import Check, cosines
from sanderling_export import drift
from sanderling_export.faces import distances
from sanderling_export.faces.library import Sight
from sanderling_export.faces.photographs import Photograph, same_faces

# Drift and invariance of each graph, by component.
Measured: TypeAlias = dict[str, tuple[Drift, Invariance]]

ERROR, FOUND = "verification_error", "faces_found"
_MATES = 16
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
# A quantized golden answer may be this many times as far as it was at export, and a little more.
_COSINE_MARGIN, _COSINE_SLACK = 2.0, 2e-3
_MARGIN, _SLACK = 3.0, 0.02


def of_networks(model: FaceRecognizer, photographs: Sequence[Photograph], threshold: FaceThreshold) -> Measured:
    """Of every graph but the detector's, on all sights of the photographs, by its raw answers."""
    sights = [sight for one in photographs for sight in one.sights]
    names = [f"face {number}" for number in range(1, len(sights) + 1)]
    measured = {}
    for component in sights[0].inputs:
        values = np.stack([sight.inputs[component] for sight in sights])
        expected = np.stack([sight.answers[component] for sight in sights])
        rows = model.rows(component, values)
        labels = component == "expression"
        found = drift.measure(rows, expected, labels=labels, names=names)
        if component == "recognition":
            found = replace(found, metrics={ERROR: _verification(photographs, sights, rows, threshold)})
        some = values[:_MATES]
        alone = np.concatenate([model.rows(component, some[place : place + 1]) for place in range(len(some))])
        measured[component] = (found, Invariance(float(cosines(rows[: len(some)], alone).min())))
    return measured


def of_detector(model: FaceRecognizer, photographs: Sequence[Photograph]) -> tuple[Drift, Invariance]:
    """Of the detector, on whole photographs: boxes (as shares of the longer side) and scores of the original's faces.

    `agreement` is the share of photographs in which it finds the faces that the original finds, and no other;
    `faces_found` the share of the original's faces.
    """
    rows, expected, same, found = [], [], [], 0
    for one in photographs:
        faces = model(one.image)
        sights = [Sight(face.score, face.box, np.empty((0, 2))) for face in faces]
        same.append(same_faces(sights, one.faces))
        for sight in one.faces:
            near = max(sights, key=lambda other, sight=sight: _overlap(other, sight), default=None)  # type: ignore[misc]
            seen = near is not None and _overlap(near, sight) > 0
            found += seen
            side = max(one.image.size)
            rows.append(_row(near, side) if near is not None and seen else np.zeros(5))
            expected.append(_row(sight, side))
    measured = drift.measure(np.array(rows), np.array(expected), labels=False)
    share = found / max(1, len(expected))
    metrics = {FOUND: Metric(share, 1.0, len(expected))}
    return replace(measured, agreement=float(np.mean(same)), metrics=metrics), Invariance(1.0)


def tolerance(name: str, replayed: Sequence[Check]) -> Tolerance:
    """What `verify` will demand of a graph's golden answers wherever the bundle runs."""
    near, far = min(check.cosine for check in replayed), max(check.max_abs for check in replayed)
    if name == "fp32":
        return Tolerance(_FP32_COSINE, max(_FP32_MAX_ABS, _MARGIN * far))
    return Tolerance(
        max(-1.0, round(1 - _COSINE_MARGIN * (1 - near) - _COSINE_SLACK, 6)), round(_MARGIN * far + _SLACK, 6)
    )


def _verification(
    photographs: Sequence[Photograph],
    sights: Sequence[Sight],
    rows: NDArray[np.float32],
    threshold: FaceThreshold,
) -> Metric:
    """The share of pairs that a variant's vectors decide wrongly at the threshold, beside the original's."""
    by_sight = {id(sight): row for sight, row in zip(sights, rows, strict=True)}
    ours = distances.measure(photographs, lambda some: np.stack([by_sight[id(sight)] for sight in some]))
    theirs = distances.measure(photographs)
    count = len(theirs.same) + len(theirs.different)
    return Metric(ours.error(threshold.cosine), theirs.error(threshold.cosine), count)


def _row(sight: Sight, side: int) -> NDArray[np.float64]:
    return np.array([*(edge / side for edge in sight.box), sight.score])


def _overlap(a: Sight, b: Sight) -> float:
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return max(0.0, width) * max(0.0, height)
