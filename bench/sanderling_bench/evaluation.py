"""One evaluation: every variant of a bundle on the same labelled data, to one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.bundle import Bundle, file_sha256
from sanderling.choices import choose_variant
from sanderling.errors import EvalError
from sanderling.loading import load
from sanderling.model import Model
from sanderling.prompts import choose
from sanderling.schema.answers import ClassificationOutput
from sanderling.tasks.dual_encoder import DualEncoder
from sanderling.verification import cosines
from sanderling_bench import bootstrap, shapes
from sanderling_bench import evaluation_record as record
from sanderling_bench.answering import answer, chunks
from sanderling_bench.evaluation_record import Column, Data, DataFile, EvalRecord, EvalSettings
from sanderling_bench.labelled import Labelled, kind_of
from sanderling_bench.machine import this_machine
from sanderling_bench.measure import REFERENCE
from sanderling_bench.metrics import Kind, metrics_for
from sanderling_bench.record import BundleId
from sanderling_bench.retrieval import Retrieval
from sanderling_bench.rolling import Rolling
from sanderling_bench.shapes import Shape
from sanderling_bench.statistics import SEED
from sanderling_bench.tables import LabelledTable
from sanderling_bench.transcribed import Transcribed
from sanderling_bench.written import Written

RESAMPLES = 1000
# Kinds of data for models that write.
_WRITTEN = ("captions", "answers", "continuation")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """What to evaluate on, and how. `limit` cases are drawn with `seed`, which draws the bootstrap's cases, too.

    Each variant of an embedding model is also measured with vectors of each of `dimensions`, in each of `precisions`.
    `columns` maps roles of the data ("text", "label" ...) to the names of its columns. `prompt` and `query_prompt` name
    prompts of an embedding model; for retrieval they are those of queries and documents where the model has them.
    `language` is what is spoken, where a model that hears is not to recognize it.
    """

    data: Path
    variants: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    seed: int = SEED
    resamples: int = RESAMPLES
    prompt: str | None = None
    query_prompt: str | None = None
    language: str | None = None
    dimensions: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    provider: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class _Answered:
    data: Data
    truth: dict[str, Column]
    answers: dict[str, dict[str, Column]]


def evaluate(bundle: Bundle, plan: EvalPlan, progress: Progress | None = None) -> EvalRecord:
    """Evaluate the bundle on the data of the plan. `progress` hears of each step: what, done, in all.

    fp32 is evaluated too where the bundle has it: the differences are to it. All rows are checked before a model is
    loaded. Raises EvalError: data that cannot be read or does not fit, and what loading and answering raise.
    """
    _check(plan)
    watch = progress or _unwatched
    kind = kind_of(bundle, plan.data)
    metrics = metrics_for(kind, plan.metrics)
    if plan.language is not None and kind != "transcripts":
        raise EvalError(f"--language goes with models that hear; {bundle.manifest.name} is for {bundle.manifest.task}.")
    prompts = _prompts(bundle, kind, plan)
    shaped = shapes.shapes(bundle.manifest, plan.dimensions, plan.precisions)
    names = [choose_variant(bundle, name) for name in plan.variants] or list(bundle.manifest.variants)
    variants = tuple(dict.fromkeys([*([REFERENCE] if REFERENCE in bundle.manifest.variants else []), *names]))
    watch(f"checking {plan.data.name}", 0, 1)
    retrieval = Retrieval(bundle, plan.data, plan.columns) if kind == "retrieval" else None
    rolling = Rolling(bundle, plan.data, plan.columns) if kind == "forecast" else None
    written = _written(bundle, kind, plan)
    labelled = None if retrieval or rolling or written else _labelled(bundle, kind, plan)
    checked = labelled or rolling or written
    rows = checked.check() if checked else 0
    with ExitStack() as stack:
        watch(f"loading {bundle.manifest.name}", 0, 1)
        models: dict[str, Model] = {
            name: stack.enter_context(load(bundle.path, variant=name, provider=plan.provider, threads=plan.threads))
            for name in variants
        }
        threads = models[variants[0]].threads
        if retrieval:
            answered = _rank(retrieval, models, plan, prompts, shaped, watch)
        elif rolling:
            answered = _forecast(rolling, rows, models, plan, watch)
        elif written:
            answered = _tell(kind, written, rows, models, plan, watch)
        else:
            assert labelled is not None
            answered = _answer(bundle, kind, labelled, rows, models, plan, shaped, watch)
    columns = {name: {**_arrays(answered.truth), **_arrays(found)} for name, found in answered.answers.items()}
    scores = bootstrap.scores(
        metrics,
        columns,
        REFERENCE,
        seed=plan.seed,
        resamples=plan.resamples,
        progress=lambda done: watch("intervals", done, plan.resamples),
    )
    return EvalRecord(
        format=record.FORMAT,
        version=record.VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=BundleId(bundle.manifest.name, bundle.manifest.task, bundle.digest),
        machine=this_machine(),
        versions=record.versions(),
        settings=EvalSettings(
            variants=tuple(answered.answers),
            metrics=tuple(metric.name for metric in metrics),
            reference=REFERENCE,
            provider=plan.provider,
            threads=threads,
            limit=plan.limit,
            seed=plan.seed,
            resamples=plan.resamples,
            prompt=prompts[1],
            query_prompt=prompts[0],
            dimensions=plan.dimensions,
            precisions=plan.precisions,
            language=plan.language,
        ),
        data=answered.data,
        truth=answered.truth,
        answers=answered.answers,
        scores=scores,
    )


def _labelled(bundle: Bundle, kind: Kind, plan: EvalPlan) -> Labelled | LabelledTable:
    if bundle.manifest.preprocessing.tabular is not None:
        return LabelledTable(bundle, plan.data, plan.columns)
    return Labelled(bundle, kind, plan.data, plan.columns)


def _written(bundle: Bundle, kind: Kind, plan: EvalPlan) -> Written | Transcribed | None:
    if kind == "transcripts":
        return Transcribed(bundle, plan.data, plan.columns, plan.language)
    return Written(bundle, kind, plan.data, plan.columns) if kind in _WRITTEN else None


def _answer(
    bundle: Bundle,
    kind: Kind,
    data: Labelled | LabelledTable,
    rows: int,
    models: Mapping[str, Model],
    plan: EvalPlan,
    shaped: Sequence[Shape],
    watch: Progress,
) -> _Answered:
    file = DataFile(str(data.path), file_sha256(data.path), rows)
    lines: list[int] = []
    truth: list[float] = []
    found: dict[str, list[float]] = {}
    cut = 0
    total = min(rows, plan.limit or rows)
    for chunk in chunks(data.cases(rows, plan.limit, plan.seed)):
        width = len(chunk[0].inputs)
        inputs = [item for case in chunk for item in case.inputs]
        places = [case.line for case in chunk for _ in case.inputs]
        answers, lost = answer(models, data.path, places, inputs, plan.prompt)
        for name, vectors in answers.items():
            if isinstance(data, Labelled) and data.free_labels:
                found.setdefault(name, []).extend(_zero_shot(models[name], vectors, data.free_labels))
                continue
            figures = (
                vectors[:, data.target].tolist() if isinstance(data, LabelledTable) and kind == "regression" else None
            )
            found.setdefault(name, []).extend(_figures(bundle, kind, vectors, width) if figures is None else figures)
            for shape in shaped:
                found.setdefault(shape.of(name), []).extend(_figures(bundle, kind, shape(vectors), width))
        lines += [case.line for case in chunk]
        truth += [case.truth for case in chunk]
        cut += lost
        watch("answering", len(lines), total)
    described = Data(kind, (file,), data.columns(), len(lines), tuple(lines), cut)
    return _Answered(described, {"truth": tuple(truth)}, {name: {"answer": tuple(f)} for name, f in found.items()})


def _zero_shot(model: Model, vectors: NDArray[np.float32], labels: tuple[str, ...]) -> list[float]:
    """The number of the label whose vector is nearest to each image's."""
    assert isinstance(model, DualEncoder)  # of whom else are labels free
    figures: list[float] = (vectors @ model.label_vectors(labels).T).argmax(axis=1).tolist()
    return figures


