"""How alike pictures of one face are, and how unlike faces of different people: what a threshold is taken from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ExportError
from sanderling.schema.answers import FaceThreshold
from sanderling_export.faces.library import Sight
from sanderling_export.faces.photographs import ALTERATIONS, Photograph

Embed = Callable[[Sequence[Sight]], NDArray[np.float32]]
_RECOGNITION = "recognition"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Cosines: of a face and itself in an altered photograph; of two faces of one photograph, who are two people; and
    of two faces of different photographs, of whom nobody says whether they are."""

    same: NDArray[np.float64]
    different: NDArray[np.float64]
    across: NDArray[np.float64]

    def error(self, threshold: float) -> float:
        """The share of pairs that a threshold decides wrongly, same and different weighing alike."""
        return float((self.same < threshold).mean() + (self.different >= threshold).mean()) / 2


def original(sights: Sequence[Sight]) -> NDArray[np.float32]:
    """The original's embeddings of sights, (n, d)."""
    return np.stack([sight.answers[_RECOGNITION] for sight in sights])


def measure(photographs: Sequence[Photograph], embed: Embed = original) -> Pairs:
    """The cosines of all pairs, by the vectors that `embed` makes of sights."""
    vectors = {id(sight): row for one in photographs for sight, row in _embedded(one, embed)}
    same, different, across = [], [], []
    for place, one in enumerate(photographs):
        for again in one.altered.values():
            same += [_cosine(vectors, a, b) for a, b in zip(one.faces, again, strict=True) if b is not None]
        different += [_cosine(vectors, a, b) for first, a in enumerate(one.faces) for b in one.faces[first + 1 :]]
        across += [_cosine(vectors, a, b) for a in one.faces for other in photographs[place + 1 :] for b in other.faces]
    return Pairs(np.array(same), np.array(different), np.array(across))


def threshold(photographs: Sequence[Photograph], pairs: Pairs) -> FaceThreshold:
    """The cosine that decides fewest pairs wrongly, in the middle of the range that does so.

    Raises ExportError where there are no pairs to decide.
    """
    if not len(pairs.same) or not len(pairs.different):
        raise ExportError("A threshold needs photographs of several people each; the recipe's hold no two faces.")
    steps = np.unique(np.concatenate([pairs.same, pairs.different]))
    middles = (steps[1:] + steps[:-1]) / 2
    errors = np.array([pairs.error(cosine) for cosine in middles])
    least = np.flatnonzero(errors <= errors.min() + 1e-12)
    # Of several ranges that are as good, the highest: to take two people for one is the worse mistake.
    chosen = float(middles[least[-1]])
    names = ", ".join(one.name for one in photographs)
    faces = sum(len(one.faces) for one in photographs)
    how = (
        f"{faces} faces of {names}, by the original's networks in fp32. Same: a face in its photograph and in that "
        f"photograph {', '.join(one.name for one in ALTERATIONS)}. Different: two faces of one photograph. The cosine "
        "decides fewest of these pairs wrongly. Photographs of one person taken on different days are not among them: "
        "for such, and for other people, measure on your own and give threshold=."
    )
    return FaceThreshold(
        round(chosen, 4),
        round(float(pairs.same.min()), 6),
        len(pairs.same),
        round(float(pairs.different.max()), 6),
        len(pairs.different),
        round(pairs.error(round(chosen, 4)), 6),
        how,
    )


def _embedded(photograph: Photograph, embed: Embed) -> list[tuple[Sight, NDArray[np.float32]]]:
    sights = photograph.sights
    return list(zip(sights, embed(sights), strict=True)) if sights else []


def _cosine(vectors: dict[int, NDArray[np.float32]], a: Sight, b: Sight) -> float:
    x, y = vectors[id(a)].astype(np.float64), vectors[id(b)].astype(np.float64)
    return float(x @ y) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12)
