"""The one way of data: inputs -> feeds -> graph -> rows -> a typed result."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.errors import InputError
from sanderling.fronts import Front
from sanderling.results import InputReport, Timing
from sanderling.session import Arrays, Engine


class Answers(Struct, frozen=True, eq=False):
    """Rows of the shape (n, d), float32, in input order, with what became of each input."""

    rows: NDArray[np.float32]
    reports: tuple[InputReport, ...]
    timing: Timing


class Model:
    """A loaded bundle: one variant on one provider, ready to answer. Safe to call from many threads.

    Made by `sanderling.load`; each task's subclass adds the call that its users expect.
    """

    def __init__(self, bundle: Bundle, variant: str, front: Front, engine: Engine, width: int) -> None:
        self.bundle = bundle
        self.variant = variant
        self.front = front
        self._engine = engine
        self._width = width

    @property
    def name(self) -> str:
        """The model's name, as its manifest says."""
        return self.bundle.manifest.name

    @property
    def task(self) -> str:
        """The task, by its Hugging Face pipeline name."""
        return self.bundle.manifest.task

    @property
    def family(self) -> str:
        """ "general", "embedding" or "multimodal"."""
        return self.bundle.manifest.family

    @property
    def modality(self) -> str:
        """What the model takes: "text" or "image"."""
        return self.front.modality

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self._engine.provider

    @property
    def threads(self) -> int:
        """Threads a run may use."""
        return self._engine.threads

    def close(self) -> None:
        """Free the graph. Calls under way end as they would; later ones raise ModelClosedError."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.variant} on {self.provider}, {self.threads} threads>"

    def answer(self, items: list[Any], prompt: str | None = None) -> Answers:
        """The rows of a list of inputs: what the task's call and `verify` are made of."""
        started = time.perf_counter()
        prepared = self.front.prepare(items, prompt)
        rows = np.empty((len(prepared), self._width), np.float32)
        reports: list[InputReport | None] = [None] * len(prepared)
        preprocess, run, postprocess = time.perf_counter() - started, 0.0, 0.0
        for batch in self.front.batches(prepared):
            begun = time.perf_counter()
            feeds, batch_reports = self.front.feeds([prepared[i] for i in batch])
            fed = time.perf_counter()
            outputs = self._engine.run(feeds)
            ran = time.perf_counter()
            rows[batch] = self._reduce(outputs, feeds)
            for index, report in zip(batch, batch_reports, strict=True):
                reports[index] = report
            preprocess += fed - begun
            run += ran - fed
            postprocess += time.perf_counter() - ran
        done = tuple(report for report in reports if report is not None)
        return Answers(rows, done, Timing(preprocess, run, postprocess))

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[np.float32]:
        raise NotImplementedError


def check_top_k(top_k: int) -> int:
    """`top_k` if it is a positive whole number. Raises InputError."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise InputError(f"top_k is {top_k!r}; a whole number of at least 1 was expected.")
    return top_k
