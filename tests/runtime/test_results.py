"""Answers: one input gives one, a list gives a batch that can be indexed, and each says what became of its input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles
from PIL import Image

import sanderling
from sanderling.errors import ImageError, InputError, TextError
from sanderling.results import Timing, summed

TEXTS = ["A small bird", "", "word " * 40, "the sea", "edge of the sea", "!"]


@pytest.fixture(scope="module")
def embedder(embedding_bundle: Path) -> Iterator[Any]:
    with sanderling.load(embedding_bundle) as model:
        yield model


@pytest.fixture(scope="module")
def classifier(text_bundle: Path) -> Iterator[Any]:
    with sanderling.load(text_bundle) as model:
        yield model


@pytest.fixture(scope="module")
def viewer(image_bundle: Path) -> Iterator[Any]:
    with sanderling.load(image_bundle) as model:
        yield model


def test_embeddings_are_those_of_numpy_in_input_order(embedder: Any) -> None:
    found = embedder(TEXTS)
    assert found.embeddings.shape == (6, 8)
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, [tiny_bundles.reference_embedding(t) for t in TEXTS], atol=1e-6)
    assert found.tokens_lost == tuple(max(0, len(tiny_bundles.token_ids(t, 2**40)) - 16) for t in TEXTS)
    assert [report.tokens for report in found.reports] == [len(tiny_bundles.token_ids(t)) for t in TEXTS]
    assert (found.space, found.variant) == ("5" * 64, "fp32")


def test_one_text_gives_one_embedding(embedder: Any) -> None:
    one = embedder("word " * 40)
    assert one.embedding.shape == (8,)
    assert one.embedding.dtype == np.float32
    np.testing.assert_allclose(one.embedding, tiny_bundles.reference_embedding("word " * 40), atol=1e-6)
    assert one.tokens_lost == 40 - 14
    assert not one.report.complete


def test_a_list_of_one_is_a_batch(embedder: Any, classifier: Any) -> None:
    assert len(embedder(["sea"])) == 1
    assert embedder(["sea"]).embeddings.shape == (1, 8)
    assert len(classifier(["sea"]).items) == 1


@pytest.mark.parametrize("make", [list, tuple, iter, lambda t: (x for x in t), np.array])
def test_any_iterable_of_texts_is_a_batch(embedder: Any, make: Any) -> None:
    assert np.array_equal(embedder(make(TEXTS)).embeddings, embedder(TEXTS).embeddings)


@pytest.mark.parametrize("make", [dict.fromkeys, set, lambda t: {"text": t}])
def test_what_has_no_order_or_has_keys_is_no_list(embedder: Any, viewer: Any, make: Any) -> None:
    with pytest.raises(sanderling.TextError, match="list of texts was expected"):
        embedder(make(TEXTS))
    with pytest.raises(sanderling.ImageError, match="list of these was expected"):
        viewer(make(["a.png"]))


def test_no_inputs_give_an_empty_batch(embedder: Any, classifier: Any, viewer: Any) -> None:
    assert embedder([]).embeddings.shape == (0, 8)
    assert list(embedder(iter([]))) == []
    assert classifier([]).logits.shape == (0, 3)
    assert viewer(()).logits.shape == (0, 4)


@pytest.mark.parametrize("task", ["embedder", "classifier"])
def test_a_batch_is_a_sequence(request: pytest.FixtureRequest, task: str) -> None:
    batch = request.getfixturevalue(task)(TEXTS)
    rows = batch.embeddings if task == "embedder" else batch.logits

    def row(one: Any) -> Any:
        return one.embedding if task == "embedder" else one.logits

    assert len(batch) == 6
    assert [row(one).tolist() for one in batch] == rows.tolist()
    assert [row(batch[i]).tolist() for i in range(6)] == rows.tolist()
    assert row(batch[-1]).tolist() == rows[-1].tolist()
    assert row(batch[np.int64(2)]).tolist() == rows[2].tolist()
    for part in (slice(1, 4), slice(None, None, -1), slice(-2, None), slice(4, 1), slice(0, 100, 2)):
        assert [row(one).tolist() for one in batch[part]] == rows[part].tolist()
    for index in (6, -7, 10**20):
        with pytest.raises(IndexError):
            batch[index]
    with pytest.raises((TypeError, IndexError)):
        batch["0"]


def test_answers_cannot_be_changed(embedder: Any, classifier: Any) -> None:
    for answer in (
        embedder("sea"),
        embedder(["sea"]),
        classifier("sea"),
        classifier(["sea"]),
        classifier("sea").timing,
    ):
        with pytest.raises(AttributeError):
            answer.timing = None


def test_classifications_are_sorted_softmax(classifier: Any) -> None:
    for text, one in zip(TEXTS, classifier(TEXTS), strict=True):
        logits = tiny_bundles.reference_logits(text).astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-expected)
        assert one.labels == tuple(tiny_bundles.LABELS[i] for i in order)
        np.testing.assert_allclose(one.scores, expected[order], rtol=1e-5)
        np.testing.assert_allclose(one.logits, logits, atol=1e-5)
        assert (one.label, one.score) == (one.labels[0], one.scores[0])
        assert one.variant == "fp32"
        assert all(isinstance(score, float) for score in one.scores)


def test_padding_and_batch_mates_do_not_move_an_answer(classifier: Any) -> None:
    together = classifier(TEXTS).logits
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(row, classifier(text).logits, atol=1e-6)


def test_top_k_limits_the_labels_and_not_the_logits(classifier: Any) -> None:
    assert [len(classifier("sea", top_k=k).labels) for k in (1, 2, np.int64(3), 9)] == [1, 2, 3, 3]
    assert classifier("sea", top_k=1).logits.shape == (3,)
    assert classifier.labels == tiny_bundles.LABELS


@pytest.mark.parametrize("top_k", [0, -1, 1.0, "3", None, True])
def test_a_top_k_that_is_no_count_is_named(classifier: Any, top_k: Any) -> None:
    with pytest.raises(InputError) as raised:
        classifier("sea", top_k=top_k)
    assert str(raised.value) == f"top_k is {top_k!r}; a whole number of at least 1 was expected."


def test_images_of_every_kind_give_one_answer(viewer: Any, tmp_path: Path) -> None:
    picture = tiny_bundles.PICTURE
    data = tiny_bundles.png(picture)
    (tmp_path / "picture").write_bytes(data)
    expected = tiny_bundles.reference_image_logits(picture)
    scores = np.sort(1 / (1 + np.exp(-expected.astype(np.float64))))[::-1]
    inputs = [
        str(tmp_path / "picture"),
        tmp_path / "picture",
        data,
        bytearray(data),
        memoryview(data),
        picture,
        picture[:, ::-1][:, ::-1],
        np.asfortranarray(picture),
        Image.fromarray(picture),
    ]
    for given in inputs:
        one = viewer(given)
        np.testing.assert_allclose(one.logits, expected, atol=1e-5)
        np.testing.assert_allclose(one.scores, scores, rtol=1e-5)
        assert (one.report.width, one.report.height, one.report.mode) == (17, 13, "RGB")
        assert one.report.cropped == pytest.approx(0.25)
    assert np.array_equal(viewer(inputs).logits, np.stack([viewer(i).logits for i in inputs]))


def test_twenty_images_come_back_in_their_order(viewer: Any) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
    found = viewer(list(pictures))
    np.testing.assert_allclose(found.logits, [tiny_bundles.reference_image_logits(p) for p in pictures], atol=1e-4)


@pytest.mark.parametrize("value", [None, 3, b"bytes", 2.5])
def test_what_is_no_text_is_named(embedder: Any, value: Any) -> None:
    with pytest.raises(TextError) as raised:
        embedder(value)
    assert str(raised.value) == (
        f"The input is of type {type(value).__name__}; a text (str) or a list of texts was expected."
    )


@pytest.mark.parametrize("value", [None, 3, 2.5])
def test_what_is_no_image_is_named(viewer: Any, value: Any) -> None:
    with pytest.raises(ImageError, match=f"The input is of type {type(value).__name__}; a file, bytes, a PIL image"):
        viewer(value)
    with pytest.raises(ImageError, match=f"The image is of type {type(value).__name__}"):
        viewer([value])


@pytest.mark.parametrize("value", ["the sea", b"bytes", np.zeros((4, 4, 3), np.uint8), None, 3])
def test_a_stream_is_not_of_one_input(embedder: Any, viewer: Any, value: Any) -> None:
    for model in (embedder, viewer):
        with pytest.raises(InputError, match=f"given one {type(value).__name__}; an iterable of inputs was expected"):
            next(model.stream(value))


def test_a_prompt_belongs_to_texts(embedder: Any, viewer: Any) -> None:
    expected = tiny_bundles.reference_embedding("query: sea")
    np.testing.assert_allclose(embedder("sea", prompt="query").embedding, expected, atol=1e-6)
    with pytest.raises(TextError, match="no prompt named 'x'; it has 'query', 'passage'"):
        embedder("sea", prompt="x")
    with pytest.raises(TypeError):
        viewer(tiny_bundles.PICTURE, prompt="query")


def test_timing_has_every_stage(embedder: Any) -> None:
    timing = embedder(TEXTS).timing
    assert min(timing.preprocess, timing.run, timing.postprocess) > 0
    assert Timing(1.0, 2.0, 4.0).total == 7.0


def test_models_and_answers_say_what_they_are(embedder: Any, classifier: Any) -> None:
    assert repr(embedder) == f"<EmbeddingModel tiny-embedding fp32 on cpu, {embedder.threads} threads>"
    assert (embedder.name, embedder.task, embedder.family) == ("tiny-embedding", "feature-extraction", "embedding")
    assert (embedder.modality, embedder.dimension, embedder.provider) == ("text", 8, "cpu")
    one = classifier("sea", top_k=1)
    assert repr(one) == f"Classification({one.label} {one.score:.4f})"


def test_answers_are_shown_in_a_line(embedder: Any, viewer: Any) -> None:
    one, many = embedder("the sea"), embedder(["the sea"] * 5000)
    begins = ", ".join(f"{value:.4f}" for value in one.embedding[:3])
    assert repr(one) == f"Embedding([{begins}, …], 8 numbers, {one.variant}, {one.report!r})"
    assert repr(many) == f"Embeddings(5000 x 8 numbers, {many.variant})"
    decided = viewer([tiny_bundles.PICTURE] * 4)
    assert repr(decided) == f"Classifications(4: {', '.join([decided[0].label] * 3)}, …)"
    assert repr(viewer([])) == "Classifications(0: )"


def test_times_of_several_calls_add_up_part_by_part() -> None:
    assert summed([Timing(1.0, 2.0, 4.0), Timing(0.5, 0.25, 0.125)]) == Timing(1.5, 2.25, 4.125)
    assert summed([]) == Timing(0.0, 0.0, 0.0)
