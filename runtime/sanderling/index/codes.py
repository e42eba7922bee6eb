"""int8 codes: a fraction of the bytes to read, by ONNX Runtime's integer products; what they find is scored exactly.

Vectors of real models lie mostly along few directions. The codes are of these, the leading principal axes, where a
sample says that they find what the whole vectors would; else of all numbers as they are.

A vector's code is its numbers over their largest, times 127, rounded. A query is brought to 7 bits, 1 to 127 about 64:
processors without integer dot products add pairs of products in 16 bits, and 2 x 127 x 127 is the most that fits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import cores
from sanderling.index import layout
from sanderling.index.nearest import Nearest
from sanderling.single_node import Products, ScaledProducts

_QUERY_LEVELS, _MIDDLE = 63, 64
# Axes are looked for among vectors of at most so many numbers: it takes their cube of time, a second for these.
_WIDEST = 1536
# Shares of the axes that are tried. On a sample of at most 8,192 vectors, half of which the axes are made of, the ten
# nearest to 256 of the other half have to be among the 64 that lead by these axes alone. A search takes more than twice
# as many, since a larger index lies closer: among 8,192 scores of a normal distribution the 10th and the 64th are 0.61
# standard deviations apart, among a million the 10th and the 144th 0.64. Of all-MiniLM-L6-v2's 384 axes 19,000
# sentences of reviews, tweets and news needed 192: all of the ten nearest to 64 of them were found.
_SHARES = (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
_SAMPLE, _ASKED = 8192, 256
_NEAREST, _AMONG, _FOUND = 10, 64, 0.998
# Sums of few queries that one product makes at a time: they stay small beside the codes.
_SUMS_AT_ONCE = 2**21
_MANY = 32


def sample(vectors: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some of these rows, from all over, to find the axes of."""
    return vectors[rows[:: -(-len(rows) // _SAMPLE) or 1]].astype(np.float32, copy=False)


def axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The leading principal axes of a sample of unit vectors, (d, axes), for codes; (d, 0) where all numbers count."""
    dimension = vectors.shape[1]
    if dimension <= _WIDEST:
        fitted = vectors[::2].astype(np.float64)
        basis = np.linalg.eigh(fitted.T @ fitted)[1][:, ::-1].astype(np.float32)
        turned = vectors @ basis
        asked = np.arange(1, len(vectors), max(2, 2 * (len(vectors) // (2 * _ASKED))))
        nearest = _nearest(turned, asked, _NEAREST)
        for share in _SHARES:
            count = max(1, int(dimension * share))
            found = np.zeros((len(asked), len(vectors)), bool)
            np.put_along_axis(found, _nearest(turned[:, :count], asked, _AMONG), values=True, axis=1)
            if np.take_along_axis(found, nearest, axis=1).mean() >= _FOUND:
                return np.ascontiguousarray(basis[:, :count])
    return np.empty((dimension, 0), np.float32)


def _nearest(vectors: NDArray[np.float32], asked: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """For each of the rows asked, which k others have the highest products with it."""
    scores = vectors[asked] @ vectors.T
    scores[np.arange(len(asked)), asked] = -np.inf
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def encode(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes, (blocks, d, rows a block), and their scales, (blocks, 2, rows a block), of whole blocks of vectors.

    The sum of a row's codes times a query's levels about 64, times the first scale, plus the second, is the product of
    the row and the query's levels about 0.
    """
    blocks = len(vectors) // layout.BLOCK
    dimension = vectors.shape[1]
    codes = np.empty((blocks, dimension, layout.BLOCK), np.int8)
    scales = np.empty((blocks, 2, layout.BLOCK), np.float32)
    for block in range(blocks):
        rows = vectors[block * layout.BLOCK : (block + 1) * layout.BLOCK].T
        largest = np.abs(rows).max(axis=0)
        step = np.where(largest > 0, largest, 1) / np.float32(127)
        codes[block] = np.rint(rows / step)
        scales[block, 0] = step
        scales[block, 1] = codes[block].sum(axis=0, dtype=np.int32) * step * np.float32(-_MIDDLE)
    return codes, scales


def levels(queries: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Queries, (n, d), in 7 bits about 64; each by its own scale, which the order of its scores does not depend on."""
    largest = np.abs(queries).max(axis=1, keepdims=True)
    return (np.rint(queries / np.where(largest > 0, largest, 1) * _QUERY_LEVELS) + _MIDDLE).astype(np.uint8)


def offer(
    queries: NDArray[np.float32],
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    allowed: NDArray[np.bool_] | None,
    nearest: Nearest,
) -> None:
    """Offer the approximate scores of all blocks, each query's in a unit of its own."""
    asked = levels(queries)
    if len(queries) < _MANY:
        _offer_few(asked, codes, scales, allowed, nearest)
        return
    products = ScaledProducts.of(cores.budget().total)
    for block, (step, moved) in enumerate(scales):
        _offer(products(asked, codes[block], step, moved), block * layout.BLOCK, allowed, nearest)


def _offer_few(
    asked: NDArray[np.uint8],
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    allowed: NDArray[np.bool_] | None,
    nearest: Nearest,
) -> None:
    """As `offer`; of few queries ONNX Runtime scales the products more slowly than numpy does many blocks' at once."""
    products = Products.of(cores.budget().total)
    at_once = max(1, _SUMS_AT_ONCE // (len(asked) * layout.BLOCK))
    scores = np.empty((min(at_once, max(len(codes), 1)), len(asked), layout.BLOCK), np.float32)
    for first in range(0, len(codes), at_once):
        blocks = codes[first : first + at_once]
        found = scores[: len(blocks)]
        stated = scales[first : first + at_once]
        np.multiply(products(asked, blocks), stated[:, :1], out=found, dtype=np.float32, casting="unsafe")
        found += stated[:, 1:]
        if len(asked) == 1:
            _offer(found.reshape(1, -1), first * layout.BLOCK, allowed, nearest)
        else:
            for number, block in enumerate(found, start=first):
                _offer(block, number * layout.BLOCK, allowed, nearest)


def _offer(scores: NDArray[np.float32], first: int, allowed: NDArray[np.bool_] | None, nearest: Nearest) -> None:
    if allowed is not None:
        scores[:, ~allowed[first : first + scores.shape[1]]] = -np.inf
    nearest.offer(scores, first)
