"""`text-classification` and `image-classification`: one input to labels with scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.fronts import Front
from sanderling.manifest import ClassificationOutput
from sanderling.model import Answers, Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.results import Classification, Classifications
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput, Input


class Classifier(Model):
    """Decides which label an input has."""

    def __init__(self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, head: ClassificationOutput) -> None:
        super().__init__(bundle, plan, front, engines, len(head.labels))
        self._head = head

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the logits."""
        return self._head.labels

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, inputs: str | ImageInput, *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Classification: ...
    @overload
    def __call__(
        self, inputs: Iterable[Input], *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Classifications: ...
    def __call__(
        self, inputs: Input | Iterable[Input], *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Classification | Classifications:
        """Classify one input, or each of a list, and give the `top_k` best labels with their scores;
        `cancellation` ends the call early.

        One input gives a Classification (`.label`, `.score`, `.labels`, `.scores`), a list gives Classifications,
        which can be indexed. Raises InputError for what is no input of this model.
        """
        top_k = whole_number("top_k", top_k)
        items, single = self.front.items(inputs)
        answers = self.answer(items, cancellation=cancellation)
        decided = tuple(self._decisions(answers, top_k))
        return decided[0] if single else Classifications(decided, answers.rows, answers.timing)

    def stream(
        self, inputs: Iterable[Input], *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Iterator[Classification]:
        """Classify any iterable, also one without end, in bounded memory: answers in input order as they are ready."""
        for window in windows(inputs):
            yield from self(window, top_k=top_k, cancellation=cancellation)

    @overload
    async def acall(self, inputs: str | ImageInput, *, top_k: int = 5) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    async def acall(self, inputs: Iterable[Input], *, top_k: int = 5) -> Classifications: ...
    async def acall(self, inputs: Input | Iterable[Input], *, top_k: int = 5) -> Classification | Classifications:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self(inputs, top_k=top_k, cancellation=cancellation))

    def _decisions(self, answers: Answers, top_k: int) -> Iterable[Classification]:
        scores = heads.scores(answers.rows, self._head)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        for index, report in enumerate(answers.reports):
            chosen = best[index]
            yield Classification(
                labels=tuple(self._head.labels[i] for i in chosen),
                scores=tuple(float(scores[index, i]) for i in chosen),
                report=report,
                variant=self.variant,
                timing=answers.timing,
                logits=answers.rows[index],
            )

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[np.float32]:
        del feeds
        return heads.classify(outputs, self._head)
