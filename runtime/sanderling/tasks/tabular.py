"""`tabular-regression` and `tabular-classification`: rows of a table to numbers with units, or to labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.errors import GraphError
from sanderling.fronts import Front
from sanderling.model import Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.predictions import Prediction, Predictions
from sanderling.results import Classification, Classifications
from sanderling.schema.answers import ClassificationOutput, RegressionOutput
from sanderling.schema.preprocessing import ColumnSpec
from sanderling.session import Arrays


class TableModel(Model):
    """What models of tables have in common: the columns they take, and answers in float64."""

    _dtype = np.float64

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """The columns, in the order in which a list of values is read."""
        settings = self.bundle.manifest.preprocessing.tabular
        assert settings is not None  # decode() refuses the task without it
        return settings.columns


class Regressor(TableModel):
    """Predicts the numbers that belong to a row."""

    def __init__(self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, head: RegressionOutput) -> None:
        super().__init__(bundle, plan, front, engines, len(head.targets))
        self._head = head
        self._targets = tuple(target.name for target in head.targets)
        self._units = tuple(target.unit for target in head.targets)

    @property
    def targets(self) -> tuple[str, ...]:
        """What is predicted, in the order of a prediction's values."""
        return self._targets

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each target, "" where none is known."""
        return self._units

    def __call__(self, inputs: Any, *, cancellation: Cancellation | None = None) -> Prediction | Predictions:
        """Predict one row, or each of several; `cancellation` ends the call early.

        One row is a dict by column, or a list of values in the columns' order, and gives a Prediction (`.value`,
        `.values`, `.report`). A list of rows, an array of the shape (n, columns), a data frame, or the path of a CSV
        file gives Predictions, which can be indexed (`.values` of the shape (n, targets), float64).
        Raises TableError, an InputError, for what is no row of this model.
        """
        items, single = self.front.items(inputs)
        answers = self.answer(items, cancellation=cancellation)
        if single:
            values = tuple(answers.rows[0].tolist())
            return Prediction(values, self._targets, self._units, answers.reports[0], self.variant, answers.timing)
        return Predictions(answers.rows, self._targets, self._units, answers.reports, self.variant, answers.timing)

    def stream(self, inputs: Iterable[Any], *, cancellation: Cancellation | None = None) -> Iterator[Prediction]:
        """Predict any iterable of rows, also one without end, in bounded memory, in input order."""
        for window in _rows(inputs):
            answers = self.answer(window, cancellation=cancellation)
            yield from Predictions(
                answers.rows, self._targets, self._units, answers.reports, self.variant, answers.timing
            )

    async def acall(self, inputs: Any) -> Prediction | Predictions:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self(inputs, cancellation=cancellation))

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[Any]:
        del feeds
        rows = outputs[self._head.output]
        if rows.ndim != 2 or rows.shape[1] != len(self._targets):
            raise GraphError(
                f"The graph's output {self._head.output!r} has the shape {rows.shape}; "
                f"the manifest names {len(self._targets)} targets."
            )
        return rows


class TableClassifier(TableModel):
    """Decides which label a row has."""

    def __init__(self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, head: ClassificationOutput) -> None:
        super().__init__(bundle, plan, front, engines, len(head.labels))
        self._head = head

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the scores."""
        return self._head.labels

    def __call__(
        self, inputs: Any, *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Classification | Classifications:
        """Classify one row, or each of several, and give the `top_k` best labels with their scores.

        Scores are the pipeline's probabilities, or where it has none, the values of its decision function. What
        `inputs` may be, and what is raised, is as with Regressor; a row gives a Classification, several give
        Classifications.
        """
        top_k = whole_number("top_k", top_k)
        items, single = self.front.items(inputs)
        decided = self._decide(items, top_k, cancellation)
        return decided[0] if single else decided

    def stream(
        self, inputs: Iterable[Any], *, top_k: int = 5, cancellation: Cancellation | None = None
    ) -> Iterator[Classification]:
        """Classify any iterable of rows, also one without end, in bounded memory, in input order."""
        for window in _rows(inputs):
            yield from self._decide(window, whole_number("top_k", top_k), cancellation)

    async def acall(self, inputs: Any, *, top_k: int = 5) -> Classification | Classifications:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self(inputs, top_k=top_k, cancellation=cancellation))

    def _decide(self, items: list[Any], top_k: int, cancellation: Cancellation | None) -> Classifications:
        answers = self.answer(items, cancellation=cancellation)
        scores = heads.scores(answers.rows, self._head)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        logits = answers.rows.astype(np.float32)
        found = tuple(
            Classification(
                labels=tuple(self._head.labels[i] for i in chosen),
                scores=tuple(float(row[i]) for i in chosen),
                logits=raw,
                report=report,
                variant=self.variant,
                timing=answers.timing,
            )
            for chosen, row, raw, report in zip(best, scores, logits, answers.reports, strict=True)
        )
        return Classifications(found, logits, answers.timing)

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[Any]:
        del feeds
        rows = outputs[self._head.output]
        if rows.ndim != 2 or rows.shape[1] != len(self._head.labels):
            raise GraphError(
                f"The graph's output {self._head.output!r} has the shape {rows.shape}; "
                f"the manifest names {len(self._head.labels)} labels."
            )
        return rows


def _rows(inputs: Iterable[Any]) -> Iterator[list[Any]]:
    """Windows of rows; a dict by itself is one row, and no iterable of them."""
    return windows([inputs]) if isinstance(inputs, Mapping) else windows(inputs)
