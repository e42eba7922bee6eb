"""Exact search: every vector is scored, in blocks; int8 finds candidates first, which are scored exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sanderling import cores
from sanderling.index import layout
from sanderling.index.nearest import Nearest
from sanderling.index.snapshot import Snapshot

# Scores made at a time: a megabyte, which stays in the cache until the best are taken.
_SCORES_AT_ONCE = 2**18
_QUERIES_AT_ONCE = 64
_MOST_ROWS, _MOST_HALF_ROWS = 2**18, 2**12

# Candidates that codes bring for k wanted.
_CANDIDATES, _MORE_CANDIDATES = 8, 64

# Below this share of rows that a filter leaves, they are scored by themselves.
_FEW = 16


def search(
    snapshot: Snapshot, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """For each query, (n, d), the rows of the k highest products and those products, best first.

    `allowed` says which rows count, (rows,); None for all.
    """
    found = []
    # As many as were granted when the process first asked: to ask the system again takes a tenth of a millisecond.
    with cores.budget().use(cores.budget().total):
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            found += _search(snapshot, queries[first : first + _QUERIES_AT_ONCE], k, allowed)
    return found


def _search(
    snapshot: Snapshot, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    nearest = Nearest(len(queries), k)
    if allowed is not None:
        rows = np.flatnonzero(allowed)
        if len(rows) <= max(layout.BLOCK, len(allowed) // _FEW):
            scores = queries @ snapshot.vectors[rows].astype(np.float32, copy=False).T
            for query, line in enumerate(scores):
                nearest.offer_rows(query, line, rows)
            return [nearest.best(query) for query in range(len(queries))]
    first = 0
    if len(snapshot.codes):
        first = len(snapshot.codes) * layout.BLOCK
        _rescore(snapshot, queries, k, allowed, nearest)
    offer(snapshot, queries, first, allowed, nearest)
    return [nearest.best(query) for query in range(len(queries))]


def offer(
    snapshot: Snapshot, queries: NDArray[np.float32], first: int, allowed: NDArray[np.bool_] | None, nearest: Nearest
) -> None:
    """Offer the exact scores of all rows from `first` on."""
    vectors = snapshot.vectors
    # Halves are widened block by block, in the cache.
    most = _MOST_ROWS if vectors.dtype == np.float32 else _MOST_HALF_ROWS
    size = min(most, max(1024, _SCORES_AT_ONCE // len(queries)))
    for begin in range(first, len(vectors), size):
        block = vectors[begin : begin + size].astype(np.float32, copy=False)
        scores = queries @ block.T
        if allowed is not None:
            scores[:, ~allowed[begin : begin + size]] = -np.inf
        nearest.offer(scores, begin)


def _rescore(
    snapshot: Snapshot, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, nearest: Nearest
) -> None:
    """Offer the exact scores of the rows that the codes find."""
    from sanderling.index import codes  # ONNX Runtime, for those who search codes

    wanted = _CANDIDATES * k + _MORE_CANDIDATES
    candidates = Nearest(len(queries), wanted)
    turned = queries @ snapshot.axes if snapshot.header.axes else queries
    codes.offer(turned, snapshot.codes, snapshot.scales, allowed, candidates)
    for number, query in enumerate(queries):
        rows = np.sort(candidates.best(number)[0])
        nearest.offer_rows(number, snapshot.vectors[rows] @ query, rows)
