"""Issue 6: what compressed and approximate search find of the ten nearest that exact search finds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from alternated import times_as_fast
from checks import Context, NotCheckableError, Row, at_least, registry
from index_vectors import MILLION, noisy, real, recall, stored

from sanderling import Index
from sanderling.errors import MissingExtraError

_QUERIES = 1000
# With the least recall of each among the sentences; 64 is what a search takes unless it is told.
_EFFORTS = {32: 0.9, 64: 0.95, 128: 0.95, 256: 0.95}
# At a million vectors.
_EFFORT = 128


def _ids(hits: Any) -> list[list[str]]:
    return [[hit.id for hit in line] for line in hits]


def _others(hits: Any, own: Any) -> list[list[str]]:
    """The ten nearest others: a sentence finds itself in any setting, which says nothing."""
    return [[name for name in line if name != str(row)][:10] for line, row in zip(_ids(hits), own, strict=True)]


@registry.check(6, "index-recall")
def sentences(context: Context) -> list[Row]:
    context.say("embedding the sentences")
    vectors, space = real()
    queries = np.random.default_rng(1).choice(len(vectors), _QUERIES, replace=False)
    asked = vectors[queries]
    rows = []
    with stored(context.folder / "float32", vectors, space, "float32") as index:
        expected = _others(index.search(asked, 11, space=space), queries)
        for precision, bound in (("float16", 0.99), ("int8", 0.99)):
            context.say(precision)
            with stored(context.folder / precision, vectors, space, precision) as other:
                found = recall(_others(other.search(asked, 11, space=space), queries), expected)
            rows.append(
                at_least(
                    f"Recall@10, {precision}, {len(vectors):,} sentences", found, bound, spread=f"{_QUERIES} queries"
                )
            )
        context.say("building the graph")
        try:
            index.build_graph()
        except MissingExtraError as error:
            raise NotCheckableError(str(error)) from error
        for effort, bound in _EFFORTS.items():
            hits = index.search_approximately(asked, 11, effort=effort, space=space)
            found = recall(_others(hits, queries), expected)
            rows.append(at_least(f"Recall@10, usearch, effort {effort}", found, bound, spread=f"{_QUERIES} queries"))
    return rows


@registry.check(6, "index-approximate")
def million(context: Context, count: int = MILLION) -> list[Row]:
    context.say(f"making {count:,} vectors")
    vectors, space = real()
    asked = noisy(vectors, 200)
    with stored(context.folder / "index", noisy(vectors, count), space, "float32") as index:
        context.say("building the graph")
        begun = time.perf_counter()
        try:
            index.build_graph()
        except MissingExtraError as error:
            raise NotCheckableError(str(error)) from error
        built = time.perf_counter() - begun
    with Index.open(context.folder / "index") as index:
        context.say("searching")
        expected = _ids(index.search(asked, space=space))
        found = recall(_ids(index.search_approximately(asked, effort=_EFFORT, space=space)), expected)
        return [
            at_least(
                f"Recall@10, usearch, effort {_EFFORT}, {count:,} vectors",
                found,
                0.95,
                spread=f"{len(asked)} queries; built in {built:.0f} s",
            ),
            times_as_fast(
                f"usearch against exact search, one query, {count:,} vectors",
                lambda: [index.search_approximately(query, effort=_EFFORT, space=space) for query in asked[:20]],
                lambda: [index.search(query, space=space) for query in asked[:20]],
                10.0,
            ),
        ]
