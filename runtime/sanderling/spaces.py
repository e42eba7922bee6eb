"""Embedding spaces: vectors are compared only with those of the same one."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError, MixedVariantsWarning, SpaceError
from sanderling.results import Embedding, Embeddings

# What `similarity` compares: the answer to one input, or to many.
Vectors: TypeAlias = Embedding | Embeddings | Sequence[Embedding]

# Variants mix without a warning while their vectors of one input have at least this cosine.
MIN_COSINE = 0.99


def similarity(a: Vectors, b: Vectors, *, min_cosine: float = MIN_COSINE) -> NDArray[np.float32]:
    """Cosine similarity of each vector of `a` with each of `b`: (n, m), float32, from -1 to 1.

    Each of the two is an Embedding (n = 1), Embeddings, or a list of Embedding. A vector of zeros is like no other: 0.

    Vectors of different variants may be mixed if, by the drift that their bundles state, two variants' vectors of one
    input have a cosine of at least `min_cosine`; the worst case counts, in which both stray from the original in
    opposite directions. Otherwise, or where a drift was not measured, a MixedVariantsWarning says so. Vectors of any
    precision compare: bits stand for -1 and 1.

    Raises SpaceError if the spaces differ, InputError for what is not an answer of an embedding model.
    """
    ours, theirs = _parts(a, "a"), _parts(b, "b")
    spaces = list(dict.fromkeys(part.space for part in (*ours, *theirs)))
    if len(spaces) > 1:
        raise SpaceError(
            f"The vectors are of {len(spaces)} embedding spaces ({', '.join(space[:16] for space in spaces)}); cosines "
            "between them mean nothing. Compare vectors of one model, exported with the same pooling, normalization "
            "and prompts; embed one side again."
        )
    warn_of_mixed([(part.variant, part.drift) for part in (*ours, *theirs)], min_cosine, stacklevel=3)
    product = _directions(ours) @ _directions(theirs).T
    return np.clip(product, -1, 1).astype(np.float32)


def warn_of_mixed(variants: Iterable[tuple[str, float | None]], min_cosine: float, *, stacklevel: int) -> None:
    """Warn (MixedVariantsWarning) where vectors of several variants, each given with its stated lowest cosine to the
    original, may be further apart than `min_cosine`."""
    found = list(dict.fromkeys(variants))
    nearest = lowest_cosine([drift for _, drift in found])
    if len(found) > 1 and not (nearest is not None and nearest >= min_cosine):
        known = "by an unknown distance" if nearest is None else f"down to a cosine of {nearest:.4f}"
        warnings.warn(
            f"Vectors of the variants {' and '.join(variant for variant, _ in found)} are mixed, whose answers to "
            f"one input may differ {known}; at least {min_cosine:g} was expected. Embed both sides with one variant.",
            MixedVariantsWarning,
            stacklevel=stacklevel,
        )


def refuse_mixed(given: str, expected: str) -> SpaceError:
    """The error for a vector of the space `given` where one of `expected` belongs."""
    return SpaceError(
        f"The vector is of the embedding space {given[:16]}, the model's is {expected[:16]}; cosines between them mean "
        "nothing. Embed the input with this model."
    )


def check_one(ours: str, theirs: str) -> None:
    """Raise SpaceError for vectors of two spaces that are to be compared."""
    if ours != theirs:
        raise SpaceError(
            f"The vectors are of the spaces {ours[:16]} and {theirs[:16]}; what is between them means nothing. Compare "
            "vectors of one model."
        )


def derived(space: str, *, dimensions: int | None = None, normalize: bool | None = None) -> str:
    """The fingerprint of a bundle's space with vectors cut to `dimensions`, or normalized otherwise than the bundle's.

    SHA-256 of canonical JSON (sorted keys, no blanks) of `space` and what differs; `space` itself where nothing does.
    """
    changes = {"dimensions": dimensions, "normalize": normalize}
    told = {key: value for key, value in changes.items() if value is not None}
    if not told:
        return space
    return hashlib.sha256(msgspec.json.encode({"space": space, **told}, order="sorted")).hexdigest()


def lowest_cosine(drifts: Iterable[float | None]) -> float | None:
    """The lowest cosine between two variants' vectors of one input, if each has at least its given cosine (its stated
    minimum) to the original's; None if one of them is None.

    Angles obey the triangle inequality on the sphere: the two furthest from the original may lie on opposite sides.
    """
    angles: list[float] = []
    for drift in drifts:
        if drift is None:
            return None
        angles.append(math.acos(min(1.0, max(-1.0, drift))))
    return math.cos(min(math.pi, sum(sorted(angles)[-2:])))


def floats(parts: Sequence[Embedding | Embeddings]) -> NDArray[np.float32]:
    """The vectors of all parts, at least one, whatever their precision: (n, d), float32; of bits -1 and 1."""
    return np.concatenate([part.floats if isinstance(part, Embeddings) else part.floats[None] for part in parts])


def _parts(vectors: Vectors, name: str) -> Sequence[Embedding | Embeddings]:
    parts = [vectors] if isinstance(vectors, Embedding | Embeddings) else vectors
    if not isinstance(parts, Sequence) or not all(isinstance(part, Embedding | Embeddings) for part in parts):
        raise InputError(
            f"`{name}` is of type {type(vectors).__name__}; an answer of an embedding model was expected (Embedding, "
            "Embeddings, or a list of Embedding), which knows its space. For bare arrays, nobody can tell."
        )
    if not parts:
        raise InputError(f"`{name}` is empty; at least one embedding was expected.")
    return parts


def _directions(parts: Sequence[Embedding | Embeddings]) -> NDArray[np.float64]:
    """The vectors of all parts, (n, d), divided by their lengths, in float64; of zeros where the length is 0."""
    found = floats(parts).astype(np.float64)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1.0)
