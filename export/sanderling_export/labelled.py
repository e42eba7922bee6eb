"""A labelled set that a recipe names: the task's metric of the original and of each variant, for the manifest.

Tab-separated, with a header: `label` and `text`, `image` or `audio` (a path beside the file) for a classifier, `score`,
`text1` and `text2` for embeddings. `sanderling eval` measures more, with intervals; this is the figure that travels
along.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ExportError
from sanderling.manifest import Postprocessing
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.variants import Metric
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import photographs
from sanderling_export.speech import sounds

ACCURACY, SPEARMAN = "accuracy", "spearman"
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Labelled:
    """Inputs in the order of the file, what is true of them, and the name of the metric.

    Accuracy has one input and one label's index a case; Spearman's correlation two inputs and one score a case.
    """

    metric: str
    inputs: tuple[Any, ...]
    truth: NDArray[np.float64]

    def value(self, rows: NDArray[np.float32]) -> float:
        """The metric of answers (inputs, d); by scikit-learn and SciPy. NaN where it is not defined."""
        from scipy.stats import spearmanr
        from sklearn.metrics import accuracy_score

        if self.metric == ACCURACY:
            return float(accuracy_score(self.truth, rows.argmax(axis=1)))
        first, second = rows[::2].astype(np.float64), rows[1::2].astype(np.float64)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosine = (first * second).sum(axis=1) / np.where(norms > 0, norms, 1)
        if not (np.ptp(cosine) > 0 and np.ptp(self.truth) > 0):
            return float("nan")
        return float(spearmanr(self.truth, cosine).statistic)

    def halves(self) -> tuple[Labelled, Labelled]:
        """Every other case, and the rest: two sets that share none. `rows_of_halves` parts answers alike."""
        width = self._inputs_a_case
        cases = [self.inputs[i : i + width] for i in range(0, len(self.inputs), width)]
        first, second = (
            Labelled(self.metric, tuple(x for case in cases[start::2] for x in case), self.truth[start::2])
            for start in (0, 1)
        )
        return first, second

    def rows_of_halves(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers to all inputs (inputs, d), parted as `halves` parts the cases."""
        cases = rows.reshape(len(self.truth), self._inputs_a_case, -1)
        return cases[::2].reshape(-1, rows.shape[1]), cases[1::2].reshape(-1, rows.shape[1])

    @property
    def _inputs_a_case(self) -> int:
        return 2 if self.metric == SPEARMAN else 1

    def measured(self, rows: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, Metric]:
        """The metric of a variant's answers beside the original's, by its name; empty where it is not defined."""
        value, reference = self.value(rows), self.value(expected)
        if not np.isfinite([value, reference]).all():
            return {}
        return {self.metric: Metric(value, reference, len(self.truth))}


def loss(metric: Metric) -> float:
    """By which share of the original's figure the variant's is worse; below 0 where it is better."""
    return (metric.reference - metric.value) / max(abs(metric.reference), 1e-12)


def shortfall(name: str, metric: Metric, allowed: float | None, headroom: float = 1.0) -> list[str]:
    """In words, that `name` lies more below the original's than the share `headroom` of what is `allowed`: a list of
    one sentence, empty where that is not so or nothing was demanded (None)."""
    if allowed is None or loss(metric) <= allowed * headroom:
        return []
    return [f"{name} {loss(metric):.2%} below the original's, allowed {allowed:.2%}"]


def read(path: Path, head: Postprocessing, modality: str, rate: int | None = None) -> Labelled:
    """The labelled set in `path` for a model of that head, sounds at `rate`.

    Raises ExportError, with the line, for what does not fit.
    """
    if isinstance(head, ClassificationOutput):
        rows = _rows(path, ("label", modality))
        places = {label: index for index, label in enumerate(head.labels)}
        for line, (label, _) in enumerate(rows, 2):
            if label not in places:
                raise ExportError(
                    f"{path}, line {line}: the model has no label {label!r}; it has {', '.join(head.labels[:5])}"
                    f"{' and others' if len(head.labels) > 5 else ''}."
                )
        inputs: Sequence[Any] = [value for _, value in rows]
        if modality == "image":
            inputs = photographs.load([str(value) for value in inputs], path.parent)
        elif modality == "audio":
            assert rate is not None  # models that hear have one
            inputs = sounds.load([path.parent / str(value) for value in inputs], rate)
        return Labelled(ACCURACY, tuple(inputs), np.array([places[label] for label, _ in rows], np.float64))
    if not isinstance(head, EmbeddingOutput) or modality != "text":
        raise ExportError(
            f"{path}: data.labelled goes with classifiers and text embeddings; take it out of the recipe."
        )
    pairs = _rows(path, ("score", "text1", "text2"))
    scores = []
    for line, (score, *_) in enumerate(pairs, 2):
        try:
            scores.append(float(score))
        except ValueError:
            raise ExportError(f"{path}, line {line}: the score {score!r} is no number.") from None
    return Labelled(SPEARMAN, tuple(text for _, *texts in pairs for text in texts), np.array(scores))


def _rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExportError(
            f"{path} cannot be read as labelled data: {error}. Expected UTF-8, columns by tabs."
        ) from error
    header, *rows = found or [[]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise ExportError(
            f"{path} has no column {missing[0]!r}; this model's labelled data has {', '.join(columns)}, with a header."
        )
    places = [header.index(name) for name in columns]
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ExportError(f"{path}, line {line} has {len(row)} columns; the header has {len(header)}.")
    if len(rows) < _LEAST:
        raise ExportError(f"{path} holds {len(rows)} labelled rows; at least {_LEAST} are needed, 200 are better.")
    return [[row[place] for place in places] for row in rows]
