"""Weights to 8 bits by channel, each rounding error made up for by the weights still to be rounded.

After GPTQ (Frantar et al. 2022): rows are rounded in turn, and what a row loses is taken up by later rows as far as
their inputs go together, as seen on calibration data. Without VNNI, ONNX Runtime adds the products of two neighbouring
rows with unsigned 8-bit inputs in 16 signed bits, which saturate. So two neighbours of one sign may add up to 128 at
most (255 x 128 < 2^15): a bound on pairs, where 7-bit weights would bound every weight and lose half its precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

PAIR_LIMIT = 128
_PEAK = 127
_DAMPING = 0.01
# Rows behind a block take up its errors in one product, which takes two thirds of the time of row by row.
_BLOCK = 64

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]
Rounder = Callable[[NDArray[np.float32], NDArray[np.float64]], Rounded]


class Memory:
    """A rounder that rounds what it has met before only once: of graphs that differ in a few layers, the others."""

    def __init__(self) -> None:
        self._known: dict[bytes, Rounded] = {}

    def __call__(self, weight: NDArray[np.float32], moments: NDArray[np.float64]) -> Rounded:
        digest = hashlib.sha256(np.ascontiguousarray(weight).data)
        digest.update(np.ascontiguousarray(moments).data)
        key = digest.digest()
        if key not in self._known:
            self._known[key] = rounded(weight, moments)
        return self._known[key]


def rounded(weight: NDArray[np.float32], moments: NDArray[np.float64]) -> Rounded:
    """The int8 weights (k, n) and a scale for each column (n,), float32.

    `moments` (k, k) is the sum of x x^T over calibration inputs x of the layer.
    """
    count = len(weight)
    spreading = spread(moments)
    by_column = scales(weight)
    left = weight.astype(np.float64)
    found = np.zeros(weight.shape, np.int8)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        errors = np.empty((end - start, weight.shape[1]))
        for row in range(start, end):
            mate = found[row - 1].astype(np.int64) if row % 2 else np.zeros(weight.shape[1], np.int64)
            found[row] = np.clip(np.rint(left[row] / by_column), *_bounds(mate))
            error = (left[row] - found[row] * by_column) / spreading[row, row]
            left[row + 1 : end] -= spreading[row, row + 1 : end, None] * error
            errors[row - start] = error
        left[end:] -= spreading[start:end, end:].T @ errors
    return found, by_column


def paired(weight: NDArray[np.float32]) -> Rounded:
    """As `rounded`, each weight for itself."""
    by_column = scales(weight)
    found = np.clip(np.rint(weight / by_column), -_PEAK, _PEAK).astype(np.int64)
    found[1::2] = np.clip(found[1::2], *_bounds(found[: len(weight) // 2 * 2 : 2]))
    return found.astype(np.int8), by_column


def _bounds(mates: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the greatest integers beside those of the rows before."""
    low = np.maximum(-_PEAK, -PAIR_LIMIT - np.minimum(mates, 0))
    return low, np.minimum(_PEAK, PAIR_LIMIT - np.maximum(mates, 0))


def spread(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper Cholesky factor (k, k) of the damped inverse: row by row, how a row's error spreads to those behind."""
    count = len(moments)
    # By the median channel: one with a thousand times the others' energy would damp away all they have in common.
    usual = float(np.median(np.diag(moments)))
    damped = moments + np.eye(count) * max(_DAMPING * usual, 1e-12 * float(np.trace(moments)), 1e-12)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)


def scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scale of each column (n,) that lets no pair of neighbours exceed its limit."""
    padded = np.concatenate([weight, np.zeros((len(weight) % 2, weight.shape[1]), np.float32)])
    pairs = padded.reshape(-1, 2, weight.shape[1])
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1)).max(axis=0)
    peaks = np.maximum(sums / PAIR_LIMIT, np.abs(weight).max(axis=0) / _PEAK)
    return np.where(peaks > 0, peaks, 1).astype(np.float32)
