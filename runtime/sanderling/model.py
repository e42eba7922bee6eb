"""The one way of data: inputs -> feeds -> graph -> rows -> a typed result."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import counted, whole_number
from sanderling.engines import Engines
from sanderling.errors import InferenceError, InputError
from sanderling.fronts import Front
from sanderling.placement import Placement
from sanderling.plan import Plan
from sanderling.results import InputReport, Timing
from sanderling.schema.basics import Decode
from sanderling.session import Arrays, Engine

T = TypeVar("T")

# Inputs that a stream holds at a time: few at first, so that answers begin soon, then more, so that batches are full.
_FIRST_WINDOW, _LAST_WINDOW = 16, 1024


class Answers(Struct, frozen=True, eq=False):
    """Rows of the shape (n, d), float32 (of models of numbers float64), in input order, and what became of each.

    Of models that answer with several vectors an input, rows are an array (n,) of arrays (vectors, d).
    """

    rows: NDArray[Any]
    reports: tuple[InputReport, ...]
    timing: Timing


class Model:
    """A loaded bundle: one variant on one provider, ready to answer. Safe to call from many threads.

    Made by `sanderling.load`; each task's subclass adds the call that its users expect.
    """

    # Of the answers: models of numbers answer in the precision that they were fitted in.
    _dtype: type[np.floating[Any]] = np.float32

    def __init__(self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, width: int | None) -> None:
        self.bundle = bundle
        self.plan = plan
        self.front = front
        self._engines = engines
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
        """One of "general", "embedding" and "multimodal"."""
        return self.bundle.manifest.family

    @property
    def modality(self) -> str:
        """What the model takes: "text", "image", "audio", "tabular" or "series"."""
        return self.front.modality

    @property
    def takes(self) -> tuple[str, ...]:
        """The modalities that `answer` takes: as a rule its one."""
        return (self.modality,)

    @property
    def variant(self) -> str:
        """The variant that answers."""
        return self.plan.variant

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.plan.provider

    @property
    def threads(self) -> int:
        """Threads a call may use."""
        return self.plan.threads

    @property
    def decode(self) -> Decode:
        """How JPEG files are decoded: "exact", in full, or "fast", large ones at reduced scale."""
        return self.plan.decode

    @property
    def engine(self) -> Engine:
        """What runs a single batch: `run` takes the front's feeds, host arrays by the graph's names."""
        return self._engines.single

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes of the graph; their share of the time after `measure_placement`."""
        return self._engines.single.placement

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement with each provider's share of the run time; `placement` has it from now on.

        `inputs` are what to measure on (default: the bundle's golden samples), batched as the plan says, `runs` times.
        A second session is built for it, with ONNX Runtime's profiler on, and freed again.
        """
        from sanderling.golden import inputs_of, read_golden  # only for those who measure

        if inputs is None:
            inputs = inputs_of(self.bundle, read_golden(self.bundle), self.takes)
        items = list(inputs)
        prepared = self.front.prepare(items, None)
        feeds = [self.front.feeds([prepared[i] for i in batch])[0] for batch in self.front.batches(prepared)]
        return self._engines.single.measure_placement(feeds, whole_number("runs", runs))

    def close(self) -> None:
        """Free the graph. Calls under way end as they would; later ones raise ModelClosedError."""
        self._engines.close()

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
        return (
            f"<{type(self).__name__} {self.name} {self.variant} on {self.provider}, {counted(self.threads, 'thread')}>"
        )

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The rows of a list of inputs: what the task's call and `verify` are made of."""
        self._engines.check()
        started = time.perf_counter()
        return self._answer(self.front.prepare(items, prompt, cancellation), started, cancellation)

    def _answer(self, prepared: list[Any], started: float, cancellation: Cancellation | None) -> Answers:
        """The rows of inputs that the front has prepared, since the time `started`."""
        if len(prepared) == 1:
            return self._single(prepared, started, cancellation)
        collected = _Collected(len(prepared), self._width, self._dtype)
        collected.preprocess = time.perf_counter() - started
        batches = list(self.front.batches(prepared))
        if len(batches) > 1 and self._engines.workers.count > 1:
            engine = self._engines.many()
            # The longest first, so that no worker is left with a long one at the end.
            self._engines.workers.each(
                reversed(batches), lambda batch: self._run(engine, prepared, batch, collected, cancellation)
            )
        else:
            for batch in batches:
                self._run(self._engines.single, prepared, batch, collected, cancellation)
        return collected.answers(time.perf_counter() - started)

    def _single(self, prepared: list[Any], started: float, cancellation: Cancellation | None) -> Answers:
        """The row of one input: nothing to batch, to share or to put in order, so nothing is spent on it."""
        if cancellation is not None:
            cancellation.check()
        feeds, reports = self.front.feeds(prepared)
        fed = time.perf_counter()
        outputs = self._engines.single.run(feeds, cancellation)
        ran = time.perf_counter()
        rows = self._rows(outputs, feeds, reports)
        if self._width is not None:
            rows = rows.astype(self._dtype, copy=False)
        # A sum is finite only if all its parts are; finite parts may have a sum that is not, and are looked at.
        if (self._width is None or not math.isfinite(np.add.reduce(rows, axis=None))) and not _finite(rows):
            raise self._not_finite("0")
        return Answers(rows, tuple(reports), Timing(fed - started, ran - fed, time.perf_counter() - ran))

    def _run(
        self,
        engine: Engine,
        prepared: list[Any],
        batch: list[int],
        collected: _Collected,
        cancellation: Cancellation | None,
    ) -> None:
        if cancellation is not None:
            cancellation.check()
        begun = time.perf_counter()
        feeds, reports = self.front.feeds([prepared[i] for i in batch])
        fed = time.perf_counter()
        outputs = engine.run(feeds, cancellation)
        ran = time.perf_counter()
        rows = self._rows(outputs, feeds, reports)
        if not _finite(rows):
            bad = ", ".join(str(index) for index, row in zip(batch, rows, strict=True) if not _finite(row))
            raise self._not_finite(bad)
        collected.add(batch, rows, reports, (fed - begun, ran - fed, time.perf_counter() - ran))

    def _not_finite(self, inputs: str) -> InferenceError:
        return InferenceError(
            f"{self.name} {self.variant} on {self.provider} answered input {inputs} with values that are not finite. "
            f"Run: sanderling verify {self.bundle.path}"
        )

    def _rows(self, outputs: Arrays, feeds: Arrays, reports: Sequence[InputReport]) -> NDArray[Any]:
        """One row an input of a run, for tasks that need to know what became of each as well."""
        del reports
        return self._reduce(outputs, feeds)

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[Any]:
        raise NotImplementedError


class _Collected:
    """The answers of one call as they come in, from several workers at once."""

    def __init__(self, count: int, width: int | None, dtype: type[np.floating[Any]]) -> None:
        # Without a width, what each input is answered with has a shape of its own.
        self._rows = np.empty(count, object) if width is None else np.empty((count, width), dtype)
        self._reports: list[InputReport | None] = [None] * count
        self._lock = threading.Lock()
        self.preprocess = self._run = self._postprocess = 0.0

    def add(
        self,
        batch: list[int],
        rows: NDArray[Any],
        reports: list[InputReport],
        seconds: tuple[float, float, float],
    ) -> None:
        self._rows[batch] = rows
        for index, report in zip(batch, reports, strict=True):
            self._reports[index] = report
        with self._lock:
            self.preprocess += seconds[0]
            self._run += seconds[1]
            self._postprocess += seconds[2]

    def answers(self, elapsed: float) -> Answers:
        """All answers. Workers' seconds overlap: each stage gets its share of the seconds that really passed."""
        spent = self.preprocess + self._run + self._postprocess
        scale = min(1.0, elapsed / spent) if spent else 1.0
        timing = Timing(self.preprocess * scale, self._run * scale, self._postprocess * scale)
        return Answers(self._rows, tuple(report for report in self._reports if report is not None), timing)


def _finite(rows: NDArray[Any]) -> bool:
    if rows.dtype == object:
        return all(map(_finite, rows))
    return bool(np.isfinite(rows).all())


def windows(inputs: Iterable[T]) -> Iterator[list[T]]:
    """The inputs in lists of a bounded length, long enough that sorting each by length leaves little padding.

    Raises InputError for one text or file's bytes, which would be streamed character by character.
    """
    if isinstance(inputs, str | bytes | bytearray | memoryview | np.ndarray) or not isinstance(inputs, Iterable):
        raise InputError(
            f"stream() was given one {type(inputs).__name__}; an iterable of inputs was expected. "
            "Call the model itself for a single one."
        )
    remaining = iter(inputs)
    size = _FIRST_WINDOW
    while window := list(islice(remaining, size)):
        yield window
        size = min(2 * size, _LAST_WINDOW)


async def in_thread(call: Callable[[Cancellation], T]) -> T:
    """Await `call` in a thread of its own; cancelling the awaiting task cancels it."""
    import asyncio  # only for those who use it: importing it takes longer than a first answer

    cancellation = Cancellation()
    try:
        return await asyncio.to_thread(call, cancellation)
    except asyncio.CancelledError:
        cancellation.cancel()
        raise
