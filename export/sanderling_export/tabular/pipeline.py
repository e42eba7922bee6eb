"""The one way of a table's export: convert -> compare row by row -> golden samples -> verify -> commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

import sanderling
from sanderling import sealing, verification
from sanderling.codec import encode
from sanderling.errors import ExportError, StorageError
from sanderling.golden import GoldenSample
from sanderling.loading import load
from sanderling.manifest import (
    FORMAT,
    MAJOR_VERSION,
    MANIFEST_NAME,
    MINOR_VERSION,
    ClassificationOutput,
    ColumnSpec,
    Component,
    Form,
    GoldenFiles,
    Invariance,
    Manifest,
    Postprocessing,
    Preprocessing,
    Provenance,
    RegressionOutput,
    TabularPreprocessing,
    Target,
    Task,
    TensorSpec,
    Tolerance,
    Variant,
)
from sanderling.storage import staging_folder
from sanderling_export import drift
from sanderling_export.tabular.columns import Column, Row, as_original, complete, read_table
from sanderling_export.tabular.nodes import INPUT, OUTPUT
from sanderling_export.tabular.walk import Tap, Walk

VARIANT = "fp64"
FORM = "padded"
# Relative; and beside it, of the largest answer of each kind: what is 0 but for rounding has no relative difference.
MAX_RELATIVE, MAX_OF_PEAK = 1e-5, 1e-12
_GOLDEN = 8
_MAX_CHECK_ROWS = 20_000

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sealing:
    """What goes into a bundle beside its graph."""

    task: Task
    preprocessing: Preprocessing
    head: Postprocessing
    widths: tuple[int, int]
    samples: Sequence[GoldenSample]
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    items: Sequence[Any]
    expected: NDArray[np.float64]
    origin: str
    digest: str | None = None
    license: str = "unknown"
    license_file: Path | None = None
    notes: tuple[str, ...] = ()


def export_tabular(
    pipeline: Any,
    output: str | os.PathLike[str],
    rows: Any,
    *,
    columns: Sequence[Column | str] | None = None,
    targets: Sequence[Target | str] | None = None,
    missing_values: Sequence[str] = ("",),
    license: str = "unknown",  # noqa: A002 - the word that recipes use
    license_file: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    digest: str | None = None,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Export a fitted scikit-learn pipeline (or estimator) to the bundle folder `output`.

    `rows` are samples to compare on: a data frame, an array, a list of dicts or lists, or the path of a CSV file; the
    first of them, and some with missing and unseen values, become golden samples. `columns` are names, or Column with
    dtype, unit and rule for missing values (default: those the pipeline was fitted on, else those of the rows);
    `targets` name what a regressor predicts, and Target its unit.
    Every answer must be scikit-learn's within 1e-5 of itself, on all of the rows (at most 20,000).

    Raises ExportError: a step that cannot be converted exactly (with its name), no rows, no columns; StorageError.
    """
    tell = progress or _silent
    tell("read the rows")
    described, table = _described(pipeline, rows, columns, missing_values)
    named = hasattr(pipeline, "feature_names_in_")
    classifies = hasattr(pipeline, "classes_")
    tell("convert step by step")
    walk = Walk(described, named)
    original = as_original(described, table, named)
    answer = walk.predictor(pipeline, original)
    specs = tuple(_spec(pipeline, walk, place, table[0], named) for place in range(len(described)))
    encoder = TabularPreprocessing(specs, tuple(missing_values))
    checked = [*table, *_hard_rows(specs, table)]
    tell(f"answer {len(checked):,} rows with scikit-learn")
    original = as_original(described, checked, named)
    expected = answers(pipeline, original)
    widths = (len(specs), expected.shape[1])
    graph = walk.nodes.model(answer, widths)
    from sanderling.preprocess.tabular import TableEncoder

    vectors = TableEncoder(encoder)
    inputs = np.array([vectors.encode(row, number)[0] for number, row in enumerate(checked, 1)], np.float64)
    _compare(run(graph, inputs), expected, walk, inputs, pipeline)
    if classifies:
        _compare_labels(pipeline, original, expected)
    chosen = [*range(min(_GOLDEN, len(table))), *range(len(table), len(checked))]
    samples = tuple(
        GoldenSample(f"row-{number}", row=dict(zip(walk_names(described), checked[place], strict=True)))
        for number, place in enumerate(chosen, 1)
    )
    return seal(
        Path(output).absolute(),
        graph,
        Sealing(
            task="tabular-classification" if classifies else "tabular-regression",
            preprocessing=Preprocessing(tabular=encoder),
            head=_head(pipeline, targets, expected.shape[1]),
            widths=widths,
            samples=samples,
            inputs=inputs[chosen],
            outputs=expected[chosen],
            items=checked,
            expected=expected,
            origin=origin or f"scikit-learn {type(pipeline).__name__}",
            digest=digest,
            license=license,
            license_file=Path(license_file) if license_file is not None else None,
            notes=tuple(notes),
        ),
        tell,
    )


