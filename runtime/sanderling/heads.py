"""Graph outputs to one row an input: pooling and normalization of embeddings, logits of classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import BundleError, GraphError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.session import Arrays

# As torch.nn.functional.normalize, so that a zero vector stays zero.
_MIN_NORM = np.float32(1e-12)
# As sentence-transformers: an input of padding alone gives numbers that are finite.
_LEAST = np.float32(-1e9)
_LEAST_COUNT = np.float32(1e-9)


class Layer(Struct, frozen=True, eq=False):
    """A dense layer with its numbers: `weight` (outputs, inputs) and `bias` (outputs,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    activation: str


def layers(tensors: Mapping[str, NDArray[Any]], head: EmbeddingOutput | TokenOutput, where: str) -> tuple[Layer, ...]:
    """The dense layers of `head`, from `tensors` by name. Raises BundleError for what is missing or does not fit."""
    found: list[Layer] = []
    for layer in head.dense:
        weight = tensors.get(layer.weight)
        bias = tensors.get(layer.bias) if layer.bias is not None else None
        fits = (
            weight is not None
            and weight.ndim == 2
            and (not found or weight.shape[1] == len(found[-1].weight))
            and (layer.bias is None or (bias is not None and bias.shape == weight.shape[:1]))
        )
        if not fits or weight is None:
            raise BundleError(
                f"{where} does not hold the dense layer {layer.weight!r} as the manifest describes it. "
                "Export the bundle again."
            )
        floats = bias.astype(np.float32) if bias is not None else None
        found.append(Layer(weight.astype(np.float32), floats, layer.activation))
    return tuple(found)


def embed(
    outputs: Arrays,
    feeds: Arrays,
    head: EmbeddingOutput,
    *,
    dense: Sequence[Layer] = (),
    skipped: Sequence[int] = (),
    dimensions: int | None = None,
) -> NDArray[np.float32]:
    """Vectors of the shape (batch, dimension), float32, pooled over the tokens whose `attention_mask` is 1.

    `dense` are the head's layers. `skipped` says of each input how many of its first tokens are the prompt's, for heads
    that leave them out. With `dimensions` only so many numbers are kept, before they are normalized.
    """
    hidden = outputs[head.output].astype(np.float32, copy=False)
    vectors = hidden
    if head.pooling != "none":
        whole = _mask(hidden, feeds)
        seen = whole if head.include_prompt or not any(skipped) else _without_prompt(whole, skipped)
        vectors = _pool(hidden, seen, head.pooling, whole)
    for layer in dense:
        vectors = _through(vectors, layer, head)
    if vectors.ndim != 2 or vectors.shape[1] != head.dimension:
        raise GraphError(
            f"The graph's output {head.output!r} pooled to the shape {vectors.shape}; "
            f"the manifest says a dimension of {head.dimension}."
        )
    if dimensions is not None:
        vectors = vectors[:, :dimensions]
    if head.normalize:
        # The ufuncs themselves: of one short text, numpy's wrappers around them would take as long as the work.
        norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
        vectors = np.asarray(vectors / np.maximum(norms, _MIN_NORM), np.float32)
    return np.ascontiguousarray(vectors)


def tokens(
    outputs: Arrays, places: Sequence[Sequence[int]], head: TokenOutput, dense: Sequence[Layer] = ()
) -> NDArray[Any]:
    """The vectors of each input's tokens at these places: an array (batch,) of arrays (tokens, dimension), float32.

    `dense` are the head's layers.
    """
    hidden = outputs[head.output]
    if hidden.ndim != 3 or any(rows and max(rows) >= hidden.shape[1] for rows in places):
        raise GraphError(
            f"The graph's output {head.output!r} has the shape {hidden.shape}, which has no vector for each token."
        )
    found = np.empty(len(hidden), object)
    for row, wanted in enumerate(places):
        vectors = hidden[row, list(wanted)].astype(np.float32, copy=False)
        for layer in dense:
            vectors = _through(vectors, layer, head)
        if vectors.shape[1] != head.dimension:
            raise GraphError(
                f"The graph's output {head.output!r} gave tokens' vectors of {vectors.shape[1]} numbers; "
                f"the manifest says a dimension of {head.dimension}."
            )
        if head.normalize:
            norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
            vectors = np.asarray(vectors / np.maximum(norms, _MIN_NORM), np.float32)
        found[row] = np.ascontiguousarray(vectors)
    return found


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each vector along the last axis with the length 1, float32; zeros stay zeros."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _MIN_NORM), np.float32)


def sparse(outputs: Arrays, feeds: Arrays, head: SparseOutput) -> NDArray[np.float32]:
    """Weights of the shape (batch, dimension), float32, of the tokens of the vocabulary; most of them are 0."""
    logits = outputs[head.output]
    if logits.ndim != 3 or logits.shape[2] != head.dimension:
        raise GraphError(
            f"The graph's output {head.output!r} has the shape {logits.shape}; "
            f"the manifest says a vocabulary of {head.dimension:,}."
        )
    mask = feeds.get("attention_mask")
    found = np.zeros((len(logits), head.dimension), np.float32)
    for row, values in enumerate(logits):
        # A row at a time: the logits of a batch are large, and are not copied where nothing is padded.
        seen = values if mask is None or mask[row].all() else values[mask[row] != 0]
        if head.pooling == "max":
            # The activation rises with its input, so that it is computed of the largest alone.
            found[row] = _sparse_weight(np.max(seen, axis=0, initial=0.0).astype(np.float32), head.activation)
        else:
            found[row] = _sparse_weight(seen.astype(np.float32), head.activation).sum(axis=0)
    return found


def _sparse_weight(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    weights = np.log1p(np.maximum(values, np.float32(0)))
    return np.asarray(np.log1p(weights) if activation == "log1p_log1p_relu" else weights, np.float32)


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
        result = sigmoid(logits)
    return result


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) of each, float32."""
    # exp(-|x|) never overflows; both halves are the same function.
    decay = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, np.float32(1), decay) / (1 + decay), np.float32)


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


def _through(vectors: NDArray[np.float32], layer: Layer, head: EmbeddingOutput | TokenOutput) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.shape[1] != layer.weight.shape[1]:
        raise GraphError(
            f"The graph's output {head.output!r} pooled to the shape {vectors.shape}; "
            f"the manifest's dense layer takes {layer.weight.shape[1]} numbers."
        )
    found = vectors @ layer.weight.T
    if layer.bias is not None:
        found += layer.bias
    if layer.activation == "tanh":
        return np.asarray(np.tanh(found), np.float32)
    if layer.activation == "relu":
        return np.asarray(np.maximum(found, np.float32(0)), np.float32)
    return sigmoid(found) if layer.activation == "sigmoid" else found


def _without_prompt(mask: NDArray[np.float32], skipped: Sequence[int]) -> NDArray[np.float32]:
    """The mask without the first tokens of each text that are the prompt's."""
    first = mask.argmax(axis=1)
    behind = np.arange(mask.shape[1]) >= (first + np.asarray(skipped))[:, None]
    return np.asarray(mask * behind, np.float32)


def _pool(
    hidden: NDArray[np.float32], mask: NDArray[np.float32], how: str, whole: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(batch, tokens, d) to (batch, d). The definitions are those of sentence-transformers' Pooling.

    `whole` is the mask with the prompt in it: weights count from each text's first token, so that neither padding on
    the left nor leaving out a prompt moves them.
    """
    pooled: NDArray[np.float32]
    if how == "cls":
        pooled = hidden[np.arange(len(hidden)), mask.argmax(axis=1)]
    elif how == "last":
        rows, place = np.arange(len(hidden)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
        # As there, zeros of a text of which nothing is left.
        pooled = hidden[rows, place] * mask[rows, place][:, None]
    elif how == "max":
        pooled = np.where(mask[:, :, None] > 0, hidden, _LEAST).max(axis=1)
    else:
        weights = mask
        if how == "weighted_mean":
            places = np.arange(1, mask.shape[1] + 1) - whole.argmax(axis=1)[:, None]
            weights = mask * places.astype(np.float32)
        count = np.maximum(np.add.reduce(weights, axis=1, keepdims=True), _LEAST_COUNT)
        pooled = np.matmul(weights[:, None, :], hidden)[:, 0] / (np.sqrt(count) if how == "mean_sqrt_len" else count)
    return pooled
