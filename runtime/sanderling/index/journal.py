"""Writing an index: data is appended beyond what counts and reaches the disk; then a new header makes it count."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from sanderling import storage
from sanderling.errors import IndexBusyError, StorageError
from sanderling.index import layout
from sanderling.index.layout import Extent, Header

# What is appended to each file, in pieces.
Pieces = Mapping[str, Sequence[memoryview]]


class Journal:
    """The one writer of an index, by a lock that the system lets go when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = storage.FileLock(folder / layout.LOCK)
        try:
            taken = self._lock.acquire()
        except OSError as error:
            raise StorageError(f"Could not lock {folder} for writing: {error.strerror or error}.") from error
        if not taken:
            raise IndexBusyError(
                f"Another writer has {folder} open; one at a time may write. Wait until it is done, or open the index "
                "for reading."
            )

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def append(self, header: Header, pieces: Pieces, changed: Header) -> Header:
        """Append to the files that `header` describes, and wait for the disk; `changed` with the new extents.

        Raises StorageError. Either way the index is as it was until the new header is committed.
        """
        extents = dict(header.files)
        created = False
        for name, parts in pieces.items():
            if not any(part.nbytes for part in parts):
                continue
            path = layout.data_path(self.folder, name, header.generation)
            created |= not path.exists()
            extents[name] = self._write(path, header.extent(name), parts)
        if created:
            self._sync_names()
        return replace(changed, files=extents)

    def commit(self, header: Header) -> None:
        """Replace the header, so that what was appended counts; when this returns, it is on the disk.

        Raises StorageError; then the index is as it was, or, where only the last confirmation failed, as it should be.
        """
        storage.write_atomic(self.folder / layout.HEADER, layout.encode(header))

    def tidy(self, header: Header) -> None:
        """Remove what an interrupted writer left: bytes that do not count, older generations, half a header.

        What cannot be removed, as on Windows a file that a reader has mapped, stays for the next time.
        """
        current = {layout.data_path(self.folder, name, header.generation): name for name in layout.FILES}
        graph = header.graph and layout.graph_path(self.folder, header.generation, header.graph.rows)
        for path in list(self.folder.iterdir()):
            if path == graph:
                continue
            with suppress(OSError):
                if path in current:
                    counted = header.extent(current[path]).bytes
                    if path.stat().st_size > counted:
                        os.truncate(path, counted)
                elif _leftover(path):
                    path.unlink()

    def _write(self, path: Path, extent: Extent, parts: Sequence[memoryview]) -> Extent:
        try:
            with path.open("r+b" if path.exists() else "x+b", buffering=0) as file:
                file.seek(extent.bytes)
                for part in parts:
                    rest = part.cast("B") if part.nbytes else part
                    extent = extent.grown(rest)
                    while rest.nbytes:
                        # The system may take less than it is given.
                        rest = rest[os.write(file.fileno(), rest) :]
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"Could not write {path}: {error.strerror or error}. The index is as it was; free some space, and "
                "write again."
            ) from error
        return extent

    def _sync_names(self) -> None:
        try:
            storage.sync_folder(self.folder)
        except OSError as error:
            raise StorageError(
                f"Could not write {self.folder}: {error.strerror or error}. The index is as it was; check the disk."
            ) from error


def prepare_folder(folder: Path) -> None:
    """Make the folder of a new index. Raises StorageError where something else stands there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for path in folder.iterdir() if not _ours(path.name)]
    except OSError as error:
        raise StorageError(f"Could not make the folder {folder}: {error.strerror or error}. Choose another.") from error
    if foreign or (folder / layout.HEADER).exists():
        what = f"it holds {foreign[0]}" if foreign else "an index is there already; open it, or remove it first"
        raise StorageError(f"Could not make an index at {folder}: {what}. Choose a new folder.")


def _leftover(path: Path) -> bool:
    """Whether a file that does not count is one that a writer of indexes makes."""
    if path.suffix == ".bin":
        name = path.stem.rstrip("0123456789").removesuffix("-")
        return name in layout.FILES or name.rstrip("0123456789") == "graph"
    return path.suffix == ".partial" and path.name.startswith(f".{layout.HEADER}.")


def _ours(name: str) -> bool:
    """Whether a file of this name may be what a creation left that was interrupted."""
    return name in (layout.HEADER, layout.LOCK) or name.endswith((".bin", ".partial"))
