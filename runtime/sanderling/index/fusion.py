"""Search by vectors and by words at once: two rankings, made one by what place an item has in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.index import exact, lexical
from sanderling.index.nearest import Nearest
from sanderling.index.snapshot import Snapshot

# Reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009), with its constant: an item at the place n of a ranking,
# from 1, gets 1 / (60 + n) of it.
_CONSTANT = 60
# How far down each ranking is looked, at least.
_DEPTH = 100


class Fused(Struct, frozen=True, eq=False):
    """What a search found for one query, best first, each of the shape (n,): rows, fused scores, cosines, and BM25."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    cosines: NDArray[np.float32]
    words: NDArray[np.float32]


def search(
    snapshot: Snapshot,
    queries: NDArray[np.float32],
    texts: Sequence[str],
    k: int,
    allowed: NDArray[np.bool_] | None,
) -> list[Fused]:
    """For each query, a vector (d,) and its text, the `k` items that are highest in both rankings together."""
    depth = min(max(2 * k, _DEPTH), max(1, snapshot.count))
    near = exact.search(snapshot, queries, depth, allowed)
    found = []
    for query, (rows, _), text in zip(queries, near, texts, strict=True):
        scores = lexical.scores(snapshot, text)
        if allowed is not None:
            scores *= allowed
        found.append(_fused(snapshot, query, rows, highest(scores, depth), scores, k))
    return found


def highest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Where the `k` highest scores are, best first; of equal ones the first. Those of 0 are none."""
    best = Nearest(1, k)
    best.offer(scores[None], 0)
    rows, found = best.best(0)
    return rows[found > 0]


def fused(rankings: Sequence[Sequence[Any] | NDArray[np.int64]]) -> dict[Any, float]:
    """Whatever stands in one of the rankings, each best first, with what it gets of all of them."""
    found: dict[Any, float] = {}
    for ranking in rankings:
        for place, one in enumerate(ranking, start=1):
            found[one] = found.get(one, 0.0) + 1 / (_CONSTANT + place)
    return found


def _fused(
    snapshot: Snapshot,
    query: NDArray[np.float32],
    near: NDArray[np.int64],
    named: NDArray[np.int64],
    words: NDArray[np.float32],
    k: int,
) -> Fused:
    worth = fused([near.tolist(), named.tolist()])
    rows, scores = np.array(list(worth), np.int64), np.array(list(worth.values()), np.float32)
    cosines = snapshot.vectors[rows].astype(np.float32, copy=False) @ query
    # Of equal ones the nearer first, then the one added first.
    order = np.lexsort((rows, -cosines, -scores))[:k]
    return Fused(rows[order], scores[order], cosines[order], words[rows[order]])
