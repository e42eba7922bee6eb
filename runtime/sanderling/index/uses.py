"""What vectors are for, beside search: near duplicates, and recommendation from what is liked and disliked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sanderling.counts import whole_number
from sanderling.errors import InputError
from sanderling.index.filters import Filter
from sanderling.index.index import Index
from sanderling.index.opened import Hit

_ROWS_AT_ONCE = 1024
_DISLIKED = 0.5
_CANDIDATES = 10


def near_duplicates(index: Index, min_cosine: float = 0.95) -> list[list[str]]:
    """Groups of items whose vectors are alike: each item has a cosine of at least `min_cosine` to another of its group.

    The ids of each group are in the index's order, the largest groups first; items like no other are in none. Every
    vector is compared with every other one: for n items n * n / 2 products.
    Raises InputError for a cosine that is none.
    """
    if not -1 <= min_cosine <= 1:
        raise InputError(f"min_cosine is {min_cosine!r}; a cosine from -1 to 1 was expected.")
    ids = index.ids()
    vectors = index.vectors(ids)
    group = np.arange(len(ids))
    for first in range(0, len(ids), _ROWS_AT_ONCE):
        block = vectors[first : first + _ROWS_AT_ONCE]
        for begin in range(first, len(ids), _ROWS_AT_ONCE):
            alike = block @ vectors[begin : begin + _ROWS_AT_ONCE].T >= min_cosine
            for one, other in np.argwhere(alike).tolist():
                a, b = _root(group, first + one), _root(group, begin + other)
                group[max(a, b)] = min(a, b)
    members: dict[int, list[str]] = {}
    for row, identifier in enumerate(ids):
        members.setdefault(_root(group, row), []).append(identifier)
    return sorted((found for found in members.values() if len(found) > 1), key=len, reverse=True)


def recommend(
    index: Index,
    liked: Iterable[str] | str,
    disliked: Iterable[str] | str = (),
    k: int = 10,
    *,
    diversity: float = 0.3,
    filter: Filter | None = None,  # noqa: A002 - as Index.search
) -> list[Hit]:
    """The `k` items that are most like those liked and unlike those disliked, and unlike each other; none of them.

    The score is the cosine to the mean of the liked vectors less half the mean of the disliked ones. Of the best 10 k
    items each is taken in turn that is highest in (1 - diversity) times its score less diversity times its highest
    cosine to one taken before: maximal marginal relevance (Carbonell and Goldstein, 1998). `diversity` of 0 is plain
    search. Raises InputError: an id that is not there, nothing liked, or a diversity not from 0 to 1.
    """
    wanted, unwanted = _listed(liked), _listed(disliked)
    if not wanted:
        raise InputError("Nothing is liked; at least one id was expected.")
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity is {diversity!r}; a number from 0 to 1 was expected.")
    k = whole_number("k", k)
    query = index.vectors(wanted).mean(axis=0)
    if unwanted:
        query = query - _DISLIKED * index.vectors(unwanted).mean(axis=0)
    given = {*wanted, *unwanted}
    found = index.search(query[None], _CANDIDATES * k + len(given), filter=filter, space=index.space)
    candidates = [hit for line in found if isinstance(line, list) for hit in line if hit.id not in given]
    if not candidates:
        return []
    return [
        candidates[row] for row in _diverse(index.vectors([hit.id for hit in candidates]), candidates, k, diversity)
    ]


def _diverse(vectors: NDArray[np.float32], hits: list[Hit], k: int, diversity: float) -> list[int]:
    """The rows chosen, in the order of choice."""
    scores = np.array([hit.score for hit in hits])
    nearest = np.full(len(hits), -np.inf)
    left = np.ones(len(hits), bool)
    chosen: list[int] = []
    while len(chosen) < min(k, len(hits)):
        worth = scores if not chosen else (1 - diversity) * scores - diversity * nearest
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        left[best] = False
        chosen.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen


def _listed(ids: Iterable[str] | str) -> list[str]:
    return [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))


def _root(group: NDArray[np.int64], row: int) -> int:
    while group[row] != row:
        group[row] = group[group[row]]
        row = int(group[row])
    return row
