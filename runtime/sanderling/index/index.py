"""The index: vectors of one space by their ids, with metadata; durable, searched by cosine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast, get_args

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.counts import whole_number
from sanderling.errors import InputError, SanderlingError, SearchIndexError
from sanderling.index import growth, incoming, journal, layout
from sanderling.index.incoming import Incoming, Metadata, Vectors
from sanderling.index.layout import Header, Precision
from sanderling.index.opened import Opened, row_named, warn_of_variants
from sanderling.index.snapshot import Snapshot

if TYPE_CHECKING:
    from sanderling.fronts import Input
    from sanderling.tasks.feature_extraction import EmbeddingModel

_ROWS_AT_ONCE = 65536


class Index(Opened):
    """Vectors of one embedding space, each with an id and metadata, in a folder. Made by `create` and `open`.

    Every change is on the disk when the call returns; a crash at any point loses nothing that was. One writer at a time
    has an index open, any number of readers beside it; a reader sees the index as it was opened until `refresh`.
    Searches may run in many threads; changes are made one after the other.
    """

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
        with errors of 0.0005 of a number; "int8", which is searched in at most a quarter of the bytes and scores what
        it finds in float32, which is kept beside it. `about` is for the application, a mapping that JSON can hold.
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

    def add(
        self,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None = None,
        *,
        model: EmbeddingModel | None = None,
        prompt: str | None = None,
        space: str | None = None,
        texts: Sequence[str | None] | str | None = None,
    ) -> None:
        """Add items under new ids; all of them, or on any error none.

        `vectors` are what an embedding model answered; or inputs, with the `model` (and `prompt`) to embed them with;
        or an array of the shape (d,) or (n, d), with the `space` it is of. Their directions are kept, not their
        lengths. `metadata` is a mapping for each id (one alone for a single id). `texts` are what the items say: their
        words (not the texts, which may be metadata) are kept, so that `search` finds the items by `words`, too.
        Raises SpaceError for vectors of another space, InputError for ids that are there, StorageError.
        """
        self._put((), ids, vectors, metadata, model, prompt, space, texts, fresh=True)

    def update(
        self,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None = None,
        *,
        model: EmbeddingModel | None = None,
        prompt: str | None = None,
        space: str | None = None,
        texts: Sequence[str | None] | str | None = None,
        delete: Iterable[str] | str = (),
    ) -> None:
        """As `add`, but an id that is there gets the new vector, metadata and text instead of its old ones.

        `delete` are ids to delete in the same step: a reader, and a crash, sees all of it or nothing.
        """
        self._put(delete, ids, vectors, metadata, model, prompt, space, texts, fresh=False)

    def delete(self, ids: Iterable[str] | str) -> None:
        """Delete items. Raises InputError for an id that is not there; then none is deleted."""
        with self._changing:
            header = self._open().header
            self._change(incoming.identifiers(ids)[0], (), growth.none(header), None)

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

    def compact(self) -> None:
        """Write the index anew without what was deleted, and free its space.

        Raises StorageError; then it is as it was.
        """
        with self._changing:
            writer = self._writer()
            old = self._open()
            rows = old.rows()
            header = replace(
                old.header, generation=old.header.generation + 1, rows=0, deleted=0, axes=0, files={}, graph=None
            )
            axes = growth.axes(header, old.vectors, rows)
            try:
                # A whole number of blocks at a time, so that none is begun twice.
                for first in range(0, len(rows), _ROWS_AT_ONCE):
                    new = _copied(old, rows[first : first + _ROWS_AT_ONCE])
                    pieces, changed = growth.grown(header, old.vectors[:0], new, (), axes)
                    header = writer.append(header, pieces, changed)
                writer.commit(header)
            finally:
                self._reload(writer)

    def _put(
        self,
        delete: Iterable[str] | str,
        ids: Iterable[str] | str,
        vectors: Vectors | Sequence[Input],
        metadata: Sequence[Metadata | None] | Metadata | None,
        model: EmbeddingModel | None,
        prompt: str | None,
        space: str | None,
        texts: Sequence[str | None] | str | None,
        *,
        fresh: bool,
    ) -> None:
        self._writer()
        named, single = incoming.identifiers(ids)
        data, table = incoming.items(named, metadata, single)
        terms = incoming.terms(texts, table, single)
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
            warn_of_variants(snapshot.header, given, stacklevel=5)
            gone = dict.fromkeys([*incoming.identifiers(delete)[0], *there])
            self._change(gone, named, growth.Growth(given.rows, data, terms, table), given)

    def _change(self, gone: Iterable[str], named: Sequence[str], new: growth.Growth, given: Incoming | None) -> None:
        """Append to the files, then let it count; with the lock held."""
        writer, snapshot = self._writer(), self._open()
        rows = {identifier: row_named(snapshot, identifier) for identifier in gone}
        if not rows and not named:
            return
        header = snapshot.header
        axes = snapshot.axes if len(snapshot.codes) else None
        pieces, changed = growth.grown(header, snapshot.tail, new, list(rows.values()), axes)
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

    def _writer(self) -> journal.Journal:
        self._open()
        if self._journal is None:
            raise SearchIndexError(f"{self.path} is open for reading; to change it: Index.open(path, writable=True).")
        return self._journal


def _copied(snapshot: Snapshot, rows: NDArray[np.int64]) -> growth.Growth:
    """Rows of an index, as new ones; their items are read and compared with their checksums."""
    pairs = [snapshot.item(row) for row in rows.tolist()]
    data, table = incoming.items([pair[0] for pair in pairs], [pair[1] for pair in pairs], single=False)
    table["terms"] = snapshot.table["terms"][rows]
    return growth.Growth(snapshot.vectors[rows].astype(np.float32, copy=False), data, snapshot.terms_of(rows), table)
