"""Shorter and smaller vectors in an evaluation: a variant's own ones, cut and compressed as the runtime does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import precisions
from sanderling.counts import whole_number
from sanderling.errors import EvalError
from sanderling.manifest import Manifest
from sanderling.schema.vectors import EmbeddingOutput

_FULL = "float32"


class Shape(Struct, frozen=True):
    """Vectors of their first `dimensions` numbers (None: all) in a precision."""

    dimensions: int | None
    precision: str

    def of(self, variant: str) -> str:
        """What a variant with such vectors is called: "fp32:192:int8", "fp32:192", "fp32:int8"."""
        parts = (variant, str(self.dimensions or ""), "" if self.precision == _FULL else self.precision)
        return ":".join(part for part in parts if part)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vectors (n, d), brought to length 1, cut, compressed and expanded again; (n, dimensions), of length 1."""
        cut = unit(unit(rows)[:, : self.dimensions])
        values, scales = precisions.compress(cut, self.precision)
        return unit(precisions.expand(values, self.precision, scales))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors divided by their lengths; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def shapes(manifest: Manifest, dimensions: Sequence[int], asked: Sequence[str]) -> tuple[Shape, ...]:
    """Every one of `dimensions` in every one of the precisions `asked`, without the full vectors themselves.

    Raises EvalError for a model without one dense vector an input, InputError for what its vectors cannot be.
    """
    if not dimensions and not asked:
        return ()
    head = manifest.postprocessing
    if not isinstance(head, EmbeddingOutput):
        raise EvalError(
            f"--dimensions and --precision go with models of one dense vector an input, which {manifest.name} is not."
        )
    cuts = [whole_number("dimensions", cut, head.dimension) for cut in dimensions] or [head.dimension]
    for cut in cuts:
        for precision in asked:
            precisions.check(precision, cut)
    made = (
        Shape(None if cut == head.dimension else cut, precision) for cut in cuts for precision in (*asked,) or (_FULL,)
    )
    return tuple(dict.fromkeys(shape for shape in made if shape != Shape(None, _FULL)))
