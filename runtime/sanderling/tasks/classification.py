"""`text-classification`, `image-classification` and `audio-classification`: one input to labels with scores."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.errors import InputError
from sanderling.fronts import Front, TextFront
from sanderling.model import Answers, Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.results import Classification, Classifications
from sanderling.schema.answers import ClassificationOutput
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.fronts import Input

# What becomes of a text that is longer than the model takes: its end is cut off, or it is answered in windows.
LongTextChoice: TypeAlias = Literal["truncate", "window"]


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
        self,
        inputs: Input,
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
        cancellation: Cancellation | None = None,
    ) -> Classification: ...
    @overload
    def __call__(
        self,
        inputs: Iterable[Input],
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
        cancellation: Cancellation | None = None,
    ) -> Classifications: ...
    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
        cancellation: Cancellation | None = None,
    ) -> Classification | Classifications:
        """Classify one input, or each of a list, and give the `top_k` best labels with their scores;
        `cancellation` ends the call early.

        An input is a text, a TextPair (or a mapping with `text` and `text_pair`), an image, or a sound. A text longer
        than the model takes is cut, or with `long_text="window"` answered in several windows, whose scores are combined
        as the bundle says; the report tells either.
        One input gives a Classification (`.label`, `.score`, `.labels`, `.scores`), a list gives Classifications,
        which can be indexed. Raises InputError for what is no input of this model.
        """
        top_k = whole_number("top_k", top_k)
        items, single = self.front.items(inputs)
        if self._windowed(long_text):
            answers, scores = self._in_windows(items, cancellation)
        else:
            answers = self.answer(items, cancellation=cancellation)
            scores = heads.scores(answers.rows, self._head)
        decided = tuple(self._decisions(answers, scores, top_k))
        return decided[0] if single else Classifications(decided, answers.rows, answers.timing)

    def stream(
        self,
        inputs: Iterable[Input],
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
        cancellation: Cancellation | None = None,
    ) -> Iterator[Classification]:
        """Classify any iterable, also one without end, in bounded memory: answers in input order as they are ready."""
        for window in windows(inputs):
            yield from self(window, top_k=top_k, long_text=long_text, cancellation=cancellation)

    @overload
    async def acall(  # type: ignore[overload-overlap]
        self, inputs: Input, *, top_k: int = 5, long_text: LongTextChoice = "truncate"
    ) -> Classification: ...
    @overload
    async def acall(
        self, inputs: Iterable[Input], *, top_k: int = 5, long_text: LongTextChoice = "truncate"
    ) -> Classifications: ...
    async def acall(
        self, inputs: Input | Iterable[Input], *, top_k: int = 5, long_text: LongTextChoice = "truncate"
    ) -> Classification | Classifications:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(inputs, top_k=top_k, long_text=long_text, cancellation=cancellation)
        )

    def _windowed(self, long_text: str) -> bool:
        if long_text not in get_args(LongTextChoice):
            raise InputError(f"long_text is {long_text!r}; 'truncate' or 'window' was expected.")
        if long_text == "window" and not isinstance(self.front, TextFront):
            raise InputError(f"long_text='window' goes with texts; {self.name} takes {self.modality}s.")
        return long_text == "window"

    def _in_windows(self, items: list[Any], cancellation: Cancellation | None) -> tuple[Answers, NDArray[np.float32]]:
        """The answers of texts, each combined from its windows' answers, and their scores."""
        started = time.perf_counter()
        assert isinstance(self.front, TextFront)  # _windowed() refuses other inputs
        self._engines.check()
        made = self.front.windows(items, cancellation)
        answers = self._answer([part for text in made for part in text.encoded], started, cancellation)
        text = self.bundle.manifest.preprocessing.text
        assert text is not None  # a TextFront is made from it
        assert text.long_text is not None  # windows() refuses a bundle without it
        counts = [len(text.encoded) for text in made]
        rows = heads.combine(answers.rows, counts, text.long_text.combine)
        scores = heads.combine(heads.scores(answers.rows, self._head), counts, text.long_text.combine)
        return Answers(rows, tuple(text.report for text in made), answers.timing), scores

    def _decisions(self, answers: Answers, scores: NDArray[np.float32], top_k: int) -> Iterable[Classification]:
        labels, regression = self._head.labels, self._head.activation == "none"
        best = np.argsort(-scores, axis=1, kind="stable")
        for index, report in enumerate(answers.reports):
            # The targets of a regression are no rivals: all of them, as the model has them.
            chosen = range(len(labels)) if regression else best[index, :top_k]
            yield Classification(
                labels=tuple(labels[i] for i in chosen),
                scores=tuple(float(scores[index, i]) for i in chosen),
                report=report,
                variant=self.variant,
                timing=answers.timing,
                logits=answers.rows[index],
                selected=self._selected(scores[index], best[index]),
            )

    def _selected(self, scores: NDArray[np.float32], best: NDArray[np.int64]) -> tuple[str, ...]:
        head = self._head
        if head.activation == "none":
            return ()
        if head.thresholds is None:
            return (head.labels[best[0]],)
        return tuple(head.labels[i] for i in best if scores[i] >= head.thresholds[i])

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[np.float32]:
        del feeds
        return heads.classify(outputs, self._head)
