"""`eval` and `bench` on a bundle of two towers whose answers numpy gives independently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_towers
from PIL import Image
from tiny_bundles import PICTURE

pytest.importorskip("sklearn.metrics")

from sanderling import open_bundle
from sanderling.errors import BenchError, EvalError
from sanderling_bench.evaluation import EvalPlan, evaluate
from sanderling_bench.evaluation_record import EvalRecord
from sanderling_bench.inputs import inputs_for
from sanderling_bench.measure import Plan, measure

LABELS = ("bird", "sea", "small bird")
COUNT = 24


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.dual_bundle(tmp_path_factory.mktemp("bundles") / "tiny-clip")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(4)
    for index in range(COUNT):
        Image.fromarray(draw.integers(0, 256, PICTURE.shape, dtype=np.uint8)).save(folder / f"p{index}.png")
    return folder


def vectors(pictures: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([tiny_towers.reference_image(np.asarray(Image.open(pictures / f"p{i}.png"))) for i in range(COUNT)])


def value(made: EvalRecord, variant: str, metric: str) -> float:
    found = made.scores[variant][metric].value
    assert found is not None
    return found.value


def test_zero_shot_accuracy_is_that_of_the_labels_in_the_file(bundle: Path, pictures: Path) -> None:
    data = pictures / "labels.tsv"
    truth = [LABELS[index % 3] for index in range(COUNT)]
    lines = [f"p{index}.png\t{label}" for index, label in enumerate(truth)]
    data.write_text("\n".join(["image\tlabel", *lines, ""]), encoding="utf-8")
    texts = np.stack([tiny_towers.reference_text(f"the {label}") for label in LABELS])
    best = (vectors(pictures) @ texts.T).argmax(axis=1)
    made = evaluate(open_bundle(bundle), EvalPlan(data, resamples=20))
    expected = np.mean([LABELS[i] == label for i, label in zip(best, truth, strict=True)])
    assert value(made, "fp32", "accuracy") == pytest.approx(expected)
    assert value(made, "int8-dynamic", "accuracy") >= 0
    data.write_text("image\tlabel\np0.png\tsea\n", encoding="utf-8")
    with pytest.raises(EvalError, match="one label alone"):
        evaluate(open_bundle(bundle), EvalPlan(data))


def test_images_are_found_by_texts(bundle: Path, pictures: Path) -> None:
    texts = ["a small bird", "the sea", "love the edge of it", "word word bird"]
    folder = pictures / "retrieval"
    folder.mkdir(exist_ok=True)
    corpus = [{"_id": f"d{i}", "image": f"../p{i}.png"} for i in range(COUNT)]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(texts)]
    relevant = [3, 7, 11, 19]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)), encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    judged = [f"q{i}\td{place}\t1" for i, place in enumerate(relevant)]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged, ""]), encoding="utf-8")
    similar = np.stack([tiny_towers.reference_text(text) for text in texts]) @ vectors(pictures).T
    ranks = np.array([1 + (row > row[place]).sum() for row, place in zip(similar, relevant, strict=True)])
    made = evaluate(open_bundle(bundle), EvalPlan(folder, resamples=20))
    assert value(made, "fp32", "mrr") == pytest.approx(float((1 / ranks).mean()))
    for depth in (1, 5, 10):
        assert value(made, "fp32", f"recall@{depth}") == pytest.approx(float((ranks <= depth).mean()))
    corpus[0]["image"] = "../nothing.png"
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)), encoding="utf-8")
    with pytest.raises(EvalError, match=r"there is no image '\.\./nothing\.png'"):
        evaluate(open_bundle(bundle), EvalPlan(folder))


@pytest.mark.parametrize("component", ["text_encoder", "vision_encoder"])
def test_one_tower_is_benched(bundle: Path, component: str) -> None:
    opened = open_bundle(bundle)
    inputs = inputs_for(opened, (), component)
    assert inputs.modality == ("text" if component == "text_encoder" else "image")
    plan = Plan(rounds=1, samples=2, warmup=0, cold_starts=1, threads=1, component=component)
    made = measure(opened, inputs, plan)
    assert set(made.samples) == {"fp32", "int8-dynamic"}
    assert made.settings.component == component
    with pytest.raises(BenchError, match="one at a time: --component text_encoder"):
        inputs_for(opened)
