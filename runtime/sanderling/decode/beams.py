"""Beam search over one prompt: which continuations go on, and which are finished. No graph is known here.

Token for token what transformers' beam search gives: the same arithmetic in float32, the same way of comparing finished
sequences with those that still run (`early_stopping`, `length_penalty`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.decode.scores import Scores, Tokens
from sanderling.schema.generation import GenerationSettings

# A score that no sequence reaches: of what may not be chosen.
_OUT = np.float32(-1e9)

# Whether sequences of new tokens (n, tokens) end here for another reason than a stop token or their length: (n,).
Stops = Callable[[Tokens], NDArray[np.bool_]]


class Finished(Struct, frozen=True, eq=False):
    """A sequence of new tokens with its score: the sum of logarithms of probabilities, by the length penalty."""

    tokens: tuple[int, ...]
    score: float
    whole: bool


class Beams:
    """The beams of one prompt. `advance` takes them one token further until `done`."""

    def __init__(self, settings: GenerationSettings, limit: int, ends: Sequence[int], stops: Stops) -> None:
        self._settings = settings
        self._limit = limit
        self._ends = np.array(ends, np.int64)
        self._stops = stops
        count = settings.num_beams
        self.running: Tokens = np.zeros((count, 0), np.int64)
        self._scores = np.full(count, _OUT, np.float32)
        # All beams are the prompt at first: only one of them is looked at.
        self._scores[0] = 0.0
        self._finished = [Finished((), float(_OUT), False)] * count
        self._can_improve = True
        self.done = False

    @property
    def best(self) -> Finished:
        """The best finished sequence, once `done`."""
        return self._finished[0]

    def advance(self, log_probs: Scores) -> NDArray[np.int64]:
        """Append a token to each beam; of each new beam, which of the old ones it goes on from (beams,).

        `log_probs` (beams, vocabulary) are the processed logarithms of probabilities of the beams in `running`.
        """
        count, vocabulary = log_probs.shape
        sums = (log_probs + self._scores[:, None]).reshape(-1)
        kept = min(max(2, 1 + len(self._ends)) * count, sums.size)
        places = highest(sums, kept)
        scores, parents, tokens = sums[places], places // vocabulary, places % vocabulary
        sequences = np.concatenate([self.running[parents], tokens[:, None]], axis=1)
        length = sequences.shape[1]
        ended = np.isin(tokens, self._ends) | (length >= self._limit) | self._stops(sequences)
        self._finish(sequences, scores, ended)
        going = np.asarray(scores + ended * _OUT, np.float32)
        chosen = highest(going, count)
        self.running, self._scores = sequences[chosen], going[chosen]
        self._can_improve = self._can_improve and self._improvable(length)
        full = all(one.whole for one in self._finished) and self._settings.early_stopping is True
        self.done = not self._can_improve or full or bool(ended.all())
        return np.asarray(parents[chosen], np.int64)

    def _finish(self, sequences: Tokens, scores: Scores, ended: NDArray[np.bool_]) -> None:
        """Take sequences that ended among the finished, where they are better than those."""
        count = self._settings.num_beams
        # Candidates behind the first `count` only keep the beams running.
        whole = ended & (np.arange(len(ended)) < count)
        weighed = np.asarray(scores / sequences.shape[1] ** self._settings.length_penalty, np.float32)
        full = all(one.whole for one in self._finished) and self._settings.early_stopping is True
        barred = np.float32(full) * _OUT + np.float32(not self._can_improve) * _OUT
        weighed = np.asarray(weighed + barred + (~whole).astype(np.float32) * _OUT, np.float32)
        merged = np.concatenate([[one.score for one in self._finished], weighed]).astype(np.float32)
        candidates = [
            *self._finished,
            *(
                Finished(tuple(sequence.tolist()), float(score), bool(is_whole))
                for sequence, score, is_whole in zip(sequences, weighed, whole, strict=True)
            ),
        ]
        self._finished = [candidates[place] for place in highest(merged, count)]

    def _improvable(self, length: int) -> bool:
        """Whether the best running beam could still become better than the worst finished sequence."""
        penalty = self._settings.length_penalty
        reach = self._limit if self._settings.early_stopping == "never" and penalty > 0 else length
        if not all(one.whole for one in self._finished):
            return bool(self._scores[0] / reach**penalty > _OUT)
        worst = min(one.score for one in self._finished)
        return bool(np.float32(self._scores[0] / reach**penalty) > np.float32(worst))


def highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` highest values, the highest first, of equal ones the first."""
    if count < len(values):
        least = np.partition(values, -count)[-count]
        above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
        places = np.concatenate([above, equal[: count - len(above)]])
    else:
        places = np.arange(len(values))
    return np.asarray(places[np.argsort(-values[places], kind="stable")], np.int64)
