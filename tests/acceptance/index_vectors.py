"""Real vectors to search: of every sentence of the data, and a million made of them by small noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import texts
from checks import built
from numpy.typing import NDArray

import sanderling
from sanderling import Index

MILLION = 1_000_000
# Each number of a vector of length 1 is moved by about so much: the cosine to the vector it was is about 0.93.
_NOISE = 0.02
_ROWS_AT_ONCE = 50_000


def real() -> tuple[NDArray[np.float32], str]:
    """The vectors of every sentence, (n, 384), and their space."""
    with sanderling.load(built("all-minilm-l6-v2")) as model:
        answers = model(texts.sentences())
        return answers.embeddings, answers.space


def noisy(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` vectors of length 1: the given ones again and again, each with noise of its own."""
    random = np.random.default_rng(6)
    found = np.empty((count, vectors.shape[1]), np.float32)
    for first in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, count))
        moved = vectors[rows % len(vectors)]
        moved += random.standard_normal(moved.shape, np.float32) * np.float32(_NOISE)
        found[rows] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return found


def stored(folder: Path, vectors: NDArray[np.float32], space: str, precision: str) -> Index:
    """An index of these vectors, open for writing; their ids are their numbers."""
    index = Index.create(folder, space=space, dimension=vectors.shape[1], precision=precision)  # type: ignore[arg-type]
    for first in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = vectors[first : first + _ROWS_AT_ONCE]
        index.add([str(first + row) for row in range(len(rows))], rows, space=space)
    return index


def recall(found: list[list[str]], expected: list[list[str]]) -> float:
    """The share of the expected ids that were found."""
    hit = sum(len(set(ours) & set(theirs)) for ours, theirs in zip(found, expected, strict=True))
    return hit / sum(map(len, expected))
