"""Long texts in windows: every token is in one, neighbours share what the manifest says, scores are combined."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st

import sanderling
from sanderling import codec, heads
from sanderling.errors import InputError, ManifestError, TextError
from sanderling.manifest import Manifest
from sanderling.pairs import TextPair
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import LongText, TextPreprocessing

TOKENIZER = tiny_bundles.tokenizer().to_str().encode()


def windowed(folder: Path, long_text: LongText | None, head: ClassificationOutput | None = None) -> Path:
    def change(manifest: Manifest) -> Manifest:
        text = msgspec.structs.replace(manifest.preprocessing.text, long_text=long_text)
        changed = msgspec.structs.replace(
            manifest, preprocessing=msgspec.structs.replace(manifest.preprocessing, text=text)
        )
        return changed if head is None else msgspec.structs.replace(changed, postprocessing=head)

    tiny_bundles.reseal(folder, change)
    return folder


@given(st.integers(0, 200), st.integers(3, 20), st.data())
def test_windows_hold_every_token_and_share_the_stride(count: int, max_tokens: int, data: st.DataObject) -> None:
    room = max_tokens - 2
    stride = data.draw(st.integers(0, room - 1))
    settings = TextPreprocessing("tokenizer.json", max_tokens, long_text=LongText(stride))
    text = " ".join("abcdefghij"[i % 10] for i in range(count))
    (found,) = TextEncoder(TOKENIZER, settings, "tokenizer.json").windows([text])
    whole = tiny_bundles.token_ids(text, 2**60)[1:-1]
    bodies = [part.ids.tolist()[1:-1] for part in found.encoded]
    starts = range(0, max(1, count - stride), room - stride)
    assert bodies == [whole[start : start + room] for start in starts]
    assert all(part.ids[0] == 2 and part.ids[-1] == 3 for part in found.encoded)
    assert found.report == sanderling.TextReport(sum(map(len, bodies)) + 2 * len(bodies), 0, 0, len(bodies))


@pytest.mark.parametrize("combine", ["mean", "max"])
def test_scores_of_windows_are_combined(text_bundle: Path, copy_bundle: object, combine: str) -> None:
    folder = windowed(copy_bundle(text_bundle), LongText(4, combine))  # type: ignore[operator, arg-type]
    text = "the sea is small and the bird runs along the edge of it, " * 5
    with sanderling.load(folder) as model:
        assert isinstance(model, sanderling.Classifier)
        answer = model(text, long_text="window", top_k=3)
        short = model("the sea", long_text="window")
        batch = model(["the sea", text, ""], long_text="window", top_k=3)
        cut = model(text)
        plain = model("the sea")
    body = tiny_bundles.token_ids(text, 2**60)[1:-1]
    windows = [[2, *body[start : start + 14], 3] for start in range(0, len(body) - 4, 10)]
    logits = np.stack(
        [
            tiny_bundles.TABLE[w].astype(np.float64).mean(axis=0) @ tiny_bundles.WEIGHT + tiny_bundles.BIAS
            for w in windows
        ]
    )
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    join = np.mean if combine == "mean" else np.max
    expected = dict(zip(tiny_bundles.LABELS, join(scores, axis=0), strict=True))
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(answer.logits, join(logits, axis=0), atol=1e-5)
    assert answer.report.windows == len(windows) > 3
    assert answer.report.complete
    assert cut.report.tokens_lost == len(body) - 14
    assert short.report.windows == 1
    np.testing.assert_allclose(short.scores, plain.scores, atol=1e-6)
    assert [item.report.windows for item in batch] == [1, len(windows), 1]
    np.testing.assert_allclose(batch[1].logits, answer.logits, atol=1e-6)
    np.testing.assert_array_equal(batch.logits[1], batch[1].logits)


def test_combining_keeps_inputs_apart() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(heads.combine(rows, [1, 3, 2], "mean"), [[0, 1], [4, 5], [9, 10]])
    np.testing.assert_array_equal(heads.combine(rows, [1, 3, 2], "max"), [[0, 1], [6, 7], [10, 11]])
    assert heads.combine(rows[:0], [], "mean").shape == (0, 2)


def test_what_cannot_be_made_into_windows_is_refused(
    text_bundle: Path, image_bundle: Path, copy_bundle: object
) -> None:
    with sanderling.load(text_bundle) as model:
        assert isinstance(model, sanderling.Classifier)
        with pytest.raises(TextError, match="does not say how windows"):
            model("a", long_text="window")
        with pytest.raises(InputError, match="'truncate' or 'window' was expected"):
            model("a", long_text="fold")  # type: ignore[call-overload]
    with sanderling.load(image_bundle) as model:
        assert isinstance(model, sanderling.Classifier)
        with pytest.raises(InputError, match="takes images"):
            model(tiny_bundles.png(tiny_bundles.PICTURE), long_text="window")
    with sanderling.load(windowed(copy_bundle(text_bundle), LongText(4))) as model:  # type: ignore[operator]
        assert isinstance(model, sanderling.Classifier)
        with pytest.raises(TextError, match="Input 1 is a pair"):
            model(["a", TextPair("a", "b")], long_text="window")
        assert len(list(model.stream(["a", "b" * 90], long_text="window"))) == 2


def test_windows_that_share_everything_are_no_windows(text_bundle: Path, copy_bundle: object) -> None:
    folder = copy_bundle(text_bundle)  # type: ignore[operator]
    windowed(folder, LongText(16))
    with pytest.raises(ManifestError, match="windows of 16 tokens cannot share 16"):
        sanderling.load(folder)
    raw = (folder / "bundle.json").read_bytes().replace(b'"stride": 16', b'"stride": 15')
    (folder / "bundle.json").write_bytes(raw)
    with sanderling.load(folder) as model:  # special tokens leave 14
        assert isinstance(model, sanderling.Classifier)
        with pytest.raises(sanderling.BundleError, match="have room for 14 beside the special ones"):
            model("a", long_text="window")


def test_several_labels_may_hold(text_bundle: Path, copy_bundle: object) -> None:
    labels = tiny_bundles.LABELS
    logits = tiny_bundles.reference_logits("the sea")
    scores = dict(zip(labels, (1 / (1 + np.exp(-logits.astype(np.float64)))).tolist(), strict=True))
    middle, *_ = sorted(scores.values())[1:]
    head = ClassificationOutput("logits", "sigmoid", labels, (middle - 1e-4,) * 3)
    folder = windowed(copy_bundle(text_bundle), None, head)  # type: ignore[operator]
    with sanderling.load(folder) as model:
        assert isinstance(model, sanderling.Classifier)
        answer = model("the sea", top_k=1)
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx({answer.label: max(scores.values())})
    held = sorted((label for label in labels if scores[label] >= middle - 1e-4), key=lambda label: -scores[label])
    assert list(answer.selected) == held
    assert len(held) == 2


def test_targets_of_a_regression_are_no_rivals(text_bundle: Path, copy_bundle: object) -> None:
    head = ClassificationOutput("logits", "none", tiny_bundles.LABELS)
    with sanderling.load(windowed(copy_bundle(text_bundle), None, head)) as model:  # type: ignore[operator]
        assert isinstance(model, sanderling.Classifier)
        answer = model("the sea", top_k=1)
    assert answer.labels == tiny_bundles.LABELS
    assert answer.scores == pytest.approx(tiny_bundles.reference_logits("the sea").tolist(), abs=1e-5)
    assert answer.selected == ()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (ClassificationOutput("logits", "sigmoid", tiny_bundles.LABELS, (0.5,)), "1 thresholds for 3 labels"),
        (
            ClassificationOutput("logits", "softmax", tiny_bundles.LABELS, (0.5,) * 3),
            "go with the activation 'sigmoid'",
        ),
    ],
)
def test_thresholds_that_contradict_are_refused(text_bundle: Path, head: ClassificationOutput, words: str) -> None:
    manifest = msgspec.structs.replace(tiny_bundles.read_manifest(text_bundle), postprocessing=head)
    with pytest.raises(ManifestError, match=words):
        codec.decode(codec.encode(manifest), "bundle.json")
