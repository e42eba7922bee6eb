"""What an open index tells and finds; how it changes is another file's."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.counts import whole_number
from sanderling.errors import InputError, SearchIndexError
from sanderling.index import exact, filters, incoming, journal
from sanderling.index.filters import Filter
from sanderling.index.incoming import Incoming, Vectors
from sanderling.index.layout import Header
from sanderling.index.snapshot import Snapshot
from sanderling.spaces import MIN_COSINE, warn_of_mixed


class Hit(Struct, frozen=True):
    """One item that a search found: its id, the cosine of its vector to the query's, and its metadata."""

    id: str
    score: float
    metadata: dict[str, Any]


class Opened:
    """An index as it is open in this process: a snapshot of its files, and the journal where it may be changed."""

    def __init__(self, folder: Path, snapshot: Snapshot, writer: journal.Journal | None) -> None:
        self.path = folder
        self._snapshot: Snapshot | None = snapshot
        self._journal = writer
        self._changing = threading.RLock()

    @property
    def space(self) -> str:
        """The fingerprint of the embedding space."""
        return self._open().header.space

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._open().header.dimension

    @property
    def precision(self) -> str:
        """What is searched: "float32", "float16" or "int8"."""
        return self._open().header.precision

    @property
    def about(self) -> dict[str, Any]:
        """What the application wrote of the index when it made it."""
        return self._open().header.about

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._journal is not None

    def __len__(self) -> int:
        return self._open().count

    def __contains__(self, identifier: object) -> bool:
        with self._changing:
            return identifier in self._open().row_of

    def __repr__(self) -> str:
        snapshot = self._snapshot
        if snapshot is None:
            return f"<Index {self.path}, closed>"
        header = snapshot.header
        return f"<Index {self.path}, {snapshot.count:,} x {header.dimension}, {header.precision}>"

    def ids(self) -> list[str]:
        """The ids, in the order in which their items were last added or updated."""
        with self._changing:
            return list(self._open().row_of)

    def metadata(self, identifier: str) -> dict[str, Any]:
        """The metadata of an item, empty where there is none. Raises InputError for an id that is not there."""
        with self._changing:
            snapshot = self._open()
            return snapshot.item(row_named(snapshot, identifier))[1]

    def vectors(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """The vectors of these items divided by their lengths, (n, d), float32. Raises InputError."""
        with self._changing:
            snapshot = self._open()
            rows = [row_named(snapshot, identifier) for identifier in incoming.identifiers(ids)[0]]
            return snapshot.vectors[rows].astype(np.float32)

    def search(
        self,
        vectors: Vectors,
        k: int = 10,
        *,
        filter: Filter | None = None,  # noqa: A002 - the word that users look for
        space: str | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` items whose vectors have the highest cosine to the query's, best first; fewer if there are fewer.

        One vector gives a list of Hit, several give a list of such lists. Every vector is compared ("int8": by codes,
        then the best of them exactly). `filter` is a mapping of names to the value, or to a list of the values, that
        the metadata must have; or a function of the metadata. Of equal cosines the item added first comes first.
        Raises SpaceError for a query of another space, InputError for what is no query.
        """
        snapshot, given, k = self._asked(vectors, space, k)
        found = exact.search(snapshot, given.rows, k, filters.allowed(snapshot, filter))
        return _answer(snapshot, found, given)

    def search_approximately(
        self, vectors: Vectors, k: int = 10, *, effort: int = 64, space: str | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """As `search`, by the graph of `build_graph`: faster by far for many vectors, and some of the nearest may be
        missed, fewer with more `effort` (candidates looked at, at least k). Items added since are compared one by one.

        Raises SearchIndexError where no graph was built, MissingExtraError without the extra `search`.
        """
        from sanderling.index import approximate  # the extra `search`

        snapshot, given, k = self._asked(vectors, space, k)
        found = approximate.search(snapshot, given.rows, k, whole_number("effort", effort))
        return _answer(snapshot, found, given)

    def refresh(self) -> None:
        """See what was written since the index was opened. Raises SearchIndexError."""
        with self._changing:
            self._open()
            if self._journal is None:
                self._snapshot = Snapshot.latest(self.path)

    def check(self) -> None:
        """Read every byte and compare it with its checksum. Raises SearchIndexError for the first that differs."""
        self._open().check()

    def close(self) -> None:
        """Let the files and the lock go. Searches under way end as they would; later ones raise SearchIndexError."""
        self._snapshot = None
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, vectors: Vectors, space: str | None, k: int) -> tuple[Snapshot, Incoming, int]:
        """What a search looks in, what for, and how many it gives at most."""
        snapshot = self._open()
        given = incoming.vectors(vectors, space, snapshot.header.space, snapshot.header.dimension)
        warn_of_variants(snapshot.header, given, stacklevel=5)
        return snapshot, given, min(whole_number("k", k), max(1, snapshot.count))

    def _open(self) -> Snapshot:
        if self._snapshot is None:
            raise SearchIndexError(f"The index {self.path} was closed; open it again.")
        return self._snapshot


def row_named(snapshot: Snapshot, identifier: str) -> int:
    row = snapshot.row_of.get(identifier)
    if row is None:
        raise InputError(f"There is no item {identifier[:80]!r} in {snapshot.folder}.")
    return row


def _answer(
    snapshot: Snapshot, found: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], given: Incoming
) -> list[Hit] | list[list[Hit]]:
    hits = [
        [_hit(snapshot, row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
        for rows, scores in found
    ]
    return hits[0] if given.single else hits


def _hit(snapshot: Snapshot, row: int, score: float) -> Hit:
    identifier, metadata = snapshot.item(row)
    return Hit(identifier, min(1.0, max(-1.0, score)), metadata)


def warn_of_variants(header: Header, given: Incoming, stacklevel: int) -> None:
    variants = [*header.variants.items(), *given.variants.items()]
    warn_of_mixed(variants, MIN_COSINE, stacklevel=stacklevel)
