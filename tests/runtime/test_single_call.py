"""One input by itself takes a shorter way through the runtime: with the same answer, report and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundles

import sanderling
from sanderling import heads
from sanderling.cancellation import Cancellation
from sanderling.errors import CancelledError, InferenceError
from sanderling.schema.vectors import EmbeddingOutput

TEXTS = ["the small bird runs along the edge of the sea", "", "a bird", "the sea " * 40]


def test_alone_and_in_a_list_are_the_same(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle, threads=1, batch_invariant=True) as model:
        together = model(TEXTS)
        for text, row, report in zip(TEXTS, together.embeddings, together.reports, strict=True):
            alone = model(text)
            np.testing.assert_array_equal(alone.embedding, row)
            assert alone.report == report
            assert alone.timing.preprocess > 0
            assert alone.timing.run > 0
            assert alone.timing.postprocess > 0
            np.testing.assert_allclose(alone.embedding, tiny_bundles.reference_embedding(text), atol=1e-5)


def test_padding_on_the_left_changes_nothing_of_one_text(tmp_path: Path) -> None:
    found = []
    for side in ("left", "right"):
        tiny_bundles.embedding_bundle(tmp_path / side, padding_side=side)
        with sanderling.load(tmp_path / side, threads=1) as model:
            found.append([model(text).embedding for text in TEXTS])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_cancelled_call_of_one_input_ends(embedding_bundle: Path) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with sanderling.load(embedding_bundle, threads=1) as model, pytest.raises(CancelledError):
        model("a bird", cancellation=cancellation)


def test_an_answer_that_is_not_finite_is_an_error(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sanderling.load(embedding_bundle, threads=1) as model:
        monkeypatch.setattr(type(model), "_reduce", lambda *_: np.full((1, 8), np.nan, np.float32))
        with pytest.raises(InferenceError, match="answered input 0 with values that are not finite"):
            model("a bird")


def test_the_mean_without_a_mask_is_that_with_ones() -> None:
    head = EmbeddingOutput("hidden", "mean", True, 6)
    hidden = np.random.default_rng(1).standard_normal((3, 7, 6)).astype(np.float32)
    masked = heads.embed({"hidden": hidden}, {"attention_mask": np.ones((3, 7), np.int64)}, head)
    np.testing.assert_array_equal(heads.embed({"hidden": hidden}, {}, head), masked)
