"""Sparse vectors and cross-encoders by hand-made bundles: answers by plain arithmetic, verified, run, evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles
from msgspec.structs import replace
from typer.testing import CliRunner

import sanderling
from sanderling import cli, heads
from sanderling.errors import EvalError, InputError, ManifestError
from sanderling.schema.vectors import SparseOutput
from sanderling.verification import verify

TEXTS = ["a small bird", "the edge of the sea", "", "word " * 40]


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "bird"}\n{"_id": "r", "text": "the sea"}\n', "utf-8")
    rows = "".join(f"{number}\t{text}\n" for number, text in enumerate(["a bird runs", "sea", "love it", "word"]))
    (folder / "corpus.tsv").write_text(f"id\ttext\n{rows}", "utf-8")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t0\t1\nr\t1\t1\n", "utf-8")
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.build_app(), [str(argument) for argument in arguments])


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["log1p_relu", "log1p_log1p_relu"])
def test_weights_are_the_plain_formula(pooling: Any, activation: Any) -> None:
    logits = np.random.default_rng(1).normal(size=(3, 5, 7)).astype(np.float32) * 3
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    found = heads.sparse({"logits": logits}, {"attention_mask": mask}, SparseOutput("logits", pooling, activation, 7))
    weights = np.log1p(np.maximum(logits.astype(np.float64) * mask[:, :, None], 0))
    weights = np.log1p(weights) if activation == "log1p_log1p_relu" else weights
    np.testing.assert_allclose(found, weights.max(axis=1) if pooling == "max" else weights.sum(axis=1), rtol=1e-5)


def test_a_sparse_model(sparse_bundle: Path) -> None:
    assert verify(sparse_bundle).held
    with sanderling.load(sparse_bundle) as model:
        assert isinstance(model, sanderling.SparseModel)
        answers = model(TEXTS)
        for text, answer in zip(TEXTS, answers, strict=True):
            expected = tiny_bundles.reference_weights(text)
            assert sorted(answer.indices) == np.flatnonzero(expected).tolist()
            np.testing.assert_allclose(answer.weights, expected[answer.indices], rtol=1e-5)
            assert list(answer.tokens) == [tiny_bundles.VOCABULARY[i] for i in answer.indices]
        assert (len(answers), answers[1:3][0].tokens, answers.dimension) == (4, answers[1].tokens, 8)
        assert answers[3].report.tokens_lost > 0  # type: ignore[union-attr]
        assert len(model(TEXTS[0], top_k=2).tokens) == 2
        assert len(model([])) == 0
        with pytest.raises(InputError, match="top_k is 0"):
            model(TEXTS[0], top_k=0)


def test_a_ranker(ranking_bundle: Path) -> None:
    assert verify(ranking_bundle).held
    with sanderling.load(ranking_bundle) as model:
        assert isinstance(model, sanderling.Ranker)
        found = model.rank("bird", TEXTS)
        assert sorted(found.scores, reverse=True) == list(found.scores)
        assert sorted(found.indices) == [0, 1, 2, 3]
        np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-found.logits[list(found.indices)])), rtol=1e-5)


def test_on_the_command_line(sparse_bundle: Path, ranking_bundle: Path, text_bundle: Path) -> None:
    done = run("run", sparse_bundle, "a bird", "--top-k", 2, "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["weights"]) == 2
    assert run("run", sparse_bundle, "a bird").exit_code == 0
    done = run("run", ranking_bundle, *TEXTS[:2], "--query", "sea", "--json")
    answered = [json.loads(line) for line in done.stdout.splitlines()]
    with sanderling.load(ranking_bundle) as model:
        ranking = model.rank("sea", TEXTS[:2])  # type: ignore[union-attr]
    assert [one["scores"][0] for one in answered] == pytest.approx([score for _, score in sorted(ranking)])
    with pytest.raises(InputError, match="--query goes with text-ranking"):
        raise run("run", text_bundle, "sea", "--query", "bird").exception
    with pytest.raises(InputError, match="goes with models of one dense vector an input, which tiny-sparse is not"):
        raise run("run", sparse_bundle, "sea", "--dimensions", 4).exception


@pytest.mark.parametrize("name", ["sparse_bundle", "ranking_bundle"])
def test_retrieval_is_evaluated(name: str, retrieval: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("sklearn", reason="the extra [eval] is not installed")
    from sanderling_bench.evaluation import EvalPlan, evaluate

    bundle = request.getfixturevalue(name)
    record = evaluate(sanderling.open_bundle(bundle), EvalPlan(retrieval, variants=("fp32",), resamples=20))
    found = record.answers["fp32"]["recall@1"]
    documents, queries = ["a bird runs", "sea", "love it", "word"], ["bird", "the sea"]
    with sanderling.load(bundle) as model:
        if isinstance(model, sanderling.Ranker):
            best = [model.rank(query, documents).indices[0] for query in queries]
        else:
            answers = model(documents, prompt="passage")  # type: ignore[union-attr]
            asked = model(queries, prompt="query")  # type: ignore[union-attr]
            best = [int(np.argmax([query.score(one) for one in answers])) for query in asked]
    assert list(found) == [float(best[0] == 0), float(best[1] == 1)]


def test_a_ranker_is_evaluated_on_a_folder_alone(ranking_bundle: Path, tmp_path: Path) -> None:
    from sanderling_bench.labelled import kind_of

    with pytest.raises(EvalError, match="evaluated on a folder with queries, corpus and qrels"):
        kind_of(sanderling.open_bundle(ranking_bundle), tmp_path / "rows.tsv")


def test_contradictions_are_refused(sparse_bundle: Path, ranking_bundle: Path) -> None:
    from sanderling.codec import decode, encode
    from sanderling.schema.answers import ClassificationOutput

    sparse, ranker = tiny_bundles.read_manifest(sparse_bundle), tiny_bundles.read_manifest(ranking_bundle)
    two = ClassificationOutput("logits", "softmax", ("a", "b"))
    for manifest, words in (
        (replace(sparse, space=None), "needs the fingerprint of its space"),
        (replace(sparse, task="text-classification"), "needs a postprocessing of type 'classification'"),
        (replace(ranker, postprocessing=two), "needs a single label"),
    ):
        with pytest.raises(ManifestError, match=words):
            decode(encode(manifest), "bundle.json")
