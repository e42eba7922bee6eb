"""The k best scores of each query, kept while blocks of scores go by: nothing is sorted but what is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Nearest:
    """For each of `queries`, the `k` highest scores offered so far, and their rows; of equal ones the earliest rows."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._scores = [np.empty(0, np.float32) for _ in range(queries)]
        self._rows = [np.empty(0, np.int64) for _ in range(queries)]
        # What a score has to exceed to be among the k.
        self._floors = np.full(queries, -np.inf, np.float32)

    def offer(self, scores: NDArray[np.float32], first: int) -> None:
        """Scores of the shape (queries, n), of the rows from `first` on; minus infinity for what does not count."""
        highest = scores.max(axis=1, initial=-np.inf)
        for query in np.flatnonzero(highest > self._floors).tolist():
            line = scores[query]
            self.offer_rows(query, line, None, first)

    def offer_rows(
        self, query: int, scores: NDArray[np.float32], rows: NDArray[np.int64] | None, first: int = 0
    ) -> None:
        """Scores of one query, (n,), of these rows in rising order; or of those from `first` on."""
        floor = self._floors[query]
        if np.isneginf(floor) and len(scores) > self._k:
            # Nothing is known yet of what it takes: the k-th of the best of short stretches is at least that good.
            floor = max(floor, _below(_kth(scores, self._k)))
        found = np.flatnonzero(scores > floor)
        named = found + first if rows is None else rows[found]
        scores = np.concatenate([self._scores[query], scores[found]])
        named = np.concatenate([self._rows[query], named])
        if len(scores) > self._k:
            kept = _highest(scores, self._k)
            scores, named = scores[kept], named[kept]
        self._scores[query], self._rows[query] = scores, named
        if len(scores) == self._k:
            self._floors[query] = scores.min()

    def best(self, query: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows and the scores kept of one query, best first."""
        order = np.lexsort((self._rows[query], -self._scores[query]))
        return self._rows[query][order], self._scores[query][order]


def _highest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Where the k highest are, in rising order; of those equal to the k-th the first."""
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))


_STRETCH = 64


def _kth(scores: NDArray[np.float32], k: int) -> np.float32:
    """A score that at least k of them reach: the k-th highest of the highest of each stretch of 64."""
    whole = len(scores) // _STRETCH
    if whole < 2 * k:
        return np.float32(-np.inf)
    tops = scores[: whole * _STRETCH].reshape(whole, _STRETCH).max(axis=1)
    return np.float32(np.partition(tops, whole - k)[whole - k])


def _below(score: np.float32) -> np.float32:
    return np.float32(np.nextafter(score, np.float32(-np.inf)))
