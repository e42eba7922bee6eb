"""Whether a converted pipeline answers as scikit-learn does, row by row, and if not, which step it is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.errors import ExportError
from sanderling.reasons import first_line
from sanderling_export import graphs
from sanderling_export.tabular.walk import Tap, Walk

# Relative; and beside it, of the largest answer of each kind: what is 0 but for rounding has no relative difference.
MAX_RELATIVE, MAX_OF_PEAK = 1e-5, 1e-12


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
    try:
        return [np.asarray(value) for value in graphs.session(graph).run(None, {graph.graph.input[0].name: inputs})]
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime cannot run the converted graph: {first_line(error)}. Nothing was written."
        ) from error


def relative(found: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of answers (n, d) by the expected ones: 0 where both are but rounding, infinite for no number."""
    if found.shape != expected.shape:
        return np.full(expected.shape, np.inf)
    size = np.abs(expected)
    apart = np.abs(found - expected)
    floor = MAX_OF_PEAK * size.max(axis=0, initial=0.0)
    ratio = np.divide(apart, size, out=np.full(apart.shape, np.inf), where=size > 0)
    return np.where(apart <= floor, 0.0, np.where(np.isfinite(apart), ratio, np.inf))


def compare(
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


def compare_labels(pipeline: Any, table: Any, scores: NDArray[np.float64]) -> None:
    """Raise ExportError where the classifier's label is not the one of the highest score, (rows, labels)."""
    predicted = pipeline.predict(table)
    labels = np.asarray(pipeline.classes_)[scores.argmax(axis=1)]
    other = int((predicted != labels).sum())
    if other:
        raise ExportError(
            f"{type(pipeline).__name__} gives {other} of {len(labels)} rows another label than the one of the highest "
            "score, which is what a bundle answers. Nothing was written."
        )
