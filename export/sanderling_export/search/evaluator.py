"""Candidates made and measured: quality through the runtime that will answer, speed on one thread's own time."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.codec import encode
from sanderling.errors import ExportError, GraphError, InferenceError, SanderlingError
from sanderling.loading import load
from sanderling.manifest import MANIFEST_NAME, GoldenFiles
from sanderling.model import Model
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.variants import Component, Form, Metric
from sanderling.session import Session
from sanderling.verification import cosines
from sanderling_export import assembly, golden, graphs, quantize, rounding, smooth
from sanderling_export.graphs import Feed
from sanderling_export.labelled import Labelled
from sanderling_export.original import Original
from sanderling_export.plan import Plan
from sanderling_export.quiet import quiet
from sanderling_export.recipe import Precision
from sanderling_export.samples import Samples
from sanderling_export.search.records import Candidate, Found, Group, Measured, Quality, Unmade

# Layers are ranked by graphs that are calibrated and measured on so few samples: each layer has one of its own.
_ROUGH_FEEDS, _ROUGH_PROBES = 24, 32
_RACED_TEXTS, _RACED_IMAGES = 48, 32
# Graphs stay on disk for the races up to so many bytes, and sessions of the last few open.
_KEPT_BYTES = 4 * 2**30
_OPEN = 4
_TRIAL = "trial"
_PERCENTILE = 0.01


@dataclass(frozen=True, slots=True)
class _Files:
    """A graph on disk, and what was noted as it was made."""

    graph: Path
    data: tuple[Path, ...]
    optimized: bool
    size: int
    notes: tuple[str, ...]


class Bench:
    """Evaluates candidates for one checkpoint, in a scratch folder of its own."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        source: Original,
        fp32: onnx.ModelProto,
        component: Component,
        samples: Samples,
        expected: NDArray[np.float32],
        labelled: tuple[Labelled, NDArray[np.float32]] | None,
        seed: int,
    ) -> None:
        # A bundle that always has one variant, the candidate under trial; and graphs that were, each in a folder.
        self._root, self._shelf = folder / "bundle", folder / "shelf"
        self._build = self._root / "build"
        for place in (self._build, self._shelf):
            place.mkdir(parents=True)
        self._plan = plan
        self._source = source
        self._fp32 = graphs.named(fp32)
        self._component = component
        self._samples = samples
        self._check = expected
        self._labelled = labelled
        self._labels = isinstance(source.description.head, ClassificationOutput)
        draw = random.Random(seed)
        count = len(samples.calibration)
        self._few = sorted(draw.sample(range(count), min(_ROUGH_FEEDS, count)))
        self._probes = sorted(draw.sample(range(count), min(_ROUGH_PROBES, count)))
        raced = _RACED_IMAGES if source.description.image is not None else _RACED_TEXTS
        self._raced = sorted(draw.sample(range(count), min(raced, count)))
        self._rounder = rounding.Memory()
        self._runners: dict[Candidate, Session] = {}
        self._kept: dict[Candidate, _Files] = {}
        self._count = 0

    @cached_property
    def convolutional(self) -> bool:
        """Whether the network's weights are in convolutions."""
        return quantize.default_precision(self._fp32) == "int8-static"

    def groups(self, precision: Precision) -> Sequence[Group]:
        """Products that share an input, or single convolutions."""
        del precision
        constants = graphs.weights(self._fp32)
        sizes = {name: int(np.prod(tensor.dims)) for name, tensor in constants.items()}
        if not self.convolutional:
            return [
                Group(tuple(node.name for node in nodes), sum(sizes[node.input[1]] for node in nodes))
                for nodes in smooth.products(self._fp32).values()
            ]
        return [
            Group((node.name,), sizes[node.input[1]])
            for node in self._fp32.graph.node
            if node.op_type in ("Conv", "Gemm") and node.input[1] in constants
        ]

    def measure(self, candidate: Candidate) -> Found:
        """Quality on both sets; what cannot be made or run is Unmade, with the reason."""
        try:
            files = self._write(candidate, self._feeds)
            with self._loaded(files) as model:
                on_calibration, on_check = self._metrics(model)
                calibration = self._quality(model, self._samples.calibration, self._calibration, on_calibration)
                check = self._quality(model, self._samples.check, self._check, on_check)
        except (ExportError, GraphError, InferenceError) as error:
            self._clear()
            return Unmade(str(error))
        self._keep(candidate, files)
        return Measured(calibration, check, files.size, files.notes)

    def rough(self, candidate: Candidate) -> float:
        """Mean drift on the probes; 2, the most there is, for what cannot be made."""
        try:
            files = self._write(candidate, [self._feeds[i] for i in self._few])
            with self._loaded(files) as model:
                rows = model.answer([self._samples.calibration[i] for i in self._probes]).rows
            return float(1.0 - cosines(rows, self._calibration[self._probes]).mean())
        except (ExportError, GraphError, InferenceError):
            return 2.0
        finally:
            self._clear()

    def race(self, candidate: Candidate, other: Candidate, number: int) -> float:
        """One round of the graphs alone, on one thread's processor time; who begins alternates."""
        batches = self._batches
        pair = [self._runner(candidate), self._runner(other)]
        seconds = [0.0, 0.0]
        for index in (0, 1) if number % 2 else (1, 0):
            begin = time.thread_time()
            for feeds in batches:
                pair[index].run(feeds)
            seconds[index] = time.thread_time() - begin
        return max(seconds[1], 1e-9) / max(seconds[0], 1e-9)

    def close(self) -> None:
        """Free the sessions of races."""
        while self._runners:
            self._runners.pop(next(iter(self._runners))).close()

    @cached_property
    def _feeds(self) -> list[Feed]:
        names = {spec.name for spec in self._component.inputs}
        with quiet():
            return [
                {name: np.asarray(value)[None] for name, value in self._source.inputs(item).items() if name in names}
                for item in self._samples.calibration
            ]

    @cached_property
    def _calibration(self) -> NDArray[np.float32]:
        with quiet():
            return self._source.answers(self._samples.calibration)

    @cached_property
    def _golden(self) -> GoldenFiles:
        with quiet():
            names = [spec.name for spec in self._component.inputs]
            return golden.write(self._root, self._build, [(self._source, self._samples.golden[:1], names)])

    @cached_property
    def _batches(self) -> list[dict[str, Any]]:
        """The feeds of the raced inputs, batched as the runtime does it."""
        files = self._write(Candidate("fp32"), ())
        with self._loaded(files) as model:
            prepared = model.front.prepare([self._samples.calibration[i] for i in self._raced], None)
            return [dict(model.front.feeds([prepared[i] for i in batch])[0]) for batch in model.front.batches(prepared)]

    def _write(self, candidate: Candidate, feeds: Sequence[Feed]) -> _Files:
        """Make the candidate's graph and write it into the bundle under trial."""
        self._clear()
        try:
            with quiet():
                graph, notes = quantize.quantize(
                    self._fp32, candidate.precision, feeds, candidate.settings, self._rounder
                )
        except (SanderlingError, OSError, MemoryError):
            raise
        except Exception as error:
            # ONNX Runtime's quantizers raise what comes: of a graph that one cannot do, another may be made.
            lines = str(error).strip().splitlines() or [""]
            raise ExportError(f"{candidate.precision}: {type(error).__name__}: {lines[0][:200]}") from error
        self._count += 1
        place = self._build / f"{_TRIAL}-{self._count}"
        graphs.save(graph, place)
        first, *others = sorted(place.iterdir(), key=lambda file: file.name != graphs.GRAPH_NAME)
        size = sum(file.stat().st_size for file in (first, *others))
        return _Files(first, tuple(others), graphs.is_fused(graph), size, notes)

    def _loaded(self, files: _Files) -> Model:
        """A bundle with nothing but this graph, loaded as its users will."""
        golden_files = self._golden
        graph, *data = (file.relative_to(self._root).as_posix() for file in (files.graph, *files.data))
        form = Form(graph, tuple(data), optimized=files.optimized)
        draft = assembly.draft(
            self._plan,
            self._source.description,
            {assembly.COMPONENT: assembly.component(self._component, {_TRIAL: {assembly.FORM: form}})},
            golden_files,
            self._build,
            self._root,
            (),
        )
        (self._root / MANIFEST_NAME).write_bytes(encode(draft))
        return load(self._root, variant=_TRIAL, provider="cpu", integrity="full")

    def _keep(self, candidate: Candidate, files: _Files) -> None:
        """Move a candidate's graph to the shelf, where races find it; the oldest go where there is too much."""
        place = self._shelf / files.graph.parent.name
        files.graph.parent.rename(place)
        self._kept[candidate] = replace(files, graph=place / files.graph.name)
        while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > _KEPT_BYTES:
            oldest = self._kept.pop(next(iter(self._kept)))
            shutil.rmtree(oldest.graph.parent, ignore_errors=True)

    def _runner(self, candidate: Candidate) -> Session:
        if candidate in self._runners:
            # Taken out and put back in, it is the last again.
            self._runners[candidate] = self._runners.pop(candidate)
            return self._runners[candidate]
        if candidate not in self._kept:
            self._keep(candidate, self._write(candidate, self._feeds))
        files = self._kept[candidate]
        runner = Session(files.graph, self._component, threads=1, optimized=files.optimized)
        for batch in self._batches[:2]:
            runner.run(batch)
        while len(self._runners) >= _OPEN:
            self._runners.pop(next(iter(self._runners))).close()
        self._runners[candidate] = runner
        return runner

    def _metrics(self, model: Model) -> tuple[Metric | None, Metric | None]:
        """The task's metric on each half of the labelled cases; None where it is no part of the floor.

        Raises ExportError for halves it is not defined on: one label alone, or scores that are all alike.
        """
        if self._labelled is None:
            return None, None
        cases, reference = self._labelled
        rows = cases.rows_of_halves(model.answer(list(cases.inputs)).rows)
        parts = zip(cases.halves(), rows, cases.rows_of_halves(reference), strict=True)
        first, second = (half.measured(found, wanted).get(cases.metric) for half, found, wanted in parts)
        if first is None or second is None:
            raise ExportError(
                f"{cases.metric} is not defined on each half of the {len(cases.truth)} labelled cases; more are needed."
            )
        return first, second

    def _quality(
        self, model: Model, items: Sequence[Any], expected: NDArray[np.float32], metric: Metric | None
    ) -> Quality:
        rows = model.answer(list(items)).rows
        similar = cosines(rows, expected)
        agreement = float((rows.argmax(axis=1) == expected.argmax(axis=1)).mean()) if self._labels else None
        return Quality(
            len(similar),
            float(similar.mean()),
            float(similar.min()),
            float(np.quantile(similar, _PERCENTILE)),
            agreement,
            metric,
        )

    def _clear(self) -> None:
        """Remove what the last trial left; a file that is still open on Windows goes with the folder at the end."""
        for place in self._build.glob(f"{_TRIAL}-*"):
            shutil.rmtree(place, ignore_errors=True)
