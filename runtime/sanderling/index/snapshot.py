"""What one header says, mapped into memory: it never changes, however the index grows."""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sanderling.errors import SearchIndexError
from sanderling.index import layout
from sanderling.index.layout import Header

# Times a reader looks again, when a writer has just replaced the files it was about to open.
_TRIES = 20
_CHUNK = 2**24


class Snapshot:
    """The arrays of an index at one moment; reading it never blocks, nor is blocked by, the writer."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        dimension = header.dimension
        self._buffers = {name: self._map(name) for name in layout.FILES}
        # Unit vectors, (rows, d); those of deleted rows stay until the index is compacted.
        self.vectors = self._array("vectors", layout.vector_dtype(header.precision)).reshape(-1, dimension)
        # What vectors are turned to before they are coded, (d, axes); (d, 0) where they are coded as they are.
        self.axes = self._array("axes", np.dtype("<f4")).reshape(dimension, header.axes)
        self.codes = self._array("codes", np.dtype(np.int8)).reshape(layout.codes_shape(header))
        # Of each block of codes: what each row's sum is multiplied by, and what is added, (blocks, 2, rows a block).
        self.scales = self._array("scales", np.dtype("<f4")).reshape(-1, 2, layout.BLOCK)
        self.table = self._array("rows", layout.ROW)
        # The words of each row's text, one row after the other.
        self.terms = self._array("terms", layout.TERM)
        deleted = self._array("deleted", np.dtype("<u8"))
        if len(deleted) and int(deleted.max()) >= header.rows:
            raise self._damaged("deleted")
        # Which rows are there, (rows,); None where all are.
        self.alive = layout.alive(header.rows, deleted)
        # How far the graph looks is a setting of its own, not of each question.
        self.asking = threading.Lock()
        self.count = header.rows if self.alive is None else int(np.count_nonzero(self.alive))

    @classmethod
    def latest(cls, folder: Path) -> Snapshot:
        """The index as it is now. Raises SearchIndexError."""
        for _ in range(_TRIES):
            header = layout.read_header(folder)
            try:
                return cls(folder, header)
            except FileNotFoundError as error:
                missing = error.filename
                if layout.read_header(folder).generation == header.generation:
                    break
        raise SearchIndexError(
            f"{missing} is missing, which {folder / layout.HEADER} says is there. Put it back, or make the index again."
        )

    @property
    def tail(self) -> NDArray[Any]:
        """The vectors of the last rows, which do not fill a block of codes yet."""
        return self.vectors[self.header.rows // layout.BLOCK * layout.BLOCK :]

    def identifier(self, row: int) -> str:
        """The id of a row. Raises SearchIndexError where its bytes are damaged."""
        return self._item(row)[0]

    def item(self, row: int) -> tuple[str, dict[str, Any]]:
        """The id and the metadata of a row. Raises SearchIndexError where its bytes are damaged."""
        identifier, metadata = self._item(row)
        try:
            return identifier, msgspec.json.decode(metadata, type=dict[str, Any]) if metadata else {}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged("items") from error

    def rows(self) -> NDArray[np.int64]:
        """The rows that are there, in the order they were added."""
        return np.arange(self.header.rows) if self.alive is None else np.flatnonzero(self.alive)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id; made when it is first wanted, about a second for a million."""
        return dict(self._identifiers())

    @cached_property
    def term_ends(self) -> NDArray[np.uint64]:
        """Where the terms of each row end, (rows,). Raises SearchIndexError where the rows say otherwise."""
        found: NDArray[np.uint64] = np.cumsum(self.table["terms"], dtype=np.uint64)
        if (int(found[-1]) if len(found) else 0) != len(self.terms):
            raise self._damaged("rows")
        return found

    def terms_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The terms of these rows, one row after the other."""
        ends = self.term_ends[rows].tolist()
        counts = self.table["terms"][rows].tolist()
        parts = [self.terms[end - count : end] for end, count in zip(ends, counts, strict=True) if count]
        return np.concatenate(parts) if parts else self.terms[:0]

    @cached_property
    def graph(self) -> Any:
        """The graph for approximate search. Raises SearchIndexError where there is none."""
        from sanderling.index import approximate  # the extra `search`

        return approximate.view(self)

    def check(self) -> None:
        """Read everything and compare it with its checksums. Raises SearchIndexError."""
        for name in layout.FILES:
            found = 0
            view = memoryview(self._buffers[name])
            for first in range(0, len(view), _CHUNK):
                found = zlib.crc32(view[first : first + _CHUNK], found)
            if found != self.header.extent(name).crc32:
                raise self._damaged(name)
        _ = self.term_ends
        for row in self.rows().tolist():
            self.item(row)

    def _identifiers(self) -> Iterator[tuple[str, int]]:
        for row in self.rows().tolist():
            yield self.identifier(row), row

    def _item(self, row: int) -> tuple[str, memoryview]:
        entry = self.table[row]
        first, id_size = int(entry["offset"]), int(entry["id_size"])
        last = first + id_size + int(entry["metadata_size"])
        data = memoryview(self._buffers["items"])[first:last]
        if len(data) != last - first or zlib.crc32(data) != int(entry["crc32"]):
            raise self._damaged("items")
        try:
            return str(data[:id_size], "utf-8"), data[id_size:]
        except UnicodeDecodeError as error:
            raise self._damaged("items") from error

    def _map(self, name: str) -> mmap.mmap | bytes:
        size = self.header.extent(name).bytes
        if not size:
            return b""
        path = layout.data_path(self.folder, name, self.header.generation)
        try:
            with path.open("rb") as file:
                there = file.seek(0, 2)
                if there < size:
                    raise SearchIndexError(
                        f"{path} has {there:,} bytes; {size:,} were acknowledged. It was cut short: put a copy back, "
                        "or make the index again."
                    )
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SearchIndexError(f"{path} cannot be read: {error.strerror or error}. Check the rights.") from error

    def _array(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.frombuffer(self._buffers[name], dtype)

    def _damaged(self, name: str) -> SearchIndexError:
        path = layout.data_path(self.folder, name, self.header.generation)
        return SearchIndexError(
            f"{path} is damaged: its bytes are not those written. Put a copy back, or make it again."
        )
