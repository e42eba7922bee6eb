"""`sanderling run` on models of faces: what is said of each picture, as JSON and for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sanderling.errors import InputError
from sanderling.faces.results import Faces
from sanderling.model import Model

TASK = "face-recognition"


def refuse(model: Model, **options: object) -> None:
    """Raise InputError for an option that was given and says nothing to a model of faces."""
    for name, value in options.items():
        if value not in (None, False, "truncate"):
            raise InputError(
                f"--{name.replace('_', '-')} does not go with pictures of faces; {model.name} takes these."
            )


def record(result: Faces) -> dict[str, Any]:
    """What `--json` says of a picture: its faces, or that there is none and how near the detector came to one."""
    faces = []
    for face in result:
        said: dict[str, Any] = {"box": [round(edge, 2) for edge in face.box], "score": face.score}
        if face.expressions is not None:
            said["expressions"] = face.expressions
        if face.age is not None:
            said["age"] = round(face.age, 2)
        if face.genders is not None:
            said["genders"] = face.genders
        said["landmarks"] = [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks]
        faces.append(said | {"embedding": face.embedding.tolist()})
    found: dict[str, Any] = {"faces": faces, "message": result.message}
    if result.dropped:
        found["dropped"] = result.dropped
    return found


def lines(record: dict[str, Any]) -> Iterator[str]:
    """A record in a few lines for people."""
    yield record["message"]
    for face in record["faces"]:
        left, top, right, bottom = face["box"]
        words = [f"{face['score']:7.4f}", f"{left:.0f}, {top:.0f} to {right:.0f}, {bottom:.0f}"]
        for name in ("expressions", "genders"):
            if name in face:
                score, best = max((score, label) for label, score in face[name].items())
                words.append(f"{best} {score:.2f}")
        if "age" in face:
            words.append(f"about {face['age']:.0f} years")
        yield "  ".join(words)
