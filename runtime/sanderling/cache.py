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
    """The cache folder: `SANDERLING_CACHE` if set, else the platform's usual place."""
    if chosen := os.environ.get("SANDERLING_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sanderling"


def key(*parts: str) -> str:
    """One key from everything a record depends on: 40 hex digits of SHA-256."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def read(kind: str, record_key: str, record_type: type[T]) -> T | None:
    """The record of this kind and key, or None where there is none that can be read."""
    path = folder() / kind / f"{record_key}.json"
    try:
        if path.stat().st_size > _MAX_RECORD_BYTES:
            return None
        return msgspec.json.decode(path.read_bytes(), type=record_type)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _note("ignoring the cache record %s: %s", path, error)
        return None


def write(kind: str, record_key: str, record: object) -> None:
    """Keep a record. A cache that cannot be written is logged, not raised."""
    from sanderling.storage import write_atomic  # reading, on every start, does without

    path = folder() / kind / f"{record_key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode(record))
    except (OSError, StorageError) as error:
        _note("could not write the cache record %s: %s", path, error)


def _note(message: str, path: Path, error: Exception) -> None:
    import logging  # only when something is wrong: each start would pay for it

    logging.getLogger("sanderling").info(message, path, error)
