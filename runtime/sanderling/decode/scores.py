"""What is done to the scores of the next token before one is chosen: pure functions on arrays.

Each gives what the logits processor of the same purpose in transformers gives. Scores have the shape (rows,
vocabulary), float32; a score of minus infinity is a token that cannot follow. `sequences` are each row's tokens so far,
those of the prompt included, without padding: no row's answer depends on how far its batch mates made it be padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling.schema.generation import GenerationSettings

Scores = NDArray[np.float32]
Tokens = NDArray[np.int64]

_NEVER = np.float32(-np.inf)


def log_softmax(logits: Scores) -> Scores:
    """Logarithms of the probabilities along the last axis, float32."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)


def repetition_penalty(scores: Scores, sequences: Sequence[Tokens], penalty: float) -> Scores:
    """Scores of tokens that are there already, divided by `penalty` where positive and multiplied with it where not
    (Keskar et al., CTRL, 2019)."""
    changed = scores.copy()
    factor = np.float32(penalty)
    for row, sequence in zip(changed, sequences, strict=True):
        seen = np.unique(sequence)
        row[seen] = np.where(row[seen] < 0, row[seen] * factor, row[seen] / factor)
    return changed


def no_repeated_ngrams(scores: Scores, sequences: Sequence[Tokens], size: int) -> Scores:
    """No token that would complete a run of `size` tokens which is there already."""
    changed = scores.copy()
    for row, sequence in zip(changed, sequences, strict=True):
        if len(sequence) >= size:
            windows = np.lib.stride_tricks.sliding_window_view(sequence, size)
            again = (windows[:, :-1] == sequence[len(sequence) - size + 1 :]).all(axis=1)
            row[windows[again, -1]] = _NEVER
    return changed


def without(scores: Scores, tokens: Sequence[int]) -> Scores:
    """None of these tokens."""
    changed = scores.copy()
    changed[:, list(tokens)] = _NEVER
    return changed


def top_k(scores: Scores, k: int) -> Scores:
    """The `k` highest scores, and those that equal the lowest of them."""
    if k >= scores.shape[-1]:
        return scores
    least = np.partition(scores, -k, axis=-1)[:, -k, None]
    return np.where(scores < least, _NEVER, scores)


def top_p(scores: Scores, p: float) -> Scores:
    """The most probable tokens that together have a probability of at least `p`; always one of them."""
    order = np.argsort(scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=-1)
    cumulative = np.exp(log_softmax(ordered)).cumsum(axis=-1, dtype=np.float32)
    dropped = cumulative <= np.float32(1 - p)
    dropped[:, -1] = False
    changed = scores.copy()
    np.put_along_axis(changed, order, np.where(dropped, _NEVER, ordered), axis=-1)
    return changed


def looks_back(settings: GenerationSettings) -> bool:
    """Whether `processed` depends on the tokens so far: else none need to be gathered."""
    return settings.repetition_penalty != 1.0 or bool(settings.no_repeat_ngram_size)


def processed(
    scores: Scores, sequences: Sequence[Tokens], settings: GenerationSettings, new_tokens: int, ends: Sequence[int]
) -> Scores:
    """Scores after all that does not depend on drawing; `new_tokens` were generated so far, `ends` are stop tokens.
    `sequences` may be empty where it does not look back."""
    if settings.repetition_penalty != 1.0:
        scores = repetition_penalty(scores, sequences, settings.repetition_penalty)
    if settings.no_repeat_ngram_size:
        scores = no_repeated_ngrams(scores, sequences, settings.no_repeat_ngram_size)
    if new_tokens < settings.min_new_tokens and ends:
        scores = without(scores, ends)
    return scores


def warped(scores: Scores, settings: GenerationSettings) -> Scores:
    """Scores as they are drawn from: temperature, then top-k, then top-p."""
    if settings.temperature != 1.0:
        scores = np.asarray(scores / np.float32(settings.temperature), np.float32)
    if settings.top_k:
        scores = top_k(scores, settings.top_k)
    if settings.top_p < 1.0:
        scores = top_p(scores, settings.top_p)
    return scores


def draw(scores: NDArray[np.float32], random: np.random.Generator) -> int:
    """A token by its probability; `scores` (vocabulary,) of one row. One number is drawn from `random`."""
    cumulative = np.exp(scores.astype(np.float64) - float(scores.max())).cumsum()
    place = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
    # The last token that can follow, where rounding leads beyond it.
    return min(place, int(np.flatnonzero(scores > _NEVER)[-1]))
