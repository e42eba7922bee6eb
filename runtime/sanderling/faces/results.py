"""What models of faces answer: the faces of a picture, whether two are one person's, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.results import Embedding, Embeddings, ImageReport, Timing


class Face(Struct, frozen=True, eq=False):
    """One face. `box` is left, top, right and bottom in pixels of the upright picture, `score` the detector's.

    `landmarks` has the shape (68, 2), float32, x and y in pixels; `vector` is the Embedding that is compared and kept
    in an index. `expressions` are scores by name, `age` is in years, `genders` are scores by name; None where the
    bundle has no component for them. They are what networks say, which err.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]
    vector: Embedding
    expressions: dict[str, float] | None = None
    age: float | None = None
    genders: dict[str, float] | None = None

    @property
    def embedding(self) -> NDArray[np.float32]:
        """The numbers of `vector`: (128,), float32, as the network gives them, of no set length."""
        return self.vector.embedding

    @property
    def expression(self) -> str | None:
        """The expression of the highest score."""
        return _best(self.expressions)

    @property
    def gender(self) -> str | None:
        """The gender of the highest score."""
        return _best(self.genders)

    def __repr__(self) -> str:
        box = ", ".join(f"{edge:.0f}" for edge in self.box)
        said = [word for word in (self.expression, None if self.age is None else f"{self.age:.0f} years") if word]
        return f"Face({', '.join([f'({box})', f'{self.score:.3f}', *said])})"


class Faces(Struct, frozen=True, eq=False):
    """The faces of one picture, those the detector is surest of first; none, where there is none.

    `best_score` is the detector's highest of the whole picture and `min_score` what a face must exceed, so that an
    empty result says how far it is from one. `dropped` counts sights that are not among the faces: beyond the most that
    a bundle allows, or too small or too far outside to be looked at more closely. Its length and its items (Face) are
    those of a sequence.
    """

    items: tuple[Face, ...]
    report: ImageReport
    space: str
    dimension: int
    variant: str
    timing: Timing
    best_score: float
    min_score: float
    dropped: int = 0
    drift: float | None = None

    @property
    def embeddings(self) -> Embeddings:
        """The vectors of all faces, for `similarity` and for an index: (n, 128), float32."""
        rows = [face.embedding for face in self.items]
        stacked = np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)
        return Embeddings(stacked, (self.report,) * len(rows), self.space, self.variant, self.timing, self.drift)

    @property
    def message(self) -> str:
        """In words, what was found."""
        more = f" {self.dropped} more sights were dropped." if self.dropped else ""
        if self.items:
            return f"{len(self.items)} face{'s' if len(self.items) > 1 else ''}.{more}"
        return (
            f"No face: the detector's best score is {self.best_score:.3f}, and a face has more than "
            f"{self.min_score:g}.{more}"
        )

    def __repr__(self) -> str:
        return f"Faces({', '.join(map(repr, self.items)) if self.items else self.message})"

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Face, ...]: ...
    def __getitem__(self, index: int | slice) -> Face | tuple[Face, ...]:
        return self.items[index]

    def __iter__(self) -> Iterator[Face]:
        return iter(self.items)


class FaceMatch(Struct, frozen=True):
    """Whether two faces are one person's: `similarity` is the cosine of their vectors, `same` whether it reaches
    `threshold`."""

    similarity: float
    threshold: float

    @property
    def same(self) -> bool:
        """Whether the similarity reaches the threshold."""
        return self.similarity >= self.threshold


class Identification(Struct, frozen=True, eq=False):
    """Whose face it is: `id` and `metadata` of the gallery's nearest item, None where nobody in it is near enough.

    `similarity` is the cosine to the nearest item, known or not; -1 of an empty gallery.
    """

    face: Face
    id: str | None
    similarity: float
    threshold: float
    metadata: dict[str, Any] | None = None


def _best(scores: dict[str, float] | None) -> str | None:
    return max(scores, key=lambda name: scores[name]) if scores else None
