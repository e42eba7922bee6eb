"""`feature-extraction` with learned sparse vectors (SPLADE): a weight for each token of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import heads, spaces
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.fronts import TextFront
from sanderling.model import Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.results import Batch, InputReport, Timing, summed
from sanderling.schema.vectors import SparseOutput
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput, Input, TextInput

# Texts whose weights over the whole vocabulary are held at a time: 31 MB for BERT's.
_AT_A_TIME = 256


class SparseEmbedding(Struct, frozen=True, eq=False):
    """The weights of one text: `indices` (k,), int64, are the ids of the tokens that have one, by falling weight;
    `weights` (k,), float32, are above 0, and `tokens` are the tokens as they stand in the vocabulary."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float32]
    tokens: tuple[str, ...]
    report: InputReport
    space: str
    variant: str
    timing: Timing

    @property
    def by_token(self) -> dict[str, float]:
        """The weight of each token, the heaviest first."""
        return dict(zip(self.tokens, self.weights.tolist(), strict=True))

    def score(self, other: SparseEmbedding) -> float:
        """How well the two match: the sum, over the tokens that both have, of the weights' products.

        Raises SpaceError for one of another space.
        """
        spaces.check_one(self.space, other.space)
        _, ours, theirs = np.intersect1d(self.indices, other.indices, assume_unique=True, return_indices=True)
        return float(self.weights[ours].astype(np.float64) @ other.weights[theirs])

    def __repr__(self) -> str:
        first = ", ".join(f"{token} {weight:.3f}" for token, weight in list(self.by_token.items())[:4])
        return f"SparseEmbedding({len(self.tokens)} tokens: {first}{', …' if len(self.tokens) > 4 else ''})"


class SparseEmbeddings(Batch[SparseEmbedding], frozen=True, eq=False):
    """Sparse vectors of a batch, in input order. `dimension` is the size of the vocabulary.

    Its length, its items (SparseEmbedding) and its slices are those of a sequence.
    """

    dimension: int
    timing: Timing

    def __repr__(self) -> str:
        return f"SparseEmbeddings({len(self.items)} of {self.dimension:,} tokens)"


class SparseModel(Model):
    """Turns texts into weights of the vocabulary's tokens, for an inverted index."""

    def __init__(
        self, bundle: Bundle, plan: Plan, front: TextFront, engines: Engines, head: SparseOutput, space: str
    ) -> None:
        super().__init__(bundle, plan, front, engines, head.dimension)
        self._head = head
        self._texts = front
        self.space = space

    @property
    def dimension(self) -> int:
        """Size of the vocabulary."""
        return self._head.dimension

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        inputs: TextInput | ImageInput,
        *,
        prompt: str | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> SparseEmbedding: ...
    @overload
    def __call__(
        self,
        inputs: Iterable[Input],
        *,
        prompt: str | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> SparseEmbeddings: ...
    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        prompt: str | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> SparseEmbedding | SparseEmbeddings:
        """Weigh one text, or each of a list, keeping the `top_k` heaviest tokens of each (default: all above 0).

        `prompt` names one of the model's prompts; `cancellation` ends the call early. One text gives a SparseEmbedding,
        a list gives SparseEmbeddings. Raises InputError for what is no input of this model.
        """
        kept = self.dimension if top_k is None else whole_number("top_k", top_k)
        items, single = self.front.items(inputs)
        found: list[SparseEmbedding] = []
        spent: list[Timing] = []
        for start in range(0, max(1, len(items)), _AT_A_TIME):
            answers = self.answer(items[start : start + _AT_A_TIME], prompt, cancellation)
            spent.append(answers.timing)
            found += [
                self._sparse(row, report, answers.timing, kept)
                for row, report in zip(answers.rows, answers.reports, strict=True)
            ]
        return found[0] if single else SparseEmbeddings(tuple(found), self.dimension, summed(spent))

    def stream(self, inputs: Iterable[Input], *, prompt: str | None = None) -> Iterator[SparseEmbedding]:
        """Weigh any iterable, also one without end, in bounded memory: answers in input order as they are ready."""
        for window in windows(inputs):
            yield from self(window, prompt=prompt)

    async def acall(
        self, inputs: Input | Iterable[Input], *, prompt: str | None = None
    ) -> SparseEmbedding | SparseEmbeddings:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self
        return await in_thread(lambda cancellation: call(inputs, prompt=prompt, cancellation=cancellation))

    def _sparse(self, row: NDArray[np.float32], report: InputReport, timing: Timing, kept: int) -> SparseEmbedding:
        held = np.flatnonzero(row > 0)
        order = held[np.argsort(-row[held], kind="stable")][:kept]
        tokens = tuple(self._texts.token(place) for place in order.tolist())
        return SparseEmbedding(order, row[order], tokens, report, self.space, self.variant, timing)

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[np.float32]:
        return heads.sparse(outputs, feeds, self._head)
