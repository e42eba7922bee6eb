"""Vectors in fewer bytes: float16, 8-bit whole numbers with a scale each, and bits."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError

Precision: TypeAlias = Literal["float32", "float16", "int8", "binary"]

_LARGEST_INT8 = 127
_BITS = 8


def check(precision: str, dimension: int) -> None:
    """Raises InputError for a precision that is none, or one that vectors of this length cannot have."""
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; one of {', '.join(get_args(Precision))} was expected.")
    if precision == "binary" and dimension % _BITS:
        raise InputError(
            f"Vectors of {dimension} numbers have no whole bytes of bits; a multiple of {_BITS} was expected. "
            "Give dimensions that are one, or another precision."
        )


def compress(rows: NDArray[np.float32], precision: str) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Vectors (n, d), float32, in a precision that `check` has let pass, and what to multiply each with.

    "float32" as they are; "float16"; "int8": whole numbers from -127 to 127 and scales (n,), the largest number of each
    vector divided by 127; "binary": 1 where a number is above 0, eight to a byte with the first in the highest bit,
    uint8 of the shape (n, d / 8) (sentence-transformers' "ubinary"). Raises InputError for numbers beyond float16.
    """
    if precision == "float16":
        with np.errstate(over="ignore"):
            half = rows.astype(np.float16)
        if not np.isfinite(half).all():
            raise InputError(
                f"The vectors have numbers up to {np.abs(rows).max():g}, beyond float16's 65504. "
                'Use precision="float32", or normalize=True.'
            )
        return half, None
    if precision == "int8":
        peaks = np.abs(rows).max(axis=1, initial=0.0)
        scales = (peaks / _LARGEST_INT8).astype(np.float32)
        divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
        whole = np.clip(np.rint(rows / divisors), -_LARGEST_INT8, _LARGEST_INT8).astype(np.int8)
        return whole, scales
    if precision == "binary":
        return np.packbits(rows > 0, axis=1), None
    return rows, None


def expand(values: NDArray[Any], precision: str, scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """What `compress` gave as vectors (n, d), float32; of bits -1 and 1."""
    if precision == "binary":
        return np.unpackbits(values, axis=1).astype(np.float32) * 2 - 1
    floats = values.astype(np.float32, copy=False)
    return floats if scales is None else floats * scales[:, None]
