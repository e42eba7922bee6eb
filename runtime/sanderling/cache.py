"""The user's cache: small JSON records under one folder, one key scheme, written atomically.

Losing it costs time, never correctness: a record that is missing, damaged or unwritable is as if never made.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from sanderling.errors import StorageError

T = TypeVar("T")

_MAX_RECORD_BYTES = 4 * 2**20


def folder() -> Path:
    """The cache folder: `SANDERLING_CACHE` if set, else the platform's usual place.

    Raises StorageError for a user without a home folder.
    """
    if chosen := os.environ.get("SANDERLING_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(_home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(_home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(_home() / ".cache")
    return Path(base) / "sanderling"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise StorageError(f"No folder for a cache: {error} Name one in SANDERLING_CACHE.") from error


def key(*parts: str) -> str:
    """One key from everything a record depends on: 40 hex digits of SHA-256."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def has(kind: str) -> bool:
    """Whether there is any record of this kind: spares making a key where there is none."""
    try:
        return (folder() / kind).is_dir()
    except (OSError, StorageError):
        return False


def read(kind: str, record_key: str, record_type: type[T]) -> T | None:
    """The record of this kind and key, or None where there is none that can be read."""
    try:
        path = folder() / kind / f"{record_key}.json"
        if path.stat().st_size > _MAX_RECORD_BYTES:
            return None
        return msgspec.json.decode(path.read_bytes(), type=record_type)
    except FileNotFoundError:
        return None
    except (OSError, StorageError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _note("ignoring the cache record %s/%s: %s", kind, record_key, error)
        return None


def write(kind: str, record_key: str, record: object) -> None:
    """Keep a record. A cache that cannot be written is logged, not raised."""
    from sanderling.storage import write_atomic  # reading, on every start, does without

    try:
        path = folder() / kind / f"{record_key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode(record))
    except (OSError, StorageError) as error:
        _note("could not write the cache record %s/%s: %s", kind, record_key, error)


def _note(message: str, *values: object) -> None:
    import logging  # only when something is wrong: each start would pay for it

    logging.getLogger("sanderling").info(message, *values)
