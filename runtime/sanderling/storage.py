"""Writing that survives interruption: atomic files, held locks, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sanderling.errors import StorageError

_LOCK_NAME = ".lock"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash at any point, sees the old file or the new one.

    Raises StorageError if the disk is full or the folder may not be written; the old file then stands.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. What stood there before is unchanged; "
            "free some space or choose another folder."
        ) from error


def sync_file(path: Path) -> None:
    """Flush a file that another library wrote to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names to the disk, on systems that let a folder be opened."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new hidden folder beside `target` to build in; removed at the end with all that is left in it.

    Folders that a killed process left beside the same target are swept first: a living process holds
    the lock inside its own.
    """
    prefix = f".{target.name}.staging-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{prefix}*"):
            _sweep(leftover)
        folder = target.parent / f"{prefix}{secrets.token_hex(4)}"
        folder.mkdir()
        lock = FileLock(folder / _LOCK_NAME)
    except OSError as error:
        raise StorageError(
            f"Could not write beside {target}: {error.strerror or error}. Choose another folder."
        ) from error
    try:
        lock.acquire()
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(leftover: Path) -> None:
    if leftover.is_symlink() or not leftover.is_dir():
        return
    lock = FileLock(leftover / _LOCK_NAME)
    if lock.acquire():
        lock.release()
        shutil.rmtree(leftover, ignore_errors=True)


class FileLock:
    """An exclusive lock on a file, held by the process and let go by the system when it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock without waiting; False if another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the lock go; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
