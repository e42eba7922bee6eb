"""Labels of the caller's own: similarity by hand, labels embedded once, and what is no label told."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st

import sanderling
from sanderling.errors import InputError, TextError
from sanderling.pairs import TextPair
from sanderling.schema.answers import ClassificationOutput
from sanderling.tasks import zero_shot

LABELS = ["the sea", "bird", "word"]


@pytest.fixture(scope="module")
def model(embedding_bundle: Path) -> Any:
    with sanderling.load(embedding_bundle, variant="fp32") as loaded:
        yield loaded


def softmax(values: Any) -> Any:
    return np.exp(values) / np.exp(values).sum()


def test_scores_are_the_similarities(model: Any) -> None:
    free = sanderling.ZeroShotClassifier(model)
    text = "a small bird"
    cosines = {
        label: float(tiny_bundles.reference_embedding(text) @ tiny_bundles.reference_embedding(label))
        for label in LABELS
    }
    expected = dict(zip(LABELS, softmax(20 * np.array(list(cosines.values()))), strict=True))
    answer = free(text, LABELS)
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-4)
    assert answer.selected == (max(cosines, key=lambda label: cosines[label]),) == answer.labels[:1]
    np.testing.assert_allclose(answer.logits, list(cosines.values()), atol=1e-5)
    alone = free(text, LABELS, multi_label=True, top_k=2)
    best = sorted(cosines.items(), key=lambda item: -item[1])[:2]
    assert alone.labels == tuple(label for label, _ in best)
    assert alone.scores == pytest.approx([score for _, score in best], abs=1e-5)
    batch = free([text, "word"], LABELS)
    assert [item.label for item in batch] == [answer.label, "word"]
    assert batch.logits.shape == (2, 3)


@given(st.permutations(LABELS))
def test_the_order_of_the_labels_changes_nothing(model: Any, order: list[str]) -> None:
    free = sanderling.ZeroShotClassifier(model)
    first, other = free("a small bird", LABELS), free("a small bird", order)
    assert other.labels == first.labels
    assert other.scores == pytest.approx(first.scores, abs=1e-6)


def embed_labels(bundle: Path) -> int:
    """Watches what a model of its own is asked; how many models have labels then."""
    with sanderling.load(bundle, variant="fp32") as model, pytest.MonkeyPatch.context() as patch:
        asked: list[list[str]] = []
        original = model.answer

        def watched(items: list[str], *rest: Any) -> Any:
            asked.append(list(items))
            return original(items, *rest)

        patch.setattr(model, "answer", watched)
        free = sanderling.ZeroShotClassifier(model, template="about {}")
        free("bird", LABELS)
        free("word", [*LABELS, "edge"])
        sanderling.ZeroShotClassifier(model, template="about {}")("sea", LABELS)
        about = [f"about {label}" for label in LABELS]
        assert asked == [about, ["bird"], ["about edge"], ["word"], ["sea"]]
        patch.setattr(zero_shot, "_KEPT_LABELS", 2)
        free("sea", ["x", "y", "z"])
        assert list(zero_shot._vectors[model]) == ["about y", "about z"]  # type: ignore[index]
        return len(zero_shot._vectors)


def test_a_label_is_embedded_once_for_each_model(embedding_bundle: Path) -> None:
    kept = embed_labels(embedding_bundle)
    gc.collect()
    assert len(zero_shot._vectors) == kept - 1


def test_what_is_no_label_is_refused(model: Any) -> None:
    free = sanderling.ZeroShotClassifier(model)
    for labels, words in (
        ("bird", "a list of texts was expected"),
        ([], "There are 0 labels"),
        (["a", ""], "'' is no label"),
        (["a", 7], "7 is no label"),
        (["a", "a"], "'a' is given more than once"),
        ([str(n) for n in range(10_001)], "There are 10,001 labels"),
    ):
        with pytest.raises(InputError, match=words):
            free("bird", labels)
    for top_k in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="top_k"):
            free("bird", LABELS, top_k=top_k)  # type: ignore[call-overload]
    with pytest.raises(TextError, match="Input 0 is a pair"):
        free(TextPair("a", "b"), LABELS)  # type: ignore[call-overload]
    for template in ("", "no place", "{} and {}", 7):
        with pytest.raises(InputError, match="for the label, was expected"):
            sanderling.ZeroShotClassifier(model, template=template)  # type: ignore[arg-type]
    assert len(free([], LABELS)) == 0


def test_other_models_are_refused(text_bundle: Path, image_bundle: Path) -> None:
    for bundle, words in ((text_bundle, 'begin with "entail"'), (image_bundle, "takes images")):
        with sanderling.load(bundle) as model, pytest.raises(InputError, match=words):
            sanderling.ZeroShotClassifier(model)


def test_a_model_of_inference_decides_by_entailment(text_bundle: Path, copy_bundle: Any) -> None:
    folder = copy_bundle(text_bundle)
    head = ClassificationOutput("logits", "softmax", ("contradiction", "neutral", "entailment"))
    tiny_bundles.reseal(folder, lambda manifest: msgspec.structs.replace(manifest, postprocessing=head))
    with sanderling.load(folder) as model:
        assert isinstance(model, sanderling.Classifier)
        logits = np.stack([model(TextPair("the sea", f"it is {label}")).logits for label in LABELS])
        free = sanderling.ZeroShotClassifier(model, template="it is {}")
        single, several = free("the sea", LABELS), free("the sea", LABELS, multi_label=True)
        assert len(free([], LABELS)) == 0
        texts = ["the sea", "a bird", "", "edge of the sea"]
        whole = free(texts, LABELS)
        with pytest.MonkeyPatch.context() as patch:
            # Two texts at a time, with their three labels each.
            patch.setattr(zero_shot, "_PAIRS", 7)
            parts = free(texts, LABELS)
    assert [answer.labels for answer in parts] == [answer.labels for answer in whole]
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-5)
    assert len(parts) == len(texts)
    expected = dict(zip(LABELS, softmax(logits[:, 2]), strict=True))
    assert dict(zip(single.labels, single.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    expected = {label: softmax(row[[0, 2]])[1] for label, row in zip(LABELS, logits, strict=True)}
    assert dict(zip(several.labels, several.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert set(several.selected) == {label for label, score in expected.items() if score >= 0.5}