def _figures(bundle: Bundle, kind: Kind, rows: NDArray[np.float32], width: int) -> list[float]:
    """One figure a case: the number of the first label, the cosine of a pair, or the number that was answered."""
    figures: list[float]
    if kind == "classification":
        figures = rows.argmax(axis=1).tolist()
    elif kind == "pairs":
        figures = cosines(rows[0::width], rows[1::width]).tolist()
    else:
        head = bundle.manifest.postprocessing
        assert isinstance(head, ClassificationOutput)
        # A softmax over one label says 1, whatever the model answers: then the number is the logit.
        figures = (rows if head.activation == "softmax" else heads.scores(rows, head))[:, 0].tolist()
    return figures


def _rank(
    data: Retrieval,
    models: Mapping[str, Model],
    plan: EvalPlan,
    prompts: tuple[str | None, str | None],
    shaped: Sequence[Shape],
    watch: Progress,
) -> _Answered:
    files = tuple(DataFile(str(path), file_sha256(path), count) for path, count in data.counts.items())
    ranked = data.rank(models, prompts, plan.limit, plan.seed, watch, shaped)
    described = Data("retrieval", files, dict(plan.columns), len(ranked.lines), ranked.lines, ranked.cut)
    answers: dict[str, dict[str, Column]] = {
        name: {column: tuple(values) for column, values in columns.items()} for name, columns in ranked.measured.items()
    }
    return _Answered(described, {"relevant": ranked.relevant}, answers)


