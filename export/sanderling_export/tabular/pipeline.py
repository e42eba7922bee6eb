"""The one way of a table's export: convert -> compare row by row -> golden samples -> verify -> commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sanderling.errors import ExportError
from sanderling.golden import GoldenSample
from sanderling.manifest import Postprocessing, Preprocessing
from sanderling.schema.answers import ClassificationOutput, RegressionOutput, Target
from sanderling.schema.preprocessing import ColumnSpec, TabularPreprocessing
from sanderling_export.progress import Progress, silent
from sanderling_export.tabular.bundles import Sealing, seal
from sanderling_export.tabular.columns import Column, Row, as_original, complete, read_table
from sanderling_export.tabular.comparison import answers, compare, compare_labels, run
from sanderling_export.tabular.nodes import OUTPUT
from sanderling_export.tabular.walk import Walk

_GOLDEN = 8
_MAX_CHECK_ROWS = 20_000


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
    tell = progress or silent
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
    compare(run(graph, inputs), expected, walk, inputs, pipeline)
    if classifies:
        compare_labels(pipeline, original, expected)
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


def _head(pipeline: Any, targets: Sequence[Target | str] | None, width: int) -> Postprocessing:
    if hasattr(pipeline, "classes_"):
        return ClassificationOutput(OUTPUT, "none", tuple(str(label) for label in pipeline.classes_))
    given = [target if isinstance(target, Target) else Target(target) for target in targets or ()]
    if not given:
        given = [Target("target" if width == 1 else f"target-{place}") for place in range(1, width + 1)]
    if len(given) != width:
        raise ExportError(f"The pipeline predicts {width} numbers; {len(given)} targets are named.")
    return RegressionOutput(OUTPUT, tuple(given))
