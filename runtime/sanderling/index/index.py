"""The index: vectors of one space by their ids, with metadata; durable, searched by cosine."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast, get_args

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.counts import whole_number
from sanderling.errors import InputError, SanderlingError, SearchIndexError
from sanderling.index import exact, filters, growth, incoming, journal, layout
from sanderling.index.filters import Filter
from sanderling.index.incoming import Incoming, Metadata, Vectors
from sanderling.index.layout import Header, Precision
from sanderling.index.snapshot import Snapshot
from sanderling.spaces import MIN_COSINE, warn_of_mixed

if TYPE_CHECKING:
    from sanderling.fronts import Input
    from sanderling.tasks.feature_extraction import EmbeddingModel

_ROWS_AT_ONCE = 65536


class Hit(Struct, frozen=True):
    """One item that a search found: its id, the cosine of its vector to the query's, and its metadata."""

    id: str
    score: float
    metadata: dict[str, Any]


class Index:
    """Vectors of one embedding space, each with an id and metadata, in a folder. Made by `create` and `open`.

    Every change is on the disk when the call returns; a crash at any point loses nothing that was. One writer at a time
    has an index open, any number of readers beside it; a reader sees the index as it was opened until `refresh`.
    Searches may run in many threads; changes are made one after the other.
    """

    def __init__(self, folder: Path, snapshot: Snapshot, writer: journal.Journal | None) -> None:
        self.path = folder
        self._snapshot: Snapshot | None = snapshot
        self._journal = writer
        self._changing = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        space: str,
        dimension: int,
        precision: Precision = "float32",
        about: Mapping[str, Any] | None = None,
    ) -> Self:
        """A new, empty index in a new folder, open for writing.

        `space` is the fingerprint of the embedding space and `dimension` the length of its vectors, both as the model
        says (`model.space`, `model.dimension`). `precision` is what is searched: "float32"; "float16", half as large,
        with errors of 0.0005 of a number; "int8", which is searched in a quarter of the bytes and scores what it finds
        in float32, which is kept beside it. `about` is for the application, a mapping that JSON can hold.
        Raises StorageError where something else is, InputError for what is no space, dimension or precision.
        """
        folder = Path(path)
        dimension = whole_number("dimension", dimension, layout.MAX_DIMENSION)
        if precision not in get_args(Precision):
            raise InputError(f"precision is {precision!r}; one of {', '.join(get_args(Precision))} was expected.")
        if not isinstance(space, str) or not space:
            raise InputError("space is empty; the fingerprint of an embedding space was expected: model.space.")
        header = Header(layout.FORMAT, layout.VERSION, space, dimension, precision, about=incoming.plain_json(about))
        journal.prepare_folder(folder)
        writer = journal.Journal(folder)
        try:
            # Another may have made one between the look and the lock.
            journal.prepare_folder(folder)
            writer.commit(header)
            writer.tidy(header)
            return cls(folder, Snapshot(folder, header), writer)
        except BaseException:
            writer.close()
            raise

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False) -> Self:
        """The index in a folder, in milliseconds: its files are mapped into memory, and read as they are needed.

        Raises SearchIndexError: none there, damaged, cut short, of a newer version; IndexBusyError where another writer
        has it open; StorageError where it may not be written.
        """
        folder = Path(path)
        if not writable:
            return cls(folder, Snapshot.latest(folder), None)
        layout.read_header(folder)
        writer = journal.Journal(folder)
        try:
            snapshot = Snapshot.latest(folder)
            writer.tidy(snapshot.header)
            return cls(folder, snapshot, writer)
        except BaseException:
            writer.close()
            raise

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
            return snapshot.item(_row(snapshot, identifier))[1]

    def vectors(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """The vectors of these items divided by their lengths, (n, d), float32. Raises InputError."""
        with self._changing:
            snapshot = self._open()
            rows = [_row(snapshot, identifier) for identifier in incoming.identifiers(ids)[0]]
            return snapshot.vectors[rows].astype(np.float32)

    def add(
        self,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None = None,
        *,
        model: EmbeddingModel | None = None,
        prompt: str | None = None,
        space: str | None = None,
    ) -> None:
        """Add items under new ids; all of them, or on any error none.

        `vectors` are what an embedding model answered; or inputs, with the `model` (and `prompt`) to embed them with;
        or an array of the shape (d,) or (n, d), with the `space` it is of. Their directions are kept, not their
        lengths. `metadata` is a mapping for each id (one alone for a single id).
        Raises SpaceError for vectors of another space, InputError for ids that are there, StorageError.
        """
        self._put((), ids, vectors, metadata, model, prompt, space, fresh=True)

    def update(
        self,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None = None,
        *,
        model: EmbeddingModel | None = None,
        prompt: str | None = None,
        space: str | None = None,
        delete: Iterable[str] | str = (),
    ) -> None:
        """As `add`, but an id that is there gets the new vector and metadata instead of its old ones.

        `delete` are ids to delete in the same step: a reader, and a crash, sees all of it or nothing.
        """
        self._put(delete, ids, vectors, metadata, model, prompt, space, fresh=False)

    def delete(self, ids: Iterable[str] | str) -> None:
        """Delete items. Raises InputError for an id that is not there; then none is deleted."""
        with self._changing:
            header = self._open().header
            self._change(incoming.identifiers(ids)[0], (), growth.none(header), None)

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
        snapshot = self._open()
        given = incoming.vectors(vectors, space, snapshot.header.space, snapshot.header.dimension)
        _warn(snapshot.header, given, stacklevel=4)
        k = min(whole_number("k", k), max(1, snapshot.count))
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

        snapshot = self._open()
        given = incoming.vectors(vectors, space, snapshot.header.space, snapshot.header.dimension)
        _warn(snapshot.header, given, stacklevel=4)
        k = min(whole_number("k", k), max(1, snapshot.count))
        found = approximate.search(snapshot, given.rows, k, whole_number("effort", effort))
        return _answer(snapshot, found, given)

    def build_graph(self) -> None:
        """Make the graph for `search_approximately`, of all items that are there; an older one is replaced.

        It takes minutes for a million vectors. `compact` drops it. Raises StorageError, MissingExtraError.
        """
        from sanderling.index import approximate  # the extra `search`

        with self._changing:
            writer, snapshot = self._writer(), self._open()
            try:
                writer.commit(replace(snapshot.header, graph=approximate.build(snapshot)))
            finally:
                self._reload(writer)

    def refresh(self) -> None:
        """See what was written since the index was opened. Raises SearchIndexError."""
        with self._changing:
            self._open()
            if self._journal is None:
                self._snapshot = Snapshot.latest(self.path)

    def check(self) -> None:
        """Read every byte and compare it with its checksum. Raises SearchIndexError for the first that differs."""
        self._open().check()

    def compact(self) -> None:
        """Write the index anew without what was deleted, and free its space.

        Raises StorageError; then it is as it was.
        """
        with self._changing:
            writer = self._writer()
            old = self._open()
            rows = old.rows()
            header = replace(old.header, generation=old.header.generation + 1, rows=0, deleted=0, files={}, graph=None)
            try:
                # A whole number of blocks at a time, so that none is begun twice.
                for first in range(0, len(rows), _ROWS_AT_ONCE):
                    new = _copied(old, rows[first : first + _ROWS_AT_ONCE])
                    pieces, changed = growth.grown(header, old.vectors[:0], new, ())
                    header = writer.append(header, pieces, changed)
                writer.commit(header)
            finally:
                self._reload(writer)

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

    def _put(
        self,
        delete: Iterable[str] | str,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None,
        model: EmbeddingModel | None,
        prompt: str | None,
        space: str | None,
        *,
        fresh: bool,
    ) -> None:
        self._writer()
        named, single = incoming.identifiers(ids)
        data, table = incoming.items(named, metadata, single)
        header = self._open().header
        if model is not None:
            incoming.check_space(model.space, header.space)
            vectors = model(cast("Any", vectors), prompt=prompt)
        given = incoming.vectors(cast("Vectors", vectors), space, header.space, header.dimension)
        if len(given.rows) != len(named):
            raise InputError(f"There are {len(named)} ids and {len(given.rows)} vectors; one for each was expected.")
        with self._changing:
            snapshot = self._open()
            there = [identifier for identifier in named if identifier in snapshot.row_of]
            if there and fresh:
                raise InputError(
                    f"{len(there)} of the ids are in the index, the first {there[0][:80]!r}; update replaces items."
                )
            _warn(snapshot.header, given, stacklevel=5)
            gone = dict.fromkeys([*incoming.identifiers(delete)[0], *there])
            self._change(gone, named, growth.Growth(given.rows, data, table), given)

    def _change(self, gone: Iterable[str], named: Sequence[str], new: growth.Growth, given: Incoming | None) -> None:
        """Append to the files, then let it count; with the lock held."""
        writer, snapshot = self._writer(), self._open()
        rows = {identifier: _row(snapshot, identifier) for identifier in gone}
        if not rows and not named:
            return
        header = snapshot.header
        pieces, changed = growth.grown(header, snapshot.tail, new, list(rows.values()))
        if given is not None:
            changed = replace(changed, variants=header.variants | given.variants)
        try:
            changed = writer.append(header, pieces, changed)
            writer.commit(changed)
            after = Snapshot(self.path, changed)
        except BaseException:
            self._reload(writer)
            raise
        # The writer's own table of ids is carried on, not made anew.
        row_of = snapshot.row_of
        for identifier in rows:
            del row_of[identifier]
        row_of.update(zip(named, range(header.rows, changed.rows), strict=True))
        after.row_of = row_of
        self._snapshot = after

    def _reload(self, writer: journal.Journal) -> None:
        """See what is on the disk, whatever became of a change; the next one begins there."""
        self._snapshot = None
        # Where even that cannot be read, the index says that it is closed.
        with suppress(SanderlingError):
            self._snapshot = Snapshot.latest(self.path)
            writer.tidy(self._snapshot.header)

    def _open(self) -> Snapshot:
        if self._snapshot is None:
            raise SearchIndexError(f"The index {self.path} was closed; open it again.")
        return self._snapshot

    def _writer(self) -> journal.Journal:
        self._open()
        if self._journal is None:
            raise SearchIndexError(f"{self.path} is open for reading; to change it: Index.open(path, writable=True).")
        return self._journal


def _row(snapshot: Snapshot, identifier: str) -> int:
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


def _copied(snapshot: Snapshot, rows: NDArray[np.int64]) -> growth.Growth:
    """Rows of an index, as new ones; their items are read and compared with their checksums."""
    pairs = [snapshot.item(row) for row in rows.tolist()]
    data, table = incoming.items([pair[0] for pair in pairs], [pair[1] for pair in pairs], single=False)
    return growth.Growth(snapshot.vectors[rows].astype(np.float32, copy=False), data, table)


def _warn(header: Header, given: Incoming, stacklevel: int) -> None:
    variants = [*header.variants.items(), *given.variants.items()]
    warn_of_mixed(variants, MIN_COSINE, stacklevel=stacklevel)
