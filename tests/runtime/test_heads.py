"""Graph outputs to rows: pooling, normalization and scores against plain loops and the original definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sanderling import heads
from sanderling.errors import GraphError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.vectors import EmbeddingOutput

POOLINGS = ("mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean")
RANDOM = np.random.default_rng(7)
HIDDEN = RANDOM.normal(size=(4, 6, 3)).astype(np.float32)
RIGHT = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [1] + [0] * 5, [1, 1, 1, 1, 1, 0]])
LEFT = RIGHT[:, ::-1]

MODERATE = st.floats(-1e4, 1e4, width=32)
HUGE = st.floats(-(2.0**126), 2.0**126, width=32)


def embed(
    hidden: NDArray[Any], mask: NDArray[Any] | None, pooling: Any, normalize: bool = False
) -> NDArray[np.float32]:
    feeds = {} if mask is None else {"attention_mask": mask}
    return heads.embed({"hidden": hidden}, feeds, EmbeddingOutput("hidden", pooling, normalize, hidden.shape[-1]))


def scores(logits: Any, activation: Any) -> NDArray[np.float32]:
    rows = np.asarray(logits, np.float32)
    labels = tuple(f"label {i}" for i in range(rows.shape[1]))
    return heads.scores(rows, ClassificationOutput("logits", activation, labels))


def pooled_by_hand(hidden: NDArray[Any], mask: NDArray[Any], pooling: str) -> list[list[float]]:
    rows = []
    for tokens, seen in zip(hidden.astype(np.float64), mask, strict=True):
        kept = [(position, token) for position, token in enumerate(tokens) if seen[position]]
        columns = [[token[i] for _, token in kept] for i in range(hidden.shape[2])]
        places = [position - kept[0][0] + 1 for position, _ in kept]
        rows.append(
            {
                "mean": lambda c=columns: [sum(v) / len(v) for v in c],
                "cls": lambda c=columns: [v[0] for v in c],
                "last": lambda c=columns: [v[-1] for v in c],
                "max": lambda c=columns: [max(v) for v in c],
                "mean_sqrt_len": lambda c=columns: [sum(v) / math.sqrt(len(v)) for v in c],
                "weighted_mean": lambda c=columns, p=places: [
                    sum(w * x for w, x in zip(p, v, strict=True)) / sum(p) for v in c
                ],
            }[pooling]()
        )
    return rows


@pytest.mark.parametrize("mask", [RIGHT, LEFT], ids=["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_the_plain_loop(pooling: str, mask: NDArray[Any]) -> None:
    found = embed(HIDDEN, mask, pooling)
    assert found.shape == (4, 3)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, pooled_by_hand(HIDDEN, mask, pooling), rtol=1e-5, atol=1e-6)


# Under padding on the left "cls" is the first token here, the first position (padding) there; and weights count from
# the text's first token here, from the padding there, where they move with the batch mates.
@pytest.mark.parametrize(
    ("pooling", "mask"),
    [
        pytest.param(pooling, mask, id=f"{pooling}-{side}")
        for pooling in POOLINGS
        for side, mask in (("right", RIGHT), ("left", LEFT))
        if pooling != "cls" and (pooling, side) != ("weighted_mean", "left")
    ],
)
def test_pooling_is_that_of_sentence_transformers(pooling: str, mask: NDArray[Any]) -> None:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("sentence_transformers.models")
    names = {"last": "lasttoken", "mean_sqrt_len": "mean_sqrt_len_tokens", "weighted_mean": "weightedmean"}
    original = models.Pooling(3, pooling_mode=names.get(pooling, pooling))
    features = {
        "token_embeddings": torch.from_numpy(HIDDEN.copy()),
        "attention_mask": torch.from_numpy(np.ascontiguousarray(mask)),
    }
    expected = original(features)["sentence_embedding"].numpy()
    np.testing.assert_allclose(embed(HIDDEN, mask, pooling), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@given(data=st.data())
def test_padding_never_moves_a_pooled_vector(pooling: str, data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, 5))
    hidden = data.draw(arrays(np.float32, (1, tokens, 2), elements=MODERATE))
    rubbish = data.draw(arrays(np.float32, (1, data.draw(st.integers(1, 4)), 2), elements=MODERATE))
    padded = np.concatenate([hidden, rubbish], axis=1)
    mask = np.array([[1] * tokens + [0] * rubbish.shape[1]])
    np.testing.assert_allclose(
        embed(padded, mask, pooling), embed(hidden, mask[:, :tokens], pooling), rtol=1e-5, atol=1e-2
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_a_mask_every_token_counts(pooling: str) -> None:
    everything = np.ones(HIDDEN.shape[:2], np.int64)
    assert np.array_equal(embed(HIDDEN, None, pooling), embed(HIDDEN, everything, pooling))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_input_of_padding_alone_gives_finite_numbers(pooling: str, normalize: bool) -> None:
    found = embed(HIDDEN, np.zeros((4, 6), np.int64), pooling, normalize)
    assert np.isfinite(found).all()


def test_an_output_that_is_already_pooled_is_taken_as_it_is() -> None:
    rows = HIDDEN[:, 0].astype(np.float16)
    assert np.array_equal(embed(rows, None, "none"), rows.astype(np.float32))


@given(arrays(np.float32, (3, 4), elements=st.floats(-(2.0**50), 2.0**50, width=32)))
def test_normalized_rows_have_length_one_or_are_tiny(rows: NDArray[np.float32]) -> None:
    lengths = np.linalg.norm(embed(rows, None, "none", normalize=True).astype(np.float64), axis=1)
    original = np.linalg.norm(rows.astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths[original > 1e-6], 1, rtol=1e-5)
    assert (lengths <= 1 + 1e-5).all()


def test_a_zero_vector_stays_zero() -> None:
    assert not embed(np.zeros((2, 3), np.float32), None, "none", normalize=True).any()


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (2,)])
def test_a_pooled_output_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    head = EmbeddingOutput("vector", "none", True, 4)
    with pytest.raises(GraphError) as raised:
        heads.embed({"vector": np.zeros(shape, np.float32)}, {}, head)
    assert str(raised.value) == (
        f"The graph's output 'vector' pooled to the shape {shape}; the manifest says a dimension of 4."
    )


@given(arrays(np.float32, (2, 5), elements=HUGE))
def test_softmax_is_a_distribution_for_any_finite_logits(logits: NDArray[np.float32]) -> None:
    found = scores(logits, "softmax")
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert (found.max(axis=1) == np.take_along_axis(found, logits.argmax(axis=1)[:, None], 1)[:, 0]).all()


@given(arrays(np.float32, (2, 5), elements=HUGE))
def test_sigmoid_is_bounded_rising_and_symmetric(logits: NDArray[np.float32]) -> None:
    found = scores(logits, "sigmoid")
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found + scores(-logits, "sigmoid"), 1, rtol=1e-6)
    order = np.argsort(logits, axis=1)
    assert (np.diff(np.take_along_axis(found, order, axis=1), axis=1) >= 0).all()


@given(arrays(np.float32, (2, 3), elements=st.floats(-50, 50, width=32)))
def test_scores_are_the_textbooks(logits: NDArray[np.float32]) -> None:
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(scores(logits, "sigmoid"), 1 / (1 + np.exp(-exact)), rtol=1e-5)
    exponentials = np.exp(exact)
    np.testing.assert_allclose(
        scores(logits, "softmax"), exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-30
    )
    assert scores(logits, "none") is logits or np.array_equal(scores(logits, "none"), logits)


@pytest.mark.parametrize("shape", [(2, 3), (2,), (2, 2, 1)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    head = ClassificationOutput("logits", "softmax", ("yes", "no"))
    with pytest.raises(GraphError, match="the manifest names 2 labels"):
        heads.classify({"logits": np.zeros(shape, np.float32)}, head)


def test_logits_of_half_precision_become_float32() -> None:
    head = ClassificationOutput("logits", "softmax", ("yes", "no"))
    found = heads.classify({"logits": np.ones((3, 2), np.float16)}, head)
    assert found.dtype == np.float32
    assert found.shape == (3, 2)
