"""The loops of decoding: greedy and drawn for a batch of prompts, beam search for one. Every loop ends at its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.decode import scores
from sanderling.decode.beams import Beams, Finished, Stops
from sanderling.decode.scores import Scores, Tokens
from sanderling.errors import InferenceError
from sanderling.schema.generation import GenerationSettings

# Why a sequence ended: a stop token, a stop string, as many new tokens as were allowed, or no more room in the context.
FinishReason = Literal["stop_token", "stop_string", "length", "context"]


class Steps(Protocol):
    """A decoder that remembers what it has seen: rows of tokens in, scores of each row's next token out."""

    def start(self, prompts: Sequence[Tokens], cancellation: Cancellation | None) -> Scores:
        """Read the prompts, of any lengths: logits (prompts, vocabulary), float32."""
        ...

    def next(self, tokens: Tokens, cancellation: Cancellation | None) -> Scores:
        """Read one more token of each row (rows,): logits (rows, vocabulary), float32."""
        ...

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Go on with these of the rows, in this order; a row may be there several times, or not at all."""
        ...


# What a task makes of the scores (rows, vocabulary) of the next token, given the new tokens of each row.
Rules = Callable[[Scores, Sequence[Sequence[int]]], Scores]


class Limit(Struct, frozen=True):
    """How many new tokens a sequence may have, and what it is called when it has them."""

    tokens: int
    reason: FinishReason


class Sequenced(Struct, frozen=True, eq=False):
    """New tokens of one prompt, a stop token included, and why they ended; `score` is beam search's."""

    tokens: tuple[int, ...]
    reason: FinishReason
    score: float | None = None


class Row:
    """One prompt on its way."""

    def __init__(self, prompt: Tokens, limit: Limit, random: np.random.Generator | None) -> None:
        self.prompt = prompt
        self.limit = limit
        self.random = random
        self.tokens: list[int] = []
        # The sum of the logarithms of the new tokens' probabilities, where there are rules.
        self.log_prob = 0.0
        self.reason: FinishReason | None = None

    @property
    def sequence(self) -> Tokens:
        """All tokens so far, the prompt's first."""
        return np.concatenate([self.prompt, np.array(self.tokens, np.int64)])


def rows(
    steps: Steps,
    prompts: Sequence[Row],
    settings: GenerationSettings,
    ends: Sequence[int],
    stopped: Callable[[int, int], bool],
    cancellation: Cancellation | None = None,
    rules: Rules | None = None,
) -> Iterator[tuple[int, int]]:
    """Greedy, or drawn where the rows have a generator: each new token as (row, token), until all rows have a reason.

    `rules` say at each step what may follow. `stopped` is told each token of a row, but stop tokens, and says whether
    its text holds a stop string now. Raises InferenceError for scores that are no numbers, CancelledError or
    DeadlineError between steps.
    """
    logits = steps.start([row.prompt for row in prompts], cancellation)
    open_rows = list(range(len(prompts)))
    while True:
        chosen = _choose(logits, [prompts[place] for place in open_rows], settings, ends, rules)
        for place, token in zip(open_rows, chosen, strict=True):
            row = prompts[place]
            row.tokens.append(token)
            if token in ends:
                row.reason = "stop_token"
            elif stopped(place, token):
                row.reason = "stop_string"
            elif len(row.tokens) >= row.limit.tokens:
                row.reason = row.limit.reason
            yield place, token
        going = [index for index, place in enumerate(open_rows) if prompts[place].reason is None]
        if not going:
            return
        if cancellation is not None:
            cancellation.check()
        if len(going) < len(open_rows):
            # A row that has ended costs nothing any more.
            steps.reorder(np.array(going, np.int64))
            open_rows = [open_rows[index] for index in going]
        logits = steps.next(np.array([prompts[place].tokens[-1] for place in open_rows], np.int64), cancellation)


def _choose(
    logits: Scores, going: Sequence[Row], settings: GenerationSettings, ends: Sequence[int], rules: Rules | None
) -> list[int]:
    _check(logits)
    sequences = [row.sequence for row in going] if scores.looks_back(settings) else ()
    found = scores.processed(logits, sequences, settings, len(going[0].tokens), ends)
    if rules is not None:
        found = rules(found, [row.tokens for row in going])
    if settings.do_sample:
        warped = scores.warped(found, settings)
        chosen = [scores.draw(row_scores, _random(row)) for row_scores, row in zip(warped, going, strict=True)]
    else:
        chosen = [int(token) for token in found.argmax(axis=-1)]
    if rules is not None:
        for row, token, chances in zip(going, chosen, scores.log_softmax(found), strict=True):
            row.log_prob += float(chances[token])
    return chosen


def _random(row: Row) -> np.random.Generator:
    assert row.random is not None  # rows that are drawn have one
    return row.random


def search(
    steps: Steps,
    prompt: Tokens,
    settings: GenerationSettings,
    limit: Limit,
    ends: Sequence[int],
    stops: Stops,
    cancellation: Cancellation | None = None,
    rules: Rules | None = None,
) -> Sequenced:
    """Beam search over one prompt; the best sequence. `rules` and errors are as of `rows`."""
    beams = Beams(settings, limit.tokens, ends, stops)
    looks_back = scores.looks_back(settings)
    logits = np.repeat(steps.start([prompt], cancellation), settings.num_beams, axis=0)
    first = True
    while True:
        _check(logits)
        sequences = [np.concatenate([prompt, tokens]) for tokens in beams.running] if looks_back else ()
        log_probs = scores.log_softmax(logits)
        found = scores.processed(log_probs, sequences, settings, beams.running.shape[1], ends)
        if rules is not None:
            found = rules(found, beams.running.tolist())
        order = beams.advance(found)
        if beams.done:
            return _sequenced(beams.best, limit, ends)
        if cancellation is not None:
            cancellation.check()
        # The first step was computed once for all beams, since all were the prompt.
        steps.reorder(np.zeros_like(order) if first else order)
        first = False
        logits = steps.next(beams.running[:, -1], cancellation)


def _sequenced(best: Finished, limit: Limit, ends: Sequence[int]) -> Sequenced:
    if best.tokens and best.tokens[-1] in ends:
        reason: FinishReason = "stop_token"
    else:
        reason = limit.reason if len(best.tokens) >= limit.tokens else "stop_string"
    return Sequenced(best.tokens, reason, best.score)


def _check(logits: Scores) -> None:
    # What cannot follow is minus infinity in no graph that is exported here: it is put there later.
    if not np.isfinite(logits).all():
        raise InferenceError(
            "The decoder answered with scores that are not finite. Run: sanderling verify BUNDLE, and take another "
            "variant where it fails."
        )
