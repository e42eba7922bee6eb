"""The k best scores of each query, kept while blocks of scores go by: nothing is sorted but what may be kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# What is offered first is looked at in stretches of at most so many scores.
_STRETCH = 64
# Scores that wait to be sorted, at least, and for each that is kept.
_WAITING, _WAITING_EACH = 2**14, 2
# Bits of a place, beside 32 of a score and the rest of a query's number.
_PLACE_BITS = 25


class Nearest:
    """For each of `queries`, the `k` highest scores offered so far, and their rows; of equal ones the earliest rows.

    Whatever exceeds the k-th best known waits; when much does, it is sorted, all queries' at once, and the k-th best of
    each is known better.
    """

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        # What a score has to exceed to be among the k.
        self._floors = np.full(queries, -np.inf, np.float32)
        none = np.empty(0, np.int64)
        # Queries, rows and scores: in the order of the queries, the best first of each, and then those that wait.
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = [
            (none, none, np.empty(0, np.float32))
        ]
        self._waiting = 0
        self._most = max(_WAITING, _WAITING_EACH * k * queries)

    def offer(self, scores: NDArray[np.float32], first: int) -> None:
        """Scores of the shape (queries, n), of the rows from `first` on; minus infinity for what does not count."""
        if np.isneginf(self._floors).all():
            self._floors = np.maximum(self._floors, _below(_kth(scores, self._k)))
        found = np.flatnonzero(scores > self._floors[:, None])
        if len(found):
            queries, places = np.divmod(found, scores.shape[1])
            self._take(queries, places + first, scores[queries, places])

    def offer_rows(self, query: int, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Scores of one query, (n,), of these rows in rising order."""
        places = np.flatnonzero(scores > self._floors[query])
        if len(places):
            self._take(np.full(len(places), query), rows[places], scores[places])

    def best(self, query: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows and the scores kept of one query, best first."""
        if self._waiting:
            self._settle()
        queries, rows, scores = self._found[0]
        first, last = np.searchsorted(queries, (query, query + 1))
        return rows[first:last], scores[first:last]

    def _take(self, queries: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        self._found.append((queries, rows, scores))
        self._waiting += len(queries)
        if self._waiting > self._most:
            self._settle()

    def _settle(self) -> None:
        """Keep the k best of each query of all that was found."""
        queries, rows, scores = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        places = order(queries, scores)
        queries, rows, scores = queries[places], rows[places], scores[places]
        ranks = np.arange(len(queries)) - np.searchsorted(queries, np.arange(len(self._floors)))[queries]
        last = ranks == self._k - 1
        self._floors[queries[last]] = scores[last]
        kept = ranks < self._k
        self._found, self._waiting = [(queries[kept], rows[kept], scores[kept])], 0


def order(queries: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The places by query, then from the highest score down; equal ones stay in their order.

    All three are packed in one number to sort, which is many times faster than to sort places by several keys.
    """
    if len(queries) >> _PLACE_BITS or (len(queries) and queries.max() >> (32 - _PLACE_BITS)):
        return np.lexsort((-scores, queries))
    # Of numbers above zero more is more as of bits, below zero less; there is one zero.
    bits = (scores + np.float32(0)).view(np.uint32)
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF)).astype(np.uint64)
    key = queries.astype(np.uint64) << np.uint64(32 + _PLACE_BITS) | falling << np.uint64(_PLACE_BITS)
    key |= np.arange(len(queries), dtype=np.uint64)
    key.sort()
    return (key & np.uint64((1 << _PLACE_BITS) - 1)).astype(np.int64)


def _kth(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each query a score that at least k of its reach, (queries,): the k-th highest of the highest of stretches."""
    count = scores.shape[1]
    stretch = max(1, min(_STRETCH, count // (2 * k)))
    whole = count // stretch
    if whole <= k:
        return np.full(len(scores), -np.inf, np.float32)
    tops = scores[:, : whole * stretch].reshape(len(scores), whole, stretch).max(axis=2) if stretch > 1 else scores
    found: NDArray[np.float32] = np.partition(tops, whole - k, axis=1)[:, whole - k]
    return found


def _below(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.nextafter(scores, np.float32(-np.inf))