def _forecast(data: Rolling, rows: int, models: Mapping[str, Model], plan: EvalPlan, watch: Progress) -> _Answered:
    file = DataFile(str(data.path), file_sha256(data.path), rows)
    rolled = data.forecast(models, plan.limit, plan.seed, watch)
    described = Data("forecast", (file,), data.columns(), len(rolled.lines), rolled.lines, 0)
    return _Answered(described, {"truth": rolled.truth}, rolled.answers)


def _tell(
    kind: Kind, data: Written | Transcribed, rows: int, models: Mapping[str, Model], plan: EvalPlan, watch: Progress
) -> _Answered:
    file = DataFile(str(data.path), file_sha256(data.path), rows)
    told = data.tell(models, rows, plan.limit, plan.seed, watch)
    described = Data(kind, (file,), data.columns(), len(told.lines), told.lines, told.cut)
    return _Answered(described, told.truth, told.answers)


def _arrays(columns: Mapping[str, Column]) -> dict[str, NDArray[np.float64]]:
    """The columns of numbers: what a model wrote is no number, and is in the record alone."""
    figures = {name: values for name, values in columns.items() if not any(isinstance(one, str) for one in values)}
    return {name: np.asarray(values, dtype=np.float64) for name, values in figures.items()}


def _prompts(bundle: Bundle, kind: Kind, plan: EvalPlan) -> tuple[str | None, str | None]:
    """The prompts of queries and of everything else, by name. Raises EvalError: no such prompt."""
    text = bundle.manifest.preprocessing.text
    # A cross-encoder sees a query and a document as they are.
    known = {} if text is None or bundle.manifest.task == "text-ranking" else text.prompts
    for option, name in (("--prompt", plan.prompt), ("--query-prompt", plan.query_prompt)):
        if name is None:
            continue
        if kind not in ("pairs", "retrieval") or (option == "--query-prompt" and kind != "retrieval"):
            raise EvalError(f"{option} {name} goes with {'retrieval' if option != '--prompt' else 'embeddings'}.")
        if name not in known:
            raise EvalError(f"{bundle.manifest.name} has no prompt {name!r}; it has {', '.join(known) or 'none'}.")
    if kind != "retrieval":
        return None, plan.prompt
    return plan.query_prompt or choose(known, "query"), plan.prompt or choose(known, "document")


def _unwatched(what: str, done: int, total: int) -> None:
    del what, done, total


def _check(plan: EvalPlan) -> None:
    for name, value, least, most in (
        ("limit", plan.limit, 1, 2**53),
        ("resamples", plan.resamples, 1, 1_000_000),
        ("seed", plan.seed, 0, 2**63 - 1),
    ):
        if value is not None and not least <= value <= most:
            raise EvalError(f"{name} is {value}; a whole number from {least} to {most:,} was expected.")
    if not plan.data.exists():
        raise EvalError(f"{plan.data} does not exist; --data takes a file, or a folder for retrieval.")
