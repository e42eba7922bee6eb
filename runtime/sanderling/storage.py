"""Writing that survives interruption: atomic files, held locks, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sanderling.errors import StorageError

_LOCK_NAME = ".lock"

# What ends the name of a staging folder, and of the folder that was built in it.
TOKEN = re.compile("[0-9a-f]{8}")


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
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. What stood there before is unchanged; "
            "free some space or choose another folder."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} is written, but the system did not confirm that it would outlast a loss of power: "
            f"{error.strerror or error}. Check the disk, and write it again."
        ) from error


def sync_file(path: Path) -> None:
    """Flush a file that another library wrote to the disk."""
    # Windows flushes only what is open for writing; elsewhere a read-only file is flushed too.
    with path.open("rb+" if sys.platform == "win32" else "rb") as file:
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.iterdir():
            token = leftover.name.removeprefix(f".{target.name}.staging-")
            if TOKEN.fullmatch(token) and leftover == _staging(target, token):
                with suppress(OSError):  # Another user's: theirs to sweep.
                    _sweep(leftover)
        folder, lock = _locked_folder(target)
    except OSError as error:
        raise StorageError(
            f"Could not write beside {target}: {error.strerror or error}. Choose another folder."
        ) from error
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def is_staged(target: Path, token: str) -> bool:
    """Whether a living process is building for `target` in the staging folder whose name ends in `token`."""
    lock_file = _staging(target, token) / _LOCK_NAME
    if not lock_file.is_file():
        return False
    lock = FileLock(lock_file)
    free = lock.acquire()
    lock.release()
    return not free


def _staging(target: Path, token: str) -> Path:
    return target.parent / f".{target.name}.staging-{token}"


def _locked_folder(target: Path) -> tuple[Path, FileLock]:
    while True:
        folder = _staging(target, secrets.token_hex(4))
        folder.mkdir()
        lock = FileLock(folder / _LOCK_NAME)
        # Another process may sweep the folder before the lock is there: then make another.
        with suppress(FileNotFoundError):
            lock.acquire()
            if (folder / _LOCK_NAME).exists():
                return folder, lock
        lock.release()


def _sweep(leftover: Path) -> None:
    if leftover.is_symlink() or not leftover.is_dir():
        return
    names = [child.name for child in leftover.iterdir()]
    if not names:
        leftover.rmdir()
        return
    # The lock comes first into a folder: one without it is what an interrupted sweeping left.
    lock = FileLock(leftover / _LOCK_NAME)
    if _LOCK_NAME not in names or lock.acquire():
        if sys.platform == "win32":  # It deletes no file that is open.
            lock.release()
        shutil.rmtree(leftover, ignore_errors=True)
        lock.release()


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
