"""The vectors of sets of labels in the user's cache, so that the next process need not make them again.

A record is 32 bytes of SHA-256 over the rest, then the vectors as little-endian float32. Its key is everything that
they depend on; losing one costs time, never correctness.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling import cache
from sanderling.errors import StorageError
from sanderling.providers import RUNTIME_VERSION

if TYPE_CHECKING:
    from sanderling.tasks.feature_extraction import EmbeddingModel

_KIND = "labels"
_SUFFIX = ".vectors"
_DIGEST = 32
# Fewer labels are made anew sooner than a file is worth; the oldest sets beyond so many are dropped.
_LEAST_TEXTS, _KEPT = 16, 64
_MOST_BYTES = 256 * 2**20


def read(tower: EmbeddingModel, labels: tuple[str, ...], templates: tuple[str, ...]) -> NDArray[np.float32] | None:
    """The vectors (labels, dimension) that this tower gave these labels before, or None."""
    if len(labels) * len(templates) < _LEAST_TEXTS:
        return None
    path = _path(tower, labels, templates)
    expected = _DIGEST + 4 * len(labels) * tower.dimension
    try:
        if path is None or path.stat().st_size != expected:
            return None
        raw = path.read_bytes()
    except OSError:
        return None
    if len(raw) != expected or hashlib.sha256(raw[_DIGEST:]).digest() != raw[:_DIGEST]:
        return None
    vectors = np.frombuffer(raw, "<f4", offset=_DIGEST).reshape(len(labels), tower.dimension)
    return vectors.astype(np.float32)


def write(
    tower: EmbeddingModel, labels: tuple[str, ...], templates: tuple[str, ...], vectors: NDArray[np.float32]
) -> None:
    """Keep the vectors of labels. A cache that cannot be written is passed over: they are made again."""
    from sanderling.storage import write_atomic  # reading does without

    if len(labels) * len(templates) < _LEAST_TEXTS or vectors.nbytes > _MOST_BYTES:
        return
    path = _path(tower, labels, templates)
    if path is None:
        return
    content = np.ascontiguousarray(vectors, "<f4").tobytes()
    with suppress(OSError, StorageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, hashlib.sha256(content).digest() + content)
        _drop_oldest(path.parent)


def _path(tower: EmbeddingModel, labels: tuple[str, ...], templates: tuple[str, ...]) -> Path | None:
    from sanderling.processor import processor

    plan = tower.plan
    # Lengths before the texts, so that no two sets are written alike.
    words = [f"{len(part)}:{part}" for part in (*templates, "", *labels)]
    depends = (tower.bundle.digest, tower.space, plan.variant, plan.provider, plan.form, RUNTIME_VERSION)
    key = cache.key(_KIND, *depends, processor().identity, *words)
    try:
        return cache.folder() / _KIND / f"{key}{_SUFFIX}"
    except StorageError:
        return None


def _drop_oldest(folder: Path) -> None:
    found = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
    for path in found[:-_KEPT]:
        path.unlink(missing_ok=True)
