"""Approximate search, for millions of vectors: a graph by usearch (extra `search`); what it finds is scored exactly."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Before usearch: ONNX Runtime 1.31 ends the process where it is imported after usearch 2.26.
import sanderling.session  # noqa: F401
from sanderling import cores, storage
from sanderling.errors import MissingExtraError, SearchIndexError, StorageError
from sanderling.index import exact, layout
from sanderling.index.layout import GraphFile, Header
from sanderling.index.nearest import Nearest
from sanderling.index.snapshot import Snapshot

# Neighbours each vector is linked to, and candidates looked at to find them (HNSW's M and efConstruction).
_LINKS, _CARE = 16, 128
_ROWS_AT_ONCE = 16384
_CHUNK = 2**24


def build(snapshot: Snapshot) -> GraphFile:
    """Make the graph of all rows that are there, in a file of its own. Raises MissingExtraError, StorageError."""
    header = snapshot.header
    graph = _empty(header)
    rows = snapshot.rows()
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[first : first + _ROWS_AT_ONCE]
        vectors = snapshot.vectors[some].astype(np.float32, copy=False)
        with cores.budget().use(cores.granted()):
            graph.add(some.astype(np.uint64), vectors, threads=cores.granted())
    path = layout.graph_path(snapshot.folder, header.generation, header.rows)
    try:
        graph.save(str(path))
        storage.sync_file(path)
        storage.sync_folder(path.parent)
        return GraphFile(header.rows, path.stat().st_size, _checksum(path))
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"Could not write {path}: {error}. The index is as it was; free some space, and build the graph again."
        ) from error


def view(snapshot: Snapshot) -> Any:
    """The graph, mapped into memory; it is read in full once, to know that it is whole.

    Raises SearchIndexError: none was built, or it is damaged; MissingExtraError.
    """
    header = snapshot.header
    if header.graph is None:
        raise SearchIndexError(
            f"{snapshot.folder} has no graph for approximate search; make it with Index.build_graph, or search exactly."
        )
    path = layout.graph_path(snapshot.folder, header.generation, header.graph.rows)
    graph = _empty(header)
    try:
        whole = path.stat().st_size == header.graph.bytes and _checksum(path) == header.graph.crc32
    except OSError:
        whole = False
    if not whole:
        raise SearchIndexError(f"{path} is missing or damaged; make it again with Index.build_graph.")
    graph.view(str(path))
    return graph


def search(
    snapshot: Snapshot, queries: NDArray[np.float32], k: int, effort: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """As `exact.search`: the rows that the graph finds, `effort` candidates at least, and all that came after it."""
    graph, nearest = snapshot.graph, Nearest(len(queries), k)
    assert snapshot.header.graph is not None
    wanted = min(max(k, effort), len(graph))
    with cores.budget().use(cores.granted()):
        if wanted:
            with snapshot.asking:
                graph.expansion_search = wanted
                found = graph.search(queries, wanted, threads=cores.granted())
            # One question by itself is answered in another shape.
            counts = [len(found)] if len(queries) == 1 else found.counts
            for query, (keys, count) in enumerate(zip(np.atleast_2d(found.keys), counts, strict=True)):
                rows = np.sort(keys[:count].astype(np.int64))
                if snapshot.alive is not None:
                    rows = rows[snapshot.alive[rows]]
                vectors = snapshot.vectors[rows].astype(np.float32, copy=False)
                nearest.offer_rows(query, vectors @ queries[query], rows)
        exact.offer(snapshot, queries, snapshot.header.graph.rows, snapshot.alive, nearest)
    return [nearest.best(query) for query in range(len(queries))]


def _empty(header: Header) -> Any:
    if importlib.util.find_spec("usearch") is None:
        raise MissingExtraError("Approximate search", "search", "usearch")
    from usearch.index import Index as Graph

    return Graph(
        ndim=header.dimension,
        metric="ip",
        dtype="i8",
        connectivity=_LINKS,
        expansion_add=_CARE,
        enable_key_lookups=False,
    )


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            found = zlib.crc32(data, found)
    return found
