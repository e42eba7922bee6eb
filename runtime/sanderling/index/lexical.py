"""Search by words: how well the words of each item answer a query's (BM25), all of them compared in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling.index import words
from sanderling.index.snapshot import Snapshot

# BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009): how soon a word that comes again counts no
# more, and how much a long text's words count less; the values that search engines take unless they are told.
_SATURATION, _LENGTH = 1.2, 0.75
# Terms compared at a time, for each of the query's: they stay in the cache.
_TERMS_AT_ONCE = 2**16


def scores(snapshot: Snapshot, query: str, of: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """The BM25 score of every row, (rows,); 0 where none of the query's words stands.

    `of` says for each row, (rows,), which document it is a piece of, counted from 0: then documents are scored, each by
    the words of all its pieces, (documents,). Rows that were deleted count for nothing, and have 0.
    """
    counts = snapshot.table["terms"].astype(np.float32)
    if snapshot.alive is not None:
        counts *= snapshot.alive
    lengths = counts if of is None else np.bincount(of, counts).astype(np.float32)
    standing = []
    for places in _places(snapshot.terms, np.unique(words.terms(query))):
        rows = np.searchsorted(snapshot.term_ends, places, side="right")
        if snapshot.alive is not None:
            rows = rows[snapshot.alive[rows]]
        standing.append(rows if of is None else of[rows])
    return _bm25(lengths, standing)


def of_names(names: Sequence[str], query: str) -> NDArray[np.float32]:
    """The BM25 score of every name by its words, in the singular as in the plural, (names,)."""
    found = [words.singular(name) for name in names]
    lengths = np.array([len(terms) for terms in found], np.int64)
    owners = np.repeat(np.arange(len(names)), lengths)
    terms = np.concatenate(found) if found else np.empty(0, np.uint32)
    asked = np.unique(words.singular(query))
    return _bm25(lengths.astype(np.float32), [owners[places] for places in _places(terms, asked)])


def _bm25(lengths: NDArray[np.float32], standing: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """The scores of texts of so many words, (texts,); for each of a query's words, in which it stands each time."""
    found = np.zeros(len(lengths), np.float32)
    texts = np.count_nonzero(lengths)
    if not texts:
        return found
    damping = _SATURATION * (1 - _LENGTH + _LENGTH / (float(lengths.sum(dtype=np.float64)) / texts) * lengths)
    for where in standing:
        having, times = np.unique(where, return_counts=True)
        rarity = np.log1p((texts - len(having) + 0.5) / (len(having) + 0.5))
        found[having] += rarity * times * (_SATURATION + 1) / (times + damping[having])
    return found


def _places(terms: NDArray[np.uint32], wanted: NDArray[np.uint32]) -> list[NDArray[np.int64]]:
    """Where each of the terms `wanted` stands among `terms`, in rising order."""
    found: list[list[NDArray[np.int64]]] = [[] for _ in wanted]
    for first in range(0, len(terms), _TERMS_AT_ONCE):
        block = terms[first : first + _TERMS_AT_ONCE]
        for places, term in zip(found, wanted, strict=True):
            places.append(np.flatnonzero(block == term) + first)
    return [np.concatenate(places) if places else np.empty(0, np.int64) for places in found]
