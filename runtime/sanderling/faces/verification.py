"""Golden samples of a model of faces, replayed: which faces the detector finds, and what each other graph says of them.

Every graph is given what the original's was, so that each answers for itself; the runtime's own way there, cutting,
aligning and resizing, is compared as every preprocessing is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ManifestError
from sanderling.golden import Golden, GoldenSample, sample_input
from sanderling.model import Model
from sanderling.preprocess import faces
from sanderling.schema.variants import Tolerance
from sanderling.tasks.face_recognition import FaceRecognizer
from sanderling.verification import Check, apart, cosines, within

_DETECTOR = "detector"
_BOX_AND_SCORE = 5


def replay_faces(model: Model, golden: Golden) -> list[Check]:
    """Each golden picture through the detector, and its faces through the other graphs, alone and in one batch."""
    assert isinstance(model, FaceRecognizer)  # of whom else is the postprocessing
    checks: list[Check] = []
    for sample in golden.samples:
        picture, _ = model.pictures.picture(sample_input(model.bundle, sample))
        checks.append(_detected(model, golden, sample, picture))
        boxes = _expected(golden, sample)[:, :4].astype(np.float64)
        inputs = _inputs(model, golden, sample, picture, boxes)
        for component, values in inputs.items():
            checks += _answered(model, golden, sample, component, values)
    return checks


def matched(found: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The rows of `found` (n, 4 or more: a box first) in the order of `expected` (n, ...), each the one that overlaps
    most; None where counts differ, or one has no partner of its own."""
    if len(found) != len(expected):
        return None
    if not len(found):
        return found
    low = np.maximum(found[None, :, :2], expected[:, None, :2])
    high = np.minimum(found[None, :, 2:4], expected[:, None, 2:4])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    order = shared.argmax(axis=1)
    if len(set(order.tolist())) < len(order) or not shared.max(axis=1).all():
        return None
    partners: NDArray[np.float64] = found[order]
    return partners


def _detected(model: FaceRecognizer, golden: Golden, sample: GoldenSample, picture: NDArray[np.uint8]) -> Check:
    values = faces.square(picture, model.pictures.settings.detector)
    difference = apart(values, golden.inputs(sample).get("pixel_values", np.empty(0)))
    boxes, scores, _, _ = model.detect(picture, values)
    side = max(picture.shape[:2])
    # Boxes as shares of the longer side, so that they weigh as much as scores.
    share = np.array([side, side, side, side, 1.0])
    expected = _expected(golden, sample) / share
    found = matched(np.column_stack([boxes, scores]) / share, expected)
    if found is None:
        limits = _tolerance(model, _DETECTOR)
        return _check(model, f"{sample.id}: faces", "alone", difference, (-1.0, float("inf")), limits)
    near = cosines(found.reshape(1, -1).astype(np.float32), expected.reshape(1, -1).astype(np.float32))
    far = (float(near[0]), float(np.abs(found - expected).max(initial=0.0)))
    return _check(model, f"{sample.id}: faces", "alone", difference, far, _tolerance(model, _DETECTOR))


def _inputs(
    model: FaceRecognizer,
    golden: Golden,
    sample: GoldenSample,
    picture: NDArray[np.uint8],
    boxes: NDArray[np.float64],
) -> dict[str, NDArray[np.float32]]:
    """What the runtime makes of the original's boxes and landmarks for each graph: (faces, 3, size, size)."""
    known = golden.part(sample, "landmarks")
    if not len(boxes) or known is None:
        return {}
    settings = model.pictures.settings
    places = [tuple(box) for box in boxes.tolist()]
    parts = [faces.cut(picture, place) for place in places]
    points = [
        faces.landmarks(row, part, place)
        for row, part, place in zip(known[1], parts, places, strict=False)
        if part is not None
    ]
    aligned = [faces.cut(picture, faces.aligned(one, settings)) for one in points]
    loose = [faces.cut(picture, faces.loose(one, settings)) for one in points]
    if any(part is None for part in (*parts, *aligned, *loose)) or len(points) != len(boxes):
        raise ManifestError(
            f"The golden sample {sample.id!r} has a face outside of its picture; export the bundle again."
        )
    found = {
        "landmarks": np.stack([faces.square(part, settings.landmarks) for part in parts if part is not None]),
        "recognition": np.stack([faces.square(part, settings.recognition) for part in aligned if part is not None]),
    }
    wide = np.stack([faces.square(part, settings.attributes) for part in loose if part is not None])
    return found | {name: wide for name in ("expression", "age_gender") if name in model.bundle.manifest.components}


def _answered(
    model: FaceRecognizer, golden: Golden, sample: GoldenSample, component: str, values: NDArray[np.float32]
) -> list[Check]:
    known = golden.part(sample, component)
    if known is None:
        raise ManifestError(f"The golden sample {sample.id!r} has no tensors of the component {component!r}.")
    fed, expected = known
    limits = _tolerance(model, component)
    if len(expected) != len(values) or len(fed) != len(values):
        raise ManifestError(f"The golden sample {sample.id!r} has {len(expected)} answers of {component!r}.")
    checks = []
    alone = np.concatenate([model.rows(component, fed[place : place + 1]) for place in range(len(fed))])
    for batching, rows in (("alone", alone), ("batch", model.rows(component, fed))):
        if rows.shape != expected.shape:
            raise ManifestError(
                f"The golden sample {sample.id!r} has answers of the shape {expected.shape} of {component!r}; "
                f"its graph gives {rows.shape}."
            )
        near = cosines(rows, expected)
        far = np.abs(rows.astype(np.float64) - expected).max(axis=1)
        for place in range(len(rows)):
            name = f"{sample.id}: {component} of face {place + 1}"
            difference = apart(values[place], fed[place])
            checks.append(_check(model, name, batching, difference, (float(near[place]), float(far[place])), limits))
    return checks


def _check(
    model: FaceRecognizer, name: str, batching: str, difference: float, far: tuple[float, float], limits: Tolerance
) -> Check:
    cosine, max_abs = far
    where = (model.variant, model.provider, name, batching, difference)
    return Check(*where, cosine, max_abs, within(limits, difference, cosine, max_abs), model.plan.form, limits)


def _tolerance(model: FaceRecognizer, component: str) -> Tolerance:
    return model.bundle.manifest.components[component].variants[model.variant].tolerance


def _expected(golden: Golden, sample: GoldenSample) -> NDArray[np.float64]:
    """The original's faces: (faces, 5), left, top, right and bottom in pixels, and the score."""
    found = golden.output(sample).astype(np.float64)
    if found.ndim != 2 or found.shape[1] != _BOX_AND_SCORE or sample.image is None:
        raise ManifestError(f"The golden sample {sample.id!r} is no picture with faces of the shape (faces, 5).")
    return found
