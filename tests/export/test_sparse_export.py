"""Masked language models of random weights to sparse vectors, as sentence-transformers' SparseEncoder makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling

import sanderling
from sanderling.errors import CheckpointError, ExportError, SpaceError
from sanderling.schema.vectors import SparseOutput
from sanderling.verification import verify
from sanderling_export.pipeline import export

TEXTS = ["low tide", "", "the small bird runs along the edge of the sea and " * 30, "ünïcode 三趾鹬 🐦"]


@pytest.fixture(scope="module", params=[("max", "relu"), ("sum", "log1p_relu")], ids=["max", "sum"])
def made(
    request: pytest.FixtureRequest,
    checkpoint: Callable[[str], Path],
    lines: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A sparse encoder and its bundle, loaded: of a bare language model, and of what sentence-transformers saves."""
    pooling, activation = request.param
    folder = tmp_path_factory.mktemp("sparse")
    model = SparseEncoder(str(checkpoint("bert-masked")), device="cpu")
    source, asked = checkpoint("bert-masked"), "splade"
    if pooling == "sum":
        model = SparseEncoder(modules=[model[0], SpladePooling("sum", activation)], device="cpu")
        model.prompts = {"query": "low bird: ", "document": ""}
        model.save(str(folder / "checkpoint"))
        source, asked = folder / "checkpoint", None
    variants: Any = ["fp32", "int8-dynamic"] if pooling == "max" else ["fp32"]
    bundle = export(source, folder / "bundle", pooling=asked, data=lines, variants=variants)  # type: ignore[arg-type]
    assert verify(bundle).held
    with sanderling.load(bundle, variant="fp32") as loaded:
        yield model, loaded


def dense(found: sanderling.SparseEmbedding, dimension: int) -> Any:
    row = np.zeros(dimension, np.float32)
    row[found.indices] = found.weights
    return row


def test_weights_are_those_of_sentence_transformers(made: Any) -> None:
    theirs, ours = made
    assert isinstance(ours, sanderling.SparseModel)
    head = ours.bundle.manifest.postprocessing
    assert isinstance(head, SparseOutput)
    assert (ours.task, ours.family, ours.dimension) == ("feature-extraction", "embedding", 256)
    expected = theirs.encode(TEXTS, convert_to_sparse_tensor=False).cpu().numpy()
    for found in (ours(TEXTS), [ours(text) for text in TEXTS]):
        rows = np.stack([dense(one, 256) for one in found])
        np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-5 * max(1.0, expected.max()))
    assert (expected > 0).any()


def test_prompts_and_the_heaviest(made: Any) -> None:
    theirs, ours = made
    if head_pooling(ours) == "sum":
        expected = theirs.encode(TEXTS, prompt_name="query", convert_to_sparse_tensor=False).cpu().numpy()
        found = np.stack([dense(one, 256) for one in ours(TEXTS, prompt="query")])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * max(1.0, expected.max()))
    whole, few = ours(TEXTS[0]), ours(TEXTS[0], top_k=3)
    assert list(few.by_token.items()) == list(whole.by_token.items())[:3]
    assert list(whole.weights) == sorted(whole.weights, reverse=True)
    assert whole.weights.min() > 0
    decoded = theirs.decode(theirs.encode([TEXTS[0]])[0], top_k=3)
    assert [token for token, _ in decoded] == list(few.tokens)
    assert asyncio.run(ours.acall(TEXTS[0])).tokens == whole.tokens
    assert [one.tokens for one in ours.stream(iter(TEXTS))] == [one.tokens for one in ours(TEXTS)]
    assert "tokens:" in repr(whole)


def test_scores_are_dot_products_within_a_space(made: Any) -> None:
    theirs, ours = made
    answers = ours(TEXTS)
    expected = theirs.similarity(theirs.encode(TEXTS), theirs.encode(TEXTS)).numpy()
    found = np.array([[one.score(other) for other in answers] for one in answers])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, expected.max()))
    import msgspec

    with pytest.raises(SpaceError, match="Compare vectors of one model"):
        answers[0].score(msgspec.structs.replace(answers[1], space="0" * 64))


def head_pooling(model: Any) -> str:
    return str(model.bundle.manifest.postprocessing.pooling)


def test_what_is_no_masked_language_model_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="BertModel; sparse vectors are made by a masked language model"):
        export(checkpoint("bert"), tmp_path / "bundle", pooling="splade")
    with pytest.raises(ExportError, match="neither normalized nor cut"):
        export(checkpoint("bert-masked"), tmp_path / "bundle", pooling="splade", normalize=True)
