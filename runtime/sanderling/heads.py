"""Graph outputs to one row an input: pooling and normalization of embeddings, logits of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import GraphError
from sanderling.manifest import ClassificationOutput, EmbeddingOutput
from sanderling.session import Arrays

# As torch.nn.functional.normalize, so that a zero vector stays zero.
_MIN_NORM = np.float32(1e-12)
# As sentence-transformers: an input of padding alone gives numbers that are finite.
_LEAST = np.float32(-1e9)
_LEAST_COUNT = np.float32(1e-9)


def embed(outputs: Arrays, feeds: Arrays, head: EmbeddingOutput) -> NDArray[np.float32]:
    """Vectors of the shape (batch, dimension), float32, pooled over the tokens whose `attention_mask` is 1."""
    hidden = outputs[head.output].astype(np.float32, copy=False)
    vectors = hidden if head.pooling == "none" else _pool(hidden, _mask(hidden, feeds), head.pooling)
    if vectors.ndim != 2 or vectors.shape[1] != head.dimension:
        raise GraphError(
            f"The graph's output {head.output!r} pooled to the shape {vectors.shape}; "
            f"the manifest says a dimension of {head.dimension}."
        )
    if head.normalize:
        # The ufuncs themselves: of one short text, numpy's wrappers around them would take as long as the work.
        norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
        vectors = np.asarray(vectors / np.maximum(norms, _MIN_NORM), np.float32)
    return np.ascontiguousarray(vectors)


def classify(outputs: Arrays, head: ClassificationOutput) -> NDArray[np.float32]:
    """Logits of the shape (batch, labels), float32."""
    logits = outputs[head.output].astype(np.float32, copy=False)
    if logits.ndim != 2 or logits.shape[1] != len(head.labels):
        raise GraphError(
            f"The graph's output {head.output!r} has the shape {logits.shape}; "
            f"the manifest names {len(head.labels)} labels."
        )
    return logits


def scores(logits: NDArray[np.float32], head: ClassificationOutput) -> NDArray[np.float32]:
    """Logits (batch, labels) to scores of the same shape: softmax, sigmoid, or as they are."""
    result = logits
    if head.activation == "softmax":
        result = softmax(logits)
    elif head.activation == "sigmoid":
        # exp(-|x|) never overflows; both halves are the same function.
        decay = np.exp(-np.abs(logits))
        result = np.where(logits >= 0, np.float32(1), decay) / (1 + decay)
    return result


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis, float32."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float32)


def combine(rows: NDArray[np.float32], counts: Sequence[int], how: str) -> NDArray[np.float32]:
    """Rows (sum of counts, d) of windows to one row an input (len(counts), d): their mean, or their maximum."""
    if not counts:
        return rows[:0]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if how == "max":
        return np.asarray(np.maximum.reduceat(rows, starts, axis=0), np.float32)
    sums = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    return np.asarray(sums / np.asarray(counts)[:, None], np.float32)


def _mask(hidden: NDArray[np.float32], feeds: Arrays) -> NDArray[np.float32]:
    if "attention_mask" in feeds:
        return feeds["attention_mask"].astype(np.float32)
    return np.ones(hidden.shape[:2], np.float32)


def _pool(hidden: NDArray[np.float32], mask: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """(batch, tokens, d) to (batch, d). The definitions are those of sentence-transformers' Pooling."""
    pooled: NDArray[np.float32]
    if how == "cls":
        pooled = hidden[np.arange(len(hidden)), mask.argmax(axis=1)]
    elif how == "last":
        pooled = hidden[np.arange(len(hidden)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]
    elif how == "max":
        pooled = np.where(mask[:, :, None] > 0, hidden, _LEAST).max(axis=1)
    else:
        weights = mask * np.arange(1, mask.shape[1] + 1, dtype=np.float32) if how == "weighted_mean" else mask
        count = np.maximum(np.add.reduce(weights, axis=1, keepdims=True), _LEAST_COUNT)
        pooled = np.matmul(weights[:, None, :], hidden)[:, 0] / (np.sqrt(count) if how == "mean_sqrt_len" else count)
    return pooled
