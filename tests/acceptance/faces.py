"""Issue 5: every face of the sample photographs is found and told apart, in 8 bits too; the networks are the library's
own; a picture without a face and a gallery of another space are told."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from checks import ROOT, Context, NotCheckableError, Row, at_least, at_most, built, registry, true
from PIL import Image

import sanderling
from sanderling import Face, FaceError, FaceRecognizer, Faces, Index, SpaceError, load
from sanderling.errors import CheckpointError
from sanderling_export import references

MODELS = ROOT / "models"
# Counted by eye.
COUNTS = {"sample1": 3, "sample2": 3, "sample3": 3, "sample4": 4, "sample5": 5, "sample6": 4}
KNOWN = json.loads((ROOT / "tests" / "export" / "data" / "face_api.json").read_text("utf-8"))["photographs"]
EMPTY = (600, 900, 1300, 1250)


def photographs() -> dict[str, Image.Image]:
    try:
        folder = references.locate("npm:@vladmandic/face-api/demo", MODELS)
    except CheckpointError as error:
        raise NotCheckableError(str(error)) from error
    return {name: Image.open(folder / f"{name}.jpg").convert("RGB") for name in COUNTS}


def recognizer(variant: str) -> FaceRecognizer:
    model = load(built("faces"), variant=variant)
    assert isinstance(model, FaceRecognizer)
    return model


def seen(model: FaceRecognizer, picture: Any) -> Faces:
    found = model(picture)
    assert isinstance(found, Faces)
    return found


def crops(picture: Image.Image) -> list[tuple[Image.Image, float, tuple[int, int]]]:
    """Two crops of a photograph, the second at half the size, each with that ratio and with what is cut off at the
    left and above."""
    width, height = picture.size
    first = picture.crop((37, 23, width - 11, height - 9))
    second = picture.crop((6, 12, width - 30, height - 20))
    half = second.resize((second.width // 2, second.height // 2), Image.Resampling.BICUBIC)
    return [(first, 1.0, (37, 23)), (half, 0.5, (6, 12))]


def again(face: Face, found: Faces, ratio: float, cut: tuple[int, int]) -> Face | None:
    """The same face in a crop, by its place; None where there is none."""
    left, top, right, bottom = face.box
    middle = (((left + right) / 2 - cut[0]) * ratio, ((top + bottom) / 2 - cut[1]) * ratio)

    def aside(other: Face) -> float:
        return math.dist(((other.box[0] + other.box[2]) / 2, (other.box[1] + other.box[3]) / 2), middle)

    nearest = min(found, key=aside, default=None)
    return nearest if nearest is not None and aside(nearest) < (right - left) * ratio / 2 else None


@registry.check(5, "faces-found")
def faces_found(context: Context) -> list[Row]:
    rows = []
    shown = photographs()
    for variant in ("fp32", "int8-static"):
        with recognizer(variant) as model:
            found = {name: len(seen(model, picture)) for name, picture in shown.items()}
        context.say(f"{variant}: {found}")
        wrong = sum(abs(found[name] - count) for name, count in COUNTS.items())
        figure = f"{sum(found.values())} of {sum(COUNTS.values())}"
        rows.append(true(f"faces of six sample photographs, {variant}", wrong == 0, figure, "all, and no other"))
    picture = ROOT / "docs" / "faces.jpg"
    rows.append(true("they are drawn in the docs", picture.is_file(), picture.name, "is there"))
    return rows


@registry.check(5, "faces-apart")
def faces_apart(context: Context) -> list[Row]:
    rows = []
    shown = photographs()
    for variant in ("fp32", "int8-static"):
        people: list[list[Face]] = []
        owners: list[str] = []
        lost = 0
        with recognizer(variant) as model:
            for name, picture in shown.items():
                cut = [(seen(model, crop), ratio, away) for crop, ratio, away in crops(picture)]
                for face in seen(model, picture):
                    both = [again(face, found, ratio, away) for found, ratio, away in cut]
                    there = [one for one in both if one is not None]
                    lost += len(there) < len(both)
                    if len(there) == len(both):
                        people.append(there)
                        owners.append(name)
        context.say(f"{variant}: {len(people)} people")
        same = [float(sanderling.similarity(a.vector, b.vector)[0, 0]) for a, b in people]
        different = [
            float(sanderling.similarity([one.vector for one in a], [one.vector for one in b]).max())
            for place, a in enumerate(people)
            for b, owner in zip(people[place + 1 :], owners[place + 1 :], strict=True)
            if owner == owners[place]
        ]
        rows.append(at_most(f"faces lost in a crop of their photograph, {variant}", lost, 0, digits=0))
        reach = f"one from {min(same):.3f} on, two up to {max(different):.3f}"
        spread = f"{reach}; {len(same)} and {len(different)} pairs"
        what = f"two crops of one person beyond any two people, {variant}"
        rows.append(at_least(what, min(same) - max(different), 0, spread=spread))
    return rows


@registry.check(5, "faces-drift")
def faces_drift(context: Context) -> list[Row]:
    manifest = sanderling.open_bundle(built("faces")).manifest
    drift = manifest.components["recognition"].variants["int8-static"].drift
    assert drift is not None
    error = drift.metrics["verification_error"]
    context.say(f"verification error {error.value:.4f}, of the original {error.reference:.4f}")
    return [
        at_least("recognition in int8-static, lowest cosine", drift.cosine.min, 0.97,
                 spread=f"mean {drift.cosine.mean:.4f}, {drift.cosine.samples} sights"),
        at_most("pairs that it decides wrongly more than the original", error.value - error.reference, 0.02,
                spread=f"{error.value:.4f} beside {error.reference:.4f}, {error.samples} pairs"),
    ]  # fmt: skip


@registry.check(5, "faces-parity")
def faces_parity(context: Context) -> list[Row]:
    """What runs in the bundle beside what the library itself answered."""
    box = landmark = vector = 0.0
    counted = 0
    with recognizer("fp32") as model:
        for name, picture in photographs().items():
            found, known = seen(model, picture), KNOWN[f"{name}.jpg"]["ssd_mobilenetv1"]
            context.say(name)
            if len(found) != len(known):
                return [true(f"faces of {name} as the library finds them", False, str(len(found)), str(len(known)))]
            for face, wanted in zip(found, known, strict=True):
                counted += 1
                box = max(box, float(np.abs(np.array(face.box) - wanted["box"]).max()))
                landmark = max(landmark, float(np.abs(face.landmarks - wanted["landmarks"]).max()))
                vector = max(vector, float(np.abs(face.embedding - wanted["embedding"]).max()))
    spread = f"{counted} faces"
    return [
        at_most("boxes beside face-api's, pixels", box, 0.05, spread=spread),
        at_most("landmarks beside face-api's, pixels", landmark, 0.05, spread=spread),
        at_most("embeddings beside face-api's, any number", vector, 1e-3, spread=spread, digits=6),
    ]


@registry.check(5, "faces-identified")
def faces_identified(context: Context) -> list[Row]:
    shown = photographs()
    with recognizer("int8-static") as model:
        faces = [
            (f"{name}-{place}", face) for name, one in shown.items() for place, face in enumerate(seen(model, one))
        ]
        with Index.create(context.folder / "gallery", space=model.space, dimension=model.dimension) as gallery:
            gallery.add([name for name, _ in faces], [face.vector for _, face in faces])
            smaller = {
                name: one.resize((one.width * 3 // 4, one.height * 3 // 4), Image.Resampling.BICUBIC)
                for name, one in shown.items()
            }
            again = [(name, found) for name, one in smaller.items() for found in model.identify(one, gallery)]
            right = sum(found.id is not None and found.id.startswith(name) for name, found in again)
            empty = shown["sample5"].crop(EMPTY)
            nobody, none = model.identify(empty, gallery), seen(model, empty)
            no_face = _raised(FaceError, lambda: model.compare(empty, empty))
        with Index.create(Path(tempfile.mkdtemp(dir=context.folder)) / "other", space="0" * 64, dimension=128) as other:
            refused = _raised(SpaceError, lambda: model.identify(shown["sample3"], other))
    return [
        at_least("faces of smaller photographs known again, share", right / max(1, len(again)), 0.9,
                 spread=f"{right} of {len(again)}, {len(faces)} in the gallery"),
        true("a picture without a face", not nobody and len(none) == 0 and "No face" in none.message, none.message,
             "an empty answer that says so"),
        true("a comparison without a face", bool(no_face), no_face, "FaceError"),
        true("a gallery of another space", bool(refused), refused, "SpaceError"),
    ]  # fmt: skip


def _raised(kind: type[Exception], call: Any) -> str:
    try:
        call()
    except kind as error:
        return f"{type(error).__name__}: {str(error)[:60]}…"
    return ""
