"""Late interaction by a hand-made bundle: vectors of tokens and scores by plain arithmetic, verified, run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
from msgspec.structs import replace
from typer.testing import CliRunner

import sanderling
from sanderling import cli
from sanderling.codec import decode, encode
from sanderling.errors import EvalError, InputError, ManifestError, SpaceError, TextError
from sanderling.schema.vectors import TokenOutput
from sanderling.verification import cosines, verify

QUERY = "bird of the sea"
TEXTS = ["A small bird runs.", "the edge. of the sea...", "", "word " * 40, "..."]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundles.token_bundle(tmp_path_factory.mktemp("bundles") / "tiny-late")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Any:
    with sanderling.load(bundle, variant="fp32") as loaded:
        yield loaded


def expected(text: str, side: str) -> Any:
    ids, kept = tiny_bundles.token_sides(text, side)
    return tiny_bundles.reference_tokens(np.array(ids)[kept])


def plain_score(query: str, document: str) -> float:
    asked, held = expected(query, "query"), expected(document, "document")
    return float(sum(max(float(a @ b) for b in held) for a in asked))


def test_the_golden_samples_of_both_sides_hold(bundle: Path) -> None:
    report = verify(bundle)
    assert report.held
    assert {check.sample for check in report.checks} >= {"plain", "asked-plain", "asked-empty", "long"}


def test_every_token_has_its_vector(model: Any) -> None:
    assert isinstance(model, sanderling.LateInteractionModel)
    assert (model.family, model.task, model.dimension) == ("embedding", "feature-extraction", 4)
    for side in ("query", "document"):
        answers = model(TEXTS, prompt=side)
        for text, answer in zip(TEXTS, answers, strict=True):
            ids, kept = tiny_bundles.token_sides(text, side)
            np.testing.assert_allclose(answer.embeddings, expected(text, side), rtol=1e-5, atol=1e-6)
            assert answer.tokens == tuple(tiny_bundles.VOCABULARY[i] for i, k in zip(ids, kept, strict=True) if k)
            assert answer.report.places == tuple(np.flatnonzero(kept))
            assert (answer.report.tokens, answer.embeddings.dtype) == (len(ids), np.float32)
            np.testing.assert_allclose(model(text, prompt=side).embeddings, answer.embeddings, rtol=1e-6)
    assert model(TEXTS[0]).tokens == model(TEXTS[0], prompt="document").tokens
    assert [one.tokens for one in model.stream(iter(TEXTS))] == [one.tokens for one in model(TEXTS)]
    assert asyncio.run(model.acall(TEXTS[0])).tokens == model(TEXTS[0]).tokens


def test_what_was_lost_and_filled_up_is_told(model: Any) -> None:
    whole, cut = model([TEXTS[0], TEXTS[3]])
    assert (whole.tokens_lost, whole.report.complete, whole.report.expanded) == (0, True, 0)
    assert (cut.tokens_lost, cut.report.tokens) == (40 - 13, 16)
    assert model(TEXTS).tokens_lost == (0, 0, 0, 27, 0)
    asked = model(["bird", "word " * 40], prompt="query")
    assert [one.report.expanded for one in asked] == [8 - 4, 0]
    assert asked.tokens_lost == (0, 40 - 5)
    assert "16 tokens x 4 numbers" in repr(cut)
    assert len(model([])) == 0


def test_scores_are_maxsim(model: Any) -> None:
    wanted = [plain_score(QUERY, text) for text in TEXTS]
    np.testing.assert_allclose(model.scores(QUERY, TEXTS), wanted, rtol=1e-5)
    kept, asked = model(TEXTS), model(QUERY, prompt="query")
    np.testing.assert_allclose(model.scores(asked, [kept[0], TEXTS[1], *kept[2:]]), wanted, rtol=1e-5)
    assert asked.score(kept[1]) == pytest.approx(wanted[1], rel=1e-5)
    assert model.scores(QUERY, []).shape == (0,)
    none = msgspec.structs.replace(kept[0], embeddings=np.empty((0, 4), np.float32))
    assert model.scores(asked, [none, kept[0]]).tolist() == [0.0, pytest.approx(wanted[0], rel=1e-5)]


def test_rank_is_in_order_and_reports(model: Any) -> None:
    found = model.rank(QUERY, TEXTS)
    wanted = [plain_score(QUERY, text) for text in TEXTS]
    assert list(found.indices) == np.argsort(-np.array(wanted, np.float32), kind="stable").tolist()
    np.testing.assert_allclose(found.scores, sorted(wanted, reverse=True), rtol=1e-5)
    assert [report.tokens_lost for report in found.reports] == [0, 0, 0, 27, 0]
    assert found.query_report.tokens == 8
    assert found.timing.run > 0
    assert list(model.rank(QUERY, TEXTS, top_k=2)) == list(found)[:2]
    assert asyncio.run(model.arank(QUERY, TEXTS)).indices == found.indices
    assert model.rank(QUERY, []).indices == ()


def test_what_does_not_fit_is_refused(model: Any) -> None:
    kept = model(TEXTS[0])
    with pytest.raises(SpaceError, match="Compare vectors of one model"):
        kept.score(msgspec.structs.replace(kept, space="0" * 64))
    for call, kind, words in (
        (lambda: model.scores(QUERY, "sea"), TextError, "The texts are of type str"),
        (lambda: model.scores(QUERY, [7]), InputError, "Document 0 is of type int"),
        (lambda: model.rank(7, TEXTS), TextError, "The query is of type int"),
        (lambda: model.rank(QUERY, [kept]), TextError, "Text 0 is of type TokenEmbedding"),
        (lambda: model.rank(QUERY, TEXTS, top_k=0), InputError, "top_k is 0"),
        (lambda: model("sea", prompt="passage"), TextError, "has no prompt 'passage'; it has 'query', 'document'"),
        (lambda: model(sanderling.TextPair("a", "b")), TextError, "Input 0 is a pair of texts"),
    ):
        with pytest.raises(kind, match=words):
            call()


def test_cosines_of_several_vectors(model: Any) -> None:
    ones = np.empty(3, object)
    ones[:] = [np.ones((2, 4)), np.eye(4), np.zeros((0, 4))]
    others = np.empty(3, object)
    others[:] = [np.ones((2, 4)) * 3, np.ones((3, 4)), np.zeros((0, 4))]
    assert cosines(ones, others).tolist() == [1.0, -1.0, 1.0]


def test_on_the_command_line(bundle: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli.build_app(), ["run", str(bundle), "a bird.", "--prompt", "document", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["tokens"] == ["[CLS]", "passage", "a", "bird", "[SEP]"]
    assert np.array(record["embeddings"]).shape == (5, 4)
    done = runner.invoke(cli.build_app(), ["run", str(bundle), "word " * 40])
    assert "bird" not in done.stdout
    assert "27 tokens cut off" in done.stdout


def test_retrieval_is_evaluated(bundle: Path, model: Any, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the extra [eval] is not installed")
    from sanderling_bench.evaluation import EvalPlan, evaluate

    queries = ["bird", "the sea " * 9]
    (tmp_path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": str(number), "text": text}) + "\n" for number, text in enumerate(queries)), "utf-8"
    )
    rows = "".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS) if text)
    (tmp_path / "corpus.tsv").write_text(f"id\ttext\n{rows}", "utf-8")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n0\t0\t1\n1\t1\t1\n", "utf-8")
    opened = sanderling.open_bundle(bundle)
    record = evaluate(opened, EvalPlan(tmp_path, variants=("fp32",), resamples=20))
    documents = [text for text in TEXTS if text]
    for place, query in enumerate(queries):
        order = model.rank(query, documents).indices
        assert record.answers["fp32"]["mrr"][place] == pytest.approx(1 / (1 + order.index(place)))
    assert (record.settings.query_prompt, record.settings.prompt, record.data.cut) == ("query", "document", 2)
    with pytest.raises(EvalError, match="a model of late interaction is evaluated on a folder"):
        evaluate(opened, EvalPlan(tmp_path / "qrels.tsv"))
    with pytest.raises(EvalError, match="go with models of one dense vector an input"):
        evaluate(opened, EvalPlan(tmp_path, precisions=("int8",)))


def test_contradictions_are_refused(bundle: Path) -> None:
    sealed = tiny_bundles.read_manifest(bundle)
    head, text = sealed.postprocessing, sealed.preprocessing.text
    assert isinstance(head, TokenOutput)
    assert text is not None
    component = sealed.components["model"]
    fp32 = component.variants["fp32"]
    exact = replace(fp32, forms={**fp32.forms, "exact": fp32.forms["padded"]})

    def changed(**fields: Any) -> Any:
        return replace(sealed, postprocessing=replace(head, **fields))

    for manifest, words in (
        (changed(weights=None), "dense layers need a file of weights"),
        (changed(query=replace(head.query, max_tokens=17)), "postprocessing.query takes 17 tokens, the model 16"),
        (changed(document=replace(head.document, attended=True)), "has nothing that is attended"),
        (replace(sealed, space=None), "needs the fingerprint of its space"),
        (replace(sealed, task="text-classification"), "needs a postprocessing of type 'classification'"),
        (
            replace(sealed, components={"model": replace(component, variants={"fp32": exact})}),
            "has the forms padded, exact; vectors of tokens are made by the form padded alone",
        ),
        (
            replace(sealed, preprocessing=replace(sealed.preprocessing, text=replace(text, prompts={"document": ""}))),
            "needs the prompt 'query'",
        ),
    ):
        with pytest.raises(ManifestError, match=words):
            decode(encode(manifest), "bundle.json")
    long = replace(text, max_tokens=10_000)
    most = changed(query=replace(head.query, max_tokens=5000))
    with pytest.raises(ManifestError, match="fills texts up to 5,000 tokens; at most 4,096"):
        decode(encode(replace(most, preprocessing=replace(sealed.preprocessing, text=long))), "bundle.json")
