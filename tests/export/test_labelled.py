"""Labelled sets of recipes: the metric of the original and of each variant, and what is told where rows do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

import sanderling
from sanderling.errors import ExportError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.variants import Distances, Drift, Metric
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import drift, export, labelled
from sanderling_export.recipe import Floor
from sanderling_export.search.records import Target

CLASSES = ClassificationOutput("logits", "softmax", ("calm", "windy"))
VECTORS = EmbeddingOutput("hidden", "mean", True, 4)


def written(folder: Path, *lines: str) -> Path:
    path = folder / "labelled.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_accuracy_is_the_share_of_right_first_labels(tmp_path: Path) -> None:
    path = written(tmp_path, "text\tlabel", "a sea\twindy", "a sand\tcalm", "the sea\tcalm", 'a "bird\twindy')
    cases = labelled.read(path, CLASSES, "text")
    assert cases.inputs == ("a sea", "a sand", "the sea", 'a "bird')
    right = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], np.float32)
    wrong = right.copy()
    wrong[0] = [1, 0]
    assert cases.measured(wrong, right) == {"accuracy": Metric(0.75, 1.0, 4)}


def test_spearman_of_pairs_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path, "score\ttext1\ttext2", "5\ta\tb", "1\tc\td", "3\te\tf")
    cases = labelled.read(path, VECTORS, "text")
    assert cases.inputs == ("a", "b", "c", "d", "e", "f")
    ordered = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    assert cases.value(ordered) == pytest.approx(1.0)
    # Three pairs in the order 2, 1, 3 of 3, 1, 2: 1 - 6 * (1 + 0 + 1) / (3 * 8) = 0.5.
    swapped = ordered[[4, 5, 2, 3, 0, 1]]
    assert cases.value(swapped) == pytest.approx(0.5)
    assert cases.measured(np.ones((6, 2), np.float32), ordered) == {}


@given(st.integers(4, 9), st.booleans())
def test_halves_share_no_case_and_lose_none(count: int, pairs: bool) -> None:
    width = 2 if pairs else 1
    inputs = tuple(f"text {number}" for number in range(count * width))
    cases = labelled.Labelled("spearman" if pairs else "accuracy", inputs, np.arange(count, dtype=np.float64))
    rows = np.arange(len(inputs) * 3, dtype=np.float32).reshape(-1, 3)
    halves = cases.halves()
    assert sorted(halves[0].inputs + halves[1].inputs) == sorted(inputs)
    assert sorted([*halves[0].truth, *halves[1].truth]) == list(range(count))
    for half, answers in zip(halves, cases.rows_of_halves(rows), strict=True):
        assert [tuple(rows[inputs.index(one)]) for one in half.inputs] == [tuple(row) for row in answers]
        assert [inputs.index(one) // width for one in half.inputs[::width]] == list(half.truth)


def test_a_recipe_may_bound_what_the_metric_loses() -> None:
    cosines = Distances(200, 0.99, 0.9, 0.95)
    found = Drift(cosines, 0.1, metrics={"accuracy": Metric(0.76, 0.8, 100)})
    assert drift.shortfalls(found, Floor(max_metric_loss=0.06)) == []
    assert drift.shortfalls(found, Floor(max_metric_loss=0.01)) == [
        "accuracy 5.00% below the original's, allowed 1.00%"
    ]


def test_what_no_recipe_bounds_is_not_refused() -> None:
    found = Drift(Distances(200, 0.99, 0.9, 0.95), 0.1, metrics={"spearman": Metric(-0.1, 0.05, 100)})
    assert drift.shortfalls(found, Floor()) == []
    assert drift.shortfalls(found, Target(min_cosine=0.9).floor) == []
    assert drift.shortfalls(found, Floor(max_metric_loss=1.0)) == [
        "spearman 300.00% below the original's, allowed 100.00%"
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("text", "a"), r"no column 'label'.*label, text"),
        (("text\tlabel", "a\tcalm", "b\tfoggy"), r"line 3: the model has no label 'foggy'; it has calm, windy"),
        (("text\tlabel", "a\tcalm"), r"holds 1 labelled rows; at least 2"),
        (("text\tlabel", "a\tcalm", "b"), r"line 3 has 1 columns; the header has 2"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        labelled.read(written(tmp_path, *lines), CLASSES, "text")


def test_scores_that_are_no_numbers_and_files_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path, "score\ttext1\ttext2", "high\ta\tb", "1\tc\td")
    with pytest.raises(ExportError, match=r"line 2: the score 'high' is no number"):
        labelled.read(path, VECTORS, "text")
    with pytest.raises(ExportError, match="cannot be read as labelled data"):
        labelled.read(tmp_path, VECTORS, "text")


def test_the_metric_of_each_variant_is_in_the_bundle(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    source = checkpoint("bert-classifier")
    plain = export(source, tmp_path / "plain", data=lines, variants=["fp32"])
    texts = lines.read_text(encoding="utf-8").splitlines()[:20]
    with sanderling.load(plain) as model:
        names = sanderling.open_bundle(plain).manifest.postprocessing
        assert isinstance(names, ClassificationOutput)
        answers = model.answer(list(texts)).rows.argmax(axis=1)
    truth = np.arange(len(texts)) % 2
    written(tmp_path, "label\ttext", *(f"{names.labels[t]}\t{text}" for t, text in zip(truth, texts, strict=True)))
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'name = "tiny"\ncheckpoint = "{source.as_posix()}"\n[variants.fp32]\n[variants.int8-static]\nmin_cosine = -1\n'
        'mean_cosine = -1\n[data]\nlabelled = "labelled.tsv"\n',
        encoding="utf-8",
    )
    variants = sanderling.open_bundle(export(recipe, tmp_path / "b", data=lines)).manifest.components["model"].variants
    for variant in variants.values():
        assert variant.drift is not None
        metric = variant.drift.metrics["accuracy"]
        assert metric.samples == len(texts)
        assert metric.reference == accuracy_score(truth, answers)
    assert variants["fp32"].drift is not None
    assert variants["fp32"].drift.metrics["accuracy"].value == accuracy_score(truth, answers)
