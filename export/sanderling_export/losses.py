"""What smaller and shorter vectors of a variant cost, measured against the original's float32 vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling import precisions
from sanderling.schema.variants import VectorLoss
from sanderling.verification import cosines

PRECISIONS = ("float32", "float16", "int8", "binary")
# Of so many nearest others; fewer inputs than this in all say too little.
_NEAREST = 10
_FEWEST = 30


def measure(
    rows: NDArray[np.float32], expected: NDArray[np.float32], dimensions: Sequence[int]
) -> dict[str, VectorLoss]:
    """Losses of a variant's vectors `rows` against the original's, both (inputs, d); empty for few inputs.

    By precision ("float16"), and for float32 cut to each of `dimensions` ("float32-128").
    """
    known = expected.any(axis=1) & rows.any(axis=1)
    rows, expected = rows[known], expected[known]
    if len(rows) < _FEWEST:
        return {}
    truth = _nearest(expected)
    found = {}
    for precision in PRECISIONS:
        if precision == "binary" and rows.shape[1] % 8:
            continue
        values, scales = precisions.compress(rows, precision)
        vectors = precisions.expand(values, precision, scales)
        near = cosines(vectors, expected) if precision != "binary" else None
        found[precision] = VectorLoss(
            _recall(_nearest(vectors), truth),
            len(rows),
            float(near.mean()) if near is not None else None,
            float(near.min()) if near is not None else None,
        )
    for cut in dimensions:
        found[f"float32-{cut}"] = VectorLoss(_recall(_nearest(rows[:, :cut]), truth), len(rows))
    return found


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The places of each vector's ten nearest others by cosine, (n, 10)."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :_NEAREST]


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(shares))
