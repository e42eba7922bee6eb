"""Each kind of text head answers as transformers' pipelines do: several labels, regression, pairs, free labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import sanderling
from sanderling.errors import CheckpointError, ExportError, TextError
from sanderling.pairs import TextPair
from sanderling.schema.preprocessing import LongText
from sanderling.verification import verify
from sanderling_export import description, drift, original
from sanderling_export.checkpoint import resolve
from sanderling_export.description import Options
from sanderling_export.pipeline import export

TEXTS = ["low tide", "", "the small bird runs along the edge of the sea and " * 30, "ünïcode 三趾鹬 🐦"]
PAIRS = [
    ("the bird runs", "a small bird is on the beach"),
    ("the small bird runs along the edge of the sea and " * 30, "low tide"),
    ("low tide", "the small bird runs along the edge of the sea and " * 30),
    ("the tide " * 70, "a wave " * 80),
    ("", "sand"),
]

Bundles = Callable[[str], Path]


@pytest.fixture(scope="module")
def bundles(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Gives the fp32 bundle of a tiny checkpoint, made once."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("heads")

    def make(name: str) -> Path:
        if name not in made:
            data = folder / f"{name}.txt"
            tab = "\t" if name.endswith("inference") else " and "
            data.write_text("".join(f"low tide {n}{tab}the small bird runs\n" for n in range(8)), "utf-8")
            made[name] = export(checkpoint(name), folder / name, variants=["fp32"], data=data)
        return made[name]

    return make


def pipeline(task: str, folder: Path) -> Any:
    return transformers.pipeline(task, model=str(folder), device="cpu")


def loaded(bundle: Path) -> sanderling.Classifier:
    model = sanderling.load(bundle)
    assert isinstance(model, sanderling.Classifier)
    return model


def test_several_labels(bundles: Bundles, checkpoint: Callable[[str], Path]) -> None:
    theirs = pipeline("text-classification", checkpoint("bert-several"))(TEXTS, top_k=None, truncation=True)
    with loaded(bundles("bert-several")) as model:
        answers = model(TEXTS, top_k=3)
        head = model.bundle.manifest.postprocessing
    assert head.thresholds == (0.5, 0.5, 0.5)  # type: ignore[union-attr]
    for answer, expected in zip(answers, theirs, strict=True):
        wanted = {found["label"]: found["score"] for found in expected}
        assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(wanted, abs=1e-4)
        assert set(answer.selected) == {label for label, score in wanted.items() if score >= 0.5}


def test_a_regression(bundles: Bundles, checkpoint: Callable[[str], Path]) -> None:
    theirs = pipeline("text-classification", checkpoint("bert-regression"))(TEXTS, truncation=True)
    with loaded(bundles("bert-regression")) as model:
        answers = model(TEXTS)
    assert [answer.score for answer in answers] == pytest.approx([found["score"] for found in theirs], abs=1e-4)
    assert {answer.label for answer in answers} == {"height"}
    assert all(answer.selected == () for answer in answers)


@pytest.mark.parametrize("name", ["bert-inference", "roberta-inference"])
def test_pairs_of_texts(name: str, bundles: Bundles, checkpoint: Callable[[str], Path]) -> None:
    source = original.load(resolve(str(checkpoint(name))), Options())
    pairs = [TextPair(*pair) for pair in PAIRS]
    theirs = pipeline("text-classification", checkpoint(name))
    with loaded(bundles(name)) as model:
        answers = model(pairs)
        named = model([{"text": first, "text_pair": second} for first, second in PAIRS[:4]])
        text = model.bundle.manifest.preprocessing.text
        golden = sanderling.open_bundle(bundles(name)).manifest.golden
    assert text is not None
    assert (text.pairs, text.long_text) == (True, LongText(text.max_tokens // 4))
    np.testing.assert_allclose(answers.logits, source.answers(pairs), atol=1e-4)
    for answer, (first, second) in zip(named, PAIRS[:4], strict=True):
        (found,) = theirs([{"text": first, "text_pair": second}], truncation=True)
        assert (answer.label, answer.score) == (found["label"], pytest.approx(found["score"], abs=1e-4))
    assert b"text_pair" in (bundles(name) / golden.samples).read_bytes()
    assert verify(bundles(name), provider="cpu").held


@pytest.mark.parametrize("name", ["bert-inference", "roberta-inference"])
@pytest.mark.parametrize("several", [False, True])
def test_free_labels_by_inference(
    name: str, several: bool, bundles: Bundles, checkpoint: Callable[[str], Path]
) -> None:
    theirs = pipeline("zero-shot-classification", checkpoint(name))
    labels = ["the sea", "sand", "a small bird"]
    with loaded(bundles(name)) as model:
        free = sanderling.ZeroShotClassifier(model)
        answers = free([text for text in TEXTS if text], labels, multi_label=several)
        only = free("low tide", ["sand"])
        own = sanderling.ZeroShotClassifier(model, template="it is {}")("low tide", labels)
    for text, answer in zip([text for text in TEXTS if text], answers, strict=True):
        expected = theirs(text, labels, multi_label=several)
        wanted = dict(zip(expected["labels"], expected["scores"], strict=True))
        assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(wanted, abs=1e-4)
        assert list(answer.scores) == sorted(answer.scores, reverse=True)
        held = {label for label, score in wanted.items() if score >= 0.5} if several else {answer.label}
        assert set(answer.selected) == held
    assert answers[1].report.tokens_lost > 0
    assert only.score == pytest.approx(theirs("low tide", ["sand"])["scores"][0], abs=1e-4)
    other = theirs("low tide", labels, hypothesis_template="it is {}")
    assert own.scores == pytest.approx(other["scores"], abs=1e-4)


def test_a_hypothesis_that_leaves_no_room_is_refused(bundles: Bundles) -> None:
    with loaded(bundles("bert-inference")) as model, pytest.raises(TextError, match="failed on a text"):
        sanderling.ZeroShotClassifier(model)("low tide", ["sand " * 200])


def test_windows_of_a_long_text(bundles: Bundles, checkpoint: Callable[[str], Path]) -> None:
    source = original.load(resolve(str(checkpoint("bert-classifier"))), Options())
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("bert-classifier"))
    text = TEXTS[2]
    parts = tokenizer(text, truncation=True, max_length=130, stride=32, return_overflowing_tokens=True)["input_ids"]
    import torch

    with torch.inference_mode():
        logits = np.stack([source.model(input_ids=torch.tensor([ids])).logits[0].numpy() for ids in parts])
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    with loaded(bundles("bert-classifier")) as model:
        answer = model(text, long_text="window", top_k=3)
        expected = dict(zip(model.labels, scores.mean(axis=0).tolist(), strict=True))
    assert answer.report.windows == len(parts) > 2
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-4)


def test_what_contradicts_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    mood = checkpoint("bert-classifier")
    labels = ("calm", "rough", "stormy")
    config = transformers.AutoConfig.from_pretrained(mood)
    with pytest.raises(ExportError, match="thresholds names 'dry'"):
        description.thresholds_of(config, labels, "sigmoid", {"dry": 0.2})
    with pytest.raises(ExportError, match="several labels may hold"):
        description.thresholds_of(config, labels, "softmax", {"calm": 0.2})
    assert description.thresholds_of(config, labels, "sigmoid", {"calm": 0.2}) == (0.2, 0.5, 0.5)
    with pytest.raises(ExportError, match="windows of 130 tokens cannot share so many"):
        description.windows_of(130, LongText(130))
    config = transformers.BertConfig.from_pretrained(mood, type_vocab_size=1)
    folder = tmp_path / "one-number"
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(mood).save_pretrained(folder)
    known = original.load(resolve(str(folder)), Options()).description
    assert (known.takes_pairs, known.text.pairs) == (False, False)  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="it takes no pairs"):
        original.load(resolve(str(folder)), Options(pairs=True))


def test_what_decides_is_compared_where_cosines_say_little() -> None:
    wanted = np.array([[-2.0, 2.0], [0.01, -0.01], [1.0, -1.0], [-3.0, 3.0]], np.float32)
    found = wanted + np.array([[0.0, 0.1], [-0.03, 0.03], [0.1, 0.0], [0.0, 0.0]], np.float32)
    measured = drift.measure(found, wanted, labels=True)
    assert measured.cosine.min == pytest.approx(-1)
    assert (measured.agreement, drift.correlation(found, wanted)) == (0.75, pytest.approx(0.9995, abs=5e-4))
    assert drift.correlation(found[:, :1], wanted[:, :1]) == pytest.approx(0.9995, abs=1e-3)
    assert drift.correlation(wanted[:, ::-1], wanted) == pytest.approx(-1)
    assert drift.correlation(np.ones((3, 3), np.float32), np.ones((3, 3), np.float32)) is None
    assert drift.correlation(np.ones((3, 1), np.float32), np.ones((3, 1), np.float32)) == 1
    assert drift.correlation(np.ones((3, 1), np.float32), np.zeros((3, 1), np.float32)) == 0