def walk_names(columns: Sequence[Column]) -> list[str]:
    """The columns' names."""
    return [column.name for column in columns]


def answers(pipeline: Any, table: Any) -> NDArray[np.float64]:
    """What the original answers: predictions (n, targets), or probabilities or decisions (n, labels), float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not hasattr(pipeline, "classes_"):
            found = np.asarray(pipeline.predict(table), np.float64)
            return found[:, None] if found.ndim == 1 else found
        if hasattr(pipeline, "predict_proba"):
            return np.asarray(pipeline.predict_proba(table), np.float64)
        found = np.asarray(pipeline.decision_function(table), np.float64)
        return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def run(graph: onnx.ModelProto, inputs: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """All outputs of a graph in memory. Raises ExportError where ONNX Runtime cannot run it."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(value) for value in session.run(None, {graph.graph.input[0].name: inputs})]
    except Exception as error:
        line = str(error).strip().splitlines()[0][:300]
        raise ExportError(f"ONNX Runtime cannot run the converted graph: {line}. Nothing was written.") from error


def relative(found: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of answers (n, d) by the expected ones: 0 where both are but rounding, infinite for no number."""
    if found.shape != expected.shape:
        return np.full(expected.shape, np.inf)
    size = np.abs(expected)
    apart = np.abs(found - expected)
    floor = MAX_OF_PEAK * size.max(axis=0, initial=0.0)
    ratio = np.divide(apart, size, out=np.full(apart.shape, np.inf), where=size > 0)
    return np.where(apart <= floor, 0.0, np.where(np.isfinite(apart), ratio, np.inf))


def seal(target: Path, graph: onnx.ModelProto, sealed: Sealing, tell: Progress) -> Path:
    """Write a bundle with the graph as its only variant, measured through the runtime and verified."""
    sealing.check_target(target)
    try:
        with staging_folder(target) as staging:
            build = sealing.build_folder(staging)
            manifest = _written(staging, build, graph, sealed, target.name)
            (staging / MANIFEST_NAME).write_bytes(encode(manifest))
            tell("measure and verify")
            manifest = _measured(staging, manifest, sealed)
            (staging / MANIFEST_NAME).write_bytes(encode(manifest))
            report = verification.verify(staging, provider="cpu")
            if not report.held:
                raise ExportError(f"The bundle does not verify: {report.combinations[0].reason}. Nothing was written.")
            tell("commit")
            (staging / MANIFEST_NAME).unlink()
            sealing.commit_bundle(staging, manifest, target)
    except OSError as error:
        raise StorageError(f"The export to {target} failed: {error.strerror or error}.") from error
    return target


def _written(staging: Path, build: Path, graph: onnx.ModelProto, sealed: Sealing, name: str) -> Manifest:
    folder = build / VARIANT
    folder.mkdir()
    raw = graph.SerializeToString()
    (folder / "model.onnx").write_bytes(raw)
    (build / "golden").mkdir()
    prefix = build.relative_to(staging).as_posix()
    (build / "golden" / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(sealed.samples), indent=1))
    from safetensors.numpy import save

    tensors = {
        f"{s.id}.output": np.ascontiguousarray(row) for s, row in zip(sealed.samples, sealed.outputs, strict=True)
    }
    tensors |= {
        f"{s.id}.input.{INPUT}": np.ascontiguousarray(row) for s, row in zip(sealed.samples, sealed.inputs, strict=True)
    }
    (build / "golden" / "tensors.safetensors").write_bytes(save(tensors))
    license_file = None
    if sealed.license_file is not None:
        shutil.copyfile(sealed.license_file, build / "LICENSE.txt")
        license_file = f"{prefix}/LICENSE.txt"
    peak = float(np.abs(sealed.outputs).max(initial=0.0))
    variant = Variant(
        {FORM: Form(f"{prefix}/{VARIANT}/model.onnx")}, Tolerance(0.999999, max(MAX_RELATIVE * peak, 1e-9))
    )
    component = Component(
        (TensorSpec(INPUT, "float64", ("batch", sealed.widths[0])),),
        (TensorSpec(OUTPUT, "float64", ("batch", sealed.widths[1])),),
        {VARIANT: variant},
    )
    packages = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")
    versions = {"sanderling": sanderling.__version__} | {p: importlib.metadata.version(p) for p in packages}
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:120] or "model",
        family="general",
        task=sealed.task,
        default_variant=VARIANT,
        components={"model": component},
        preprocessing=sealed.preprocessing,
        postprocessing=sealed.head,
        golden=GoldenFiles(f"{prefix}/golden/samples.json", f"{prefix}/golden/tensors.safetensors"),
        provenance=Provenance(
            sealed.origin,
            sealed.digest or hashlib.sha256(raw).hexdigest(),
            sealed.license,
            license_file,
            versions,
            sealed.notes,
        ),
        files=sealing.list_files(staging),
    )


def _measured(staging: Path, manifest: Manifest, sealed: Sealing) -> Manifest:
    """The manifest with drift and invariance, as the runtime answers the samples."""
    with load(staging, integrity="full") as model:
        found = model.answer(list(sealed.items)).rows
        some = list(sealed.items[:64])
        alone = np.concatenate([model.answer([item]).rows for item in some])
    labels = isinstance(sealed.head, ClassificationOutput)
    kind = "series" if manifest.preprocessing.series is not None else "row"
    names = [f"{kind} {number}" for number in range(1, len(found) + 1)]
    measured = drift.measure(found, sealed.expected, labels=labels, names=names)
    largest = float(relative(found, sealed.expected).max(initial=0.0))
    if largest > MAX_RELATIVE:
        raise ExportError(
            f"The runtime's answers differ from scikit-learn's by up to {largest:.2g} of themselves; at most "
            f"{MAX_RELATIVE:g} was expected. Nothing was written; please report this pipeline."
        )
    component = manifest.components["model"]
    variant = msgspec.structs.replace(
        component.variants[VARIANT],
        drift=msgspec.structs.replace(measured, max_relative=largest),
        invariance=Invariance(float(verification.cosines(found[: len(some)], alone).min(initial=1.0))),
    )
    component = msgspec.structs.replace(component, variants={VARIANT: variant})
    return msgspec.structs.replace(manifest, components={"model": component})


def _described(
    pipeline: Any, rows: Any, columns: Sequence[Column | str] | None, missing_values: Sequence[str]
) -> tuple[list[Column], list[Row]]:
    if not hasattr(pipeline, "predict"):
        raise ExportError(f"{type(pipeline).__name__} has no predict; a fitted classifier or regressor was expected.")
    if not hasattr(pipeline, "n_features_in_"):
        raise ExportError(f"This {type(pipeline).__name__} was not fitted yet; fit it first.")
    given = [column if isinstance(column, Column) else Column(column) for column in columns or ()]
    fitted = [str(name) for name in getattr(pipeline, "feature_names_in_", ())]
    if given and fitted and [column.name for column in given] != fitted:
        by_name = {column.name: column for column in given}
        if sorted(by_name) != sorted(fitted):
            raise ExportError(
                f"The pipeline was fitted on the columns {', '.join(fitted)[:300]}; "
                f"described are {', '.join(by_name)[:300]}."
            )
        given = [by_name[name] for name in fitted]
    names, table = read_table(rows, [column.name for column in given] or fitted or None, missing_values)
    if not table:
        raise ExportError("There are no sample rows; give some, best a thousand that the pipeline was not fitted on.")
    if len(names) != pipeline.n_features_in_:
        raise ExportError(f"The pipeline takes {pipeline.n_features_in_} columns; the rows have {len(names)}.")
    return complete(given or [Column(name) for name in names], table), table[:_MAX_CHECK_ROWS]


def _spec(pipeline: Any, walk: Walk, place: int, row: Row, named: bool) -> ColumnSpec:
    """What the manifest says of a column: its kind as the steps take it, its rules as they answer."""
    column, categories = walk.columns[place], walk.kinds.get(place)
    rule = column.missing
    if rule is None:
        rule = "error"
        if categories is None or categories.missing == "pass":
            gap: Row = [*row[:place], None, *row[place + 1 :]]
            try:
                accepted = np.isfinite(answers(pipeline, as_original(walk.columns, [gap], named))).all()
                rule = "pass" if accepted else "error"
            except (ValueError, TypeError):
                rule = "error"
    text = column.dtype == "string"
    dtype = column.dtype or "float64"
    if categories is None:
        # Text that no step reads, as in a column that is dropped, is a category of which none is known.
        kind: Any = "category" if text else "number"
        if place not in walk.kinds:
            return ColumnSpec(column.name, kind, dtype, column.unit, "pass" if text else rule, column.fill)
        return ColumnSpec(column.name, kind, dtype, column.unit, rule, column.fill)
    return ColumnSpec(
        column.name, "category", dtype, column.unit, rule, column.fill, categories.unseen, categories.values
    )


def _hard_rows(specs: Sequence[ColumnSpec], table: Sequence[Row]) -> list[Row]:
    """Rows with each column missing, and with a category never seen, where the pipeline takes that."""
    found = []
    for place, spec in enumerate(specs):
        row = list(table[place % len(table)])
        if spec.missing in ("pass", "fill"):
            found.append([*row[:place], None, *row[place + 1 :]])
        if spec.kind == "category" and spec.unseen == "pass" and spec.categories:
            text = isinstance(spec.categories[0], str)
            other = "never seen" if text else max(map(float, spec.categories)) + 7
            other = int(other) if spec.dtype == "int64" else other
            if spec.dtype != "bool":
                found.append([*row[:place], other, *row[place + 1 :]])
    return found


def _compare(
    found: list[NDArray[np.float64]], expected: NDArray[np.float64], walk: Walk, inputs: NDArray[np.float64], model: Any
) -> None:
    """Raise ExportError with the name of the first step whose numbers are not the original's."""
    if not np.isfinite(expected).all():
        raise ExportError("scikit-learn itself answers some of the sample rows with values that are not finite.")
    apart = relative(found[0], expected)
    if apart.max(initial=0.0) <= MAX_RELATIVE:
        return
    count = len(walk.taps[0].expected) if walk.taps else 0
    for tap in walk.taps:
        if (worst := _tapped(walk, tap, inputs[:count])) > MAX_RELATIVE:
            raise _inexact(tap.path, worst)
    last = model.steps[-1] if hasattr(model, "steps") else (None, model)
    name = type(last[1]).__name__
    raise _inexact(f"{last[0]} ({name})" if last[0] else name, float(apart.max()))


def _tapped(walk: Walk, tap: Tap, inputs: NDArray[np.float64]) -> float:
    shape = (inputs.shape[1], tap.expected.shape[1])
    found = run(walk.nodes.model(tap.tensor, shape), inputs)[0]
    both = np.isnan(found) & np.isnan(tap.expected) if found.shape == tap.expected.shape else np.bool_(False)
    apart = relative(np.where(both, 0.0, found), np.where(both, 0.0, tap.expected))
    return float(apart.max(initial=0.0))


def _inexact(step: str, worst: float) -> ExportError:
    return ExportError(
        f"The step {step} cannot be converted exactly: its numbers differ from scikit-learn's by up to {worst:.2g} of "
        f"themselves; at most {MAX_RELATIVE:g} was expected. Nothing was written."
    )


def _compare_labels(pipeline: Any, table: Any, scores: NDArray[np.float64]) -> None:
    predicted = pipeline.predict(table)
    labels = np.asarray(pipeline.classes_)[scores.argmax(axis=1)]
    other = int((predicted != labels).sum())
    if other:
        raise ExportError(
            f"{type(pipeline).__name__} gives {other} of {len(labels)} rows another label than the one of the highest "
            "score, which is what a bundle answers. Nothing was written."
        )


def _head(pipeline: Any, targets: Sequence[Target | str] | None, width: int) -> Postprocessing:
    if hasattr(pipeline, "classes_"):
        return ClassificationOutput(OUTPUT, "none", tuple(str(label) for label in pipeline.classes_))
    given = [target if isinstance(target, Target) else Target(target) for target in targets or ()]
    if not given:
        given = [Target("target" if width == 1 else f"target-{place}") for place in range(1, width + 1)]
    if len(given) != width:
        raise ExportError(f"The pipeline predicts {width} numbers; {len(given)} targets are named.")
    return RegressionOutput(OUTPUT, tuple(given))


def _silent(stage: str) -> None:
    """Progress that nobody asked for."""
    del stage
