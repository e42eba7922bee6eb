"""Cross-encoders of random weights: exported as text-ranking, scored and put in order as sentence-transformers does."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

import sanderling
from sanderling.errors import CheckpointError, InputError, TextError
from sanderling.pairs import TextPair
from sanderling.schema.answers import ClassificationOutput
from sanderling.verification import verify
from sanderling_export.pipeline import export

QUERY = "which small bird runs along the sea"
TEXTS = ["low tide", "", "the small bird runs along the edge of the sea and " * 30, "sand", "ünïcode 三趾鹬 🐦"]

Made = tuple[CrossEncoder, sanderling.Ranker]


@pytest.fixture(scope="module", params=["Identity", "Sigmoid", None])
def made(
    request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A cross-encoder and its fp32 bundle, loaded; its activation as newer, older or no versions write it down."""
    folder = tmp_path_factory.mktemp("rankers")
    shutil.copytree(checkpoint("bert-ranker"), folder / "checkpoint")
    file = folder / "checkpoint" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    if request.param == "Identity":
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    if request.param == "Sigmoid":
        config["sbert_ce_default_activation_function"] = "torch.nn.modules.activation.Sigmoid"
    file.write_text(json.dumps(config), "utf-8")
    lines = folder / "pairs.txt"
    lines.write_text("".join(f"low tide {n}\tthe small bird runs\n" for n in range(8)), "utf-8")
    task = None if request.param else "text-ranking"
    bundle = export(folder / "checkpoint", folder / "bundle", variants=["fp32"], data=lines, task=task)  # type: ignore[arg-type]
    assert verify(bundle).held
    with sanderling.load(bundle) as model:
        yield CrossEncoder(str(folder / "checkpoint"), device="cpu"), model, request.param


def test_scores_are_those_of_a_cross_encoder(made: Any) -> None:
    theirs, ours, activation = made
    expected = theirs.predict([(QUERY, text) for text in TEXTS])
    assert isinstance(ours, sanderling.Ranker)
    head = ours.bundle.manifest.postprocessing
    assert isinstance(head, ClassificationOutput)
    assert (ours.task, head.activation) == ("text-ranking", "none" if activation == "Identity" else "sigmoid")
    found = [answer.score for answer in ours([TextPair(QUERY, text) for text in TEXTS])]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_order_is_that_of_a_cross_encoder(made: Any) -> None:
    theirs, ours, _ = made
    expected = theirs.rank(QUERY, TEXTS)
    found = ours.rank(QUERY, TEXTS)
    assert list(found.indices) == [one["corpus_id"] for one in expected]
    np.testing.assert_allclose(found.scores, [one["score"] for one in expected], rtol=1e-3, atol=1e-5)
    assert list(ours.rank(QUERY, TEXTS, top_k=2)) == list(found)[:2]
    assert (len(found), found[0], found.reports[2].tokens_lost > 0) == (5, next(iter(found)), True)
    assert "of 5 texts" in repr(found)
    assert asyncio.run(ours.arank(QUERY, TEXTS)).indices == found.indices


def test_texts_that_score_alike_keep_their_order(made: Any) -> None:
    assert made[1].rank(QUERY, ["sand", "low tide", "sand", "sand"], top_k=4).indices in ((0, 2, 3, 1), (1, 0, 2, 3))
    assert made[1].rank(QUERY, []).indices == ()


def test_what_is_no_text_is_refused(made: Any) -> None:
    for query, given, words in (
        (7, TEXTS, "The query is of type int"),
        (QUERY, "sand", "The texts are of type str; a list of texts"),
        (QUERY, ["sand", None], "Text 1 is of type NoneType"),
    ):
        with pytest.raises(TextError, match=words):
            made[1].rank(query, given)
    with pytest.raises(InputError, match="top_k is 0"):
        made[1].rank(QUERY, TEXTS, top_k=0)


def test_a_classifier_of_several_labels_is_no_ranker(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 3 outputs; a ranker has one"):
        export(checkpoint("bert-classifier"), tmp_path / "bundle", task="text-ranking")
    with pytest.raises(CheckpointError, match="BertModel; a ranker is exported from a sequence classifier"):
        export(checkpoint("bert"), tmp_path / "bundle", task="text-ranking")
