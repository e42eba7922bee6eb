"""Retrieve, rank and classify in one call, over hand-made bundles; each stage beside its model called alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles

import sanderling
from sanderling.errors import CancelledError, InputError, SpaceError

TEXTS = {
    "bird": "a small bird",
    "edge": "the edge of the sea",
    "long": "word bird sea " * 20,
    "love": "i love it",
    "runs": "runs along the edge",
}
QUERY = "the bird runs"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("bundles")
    made = {
        "model": tiny_bundles.embedding_bundle(folder / "model"),
        "cross": tiny_bundles.ranking_bundle(folder / "cross"),
        "late": tiny_bundles.token_bundle(folder / "late"),
        "classifier": tiny_bundles.text_classification_bundle(folder / "classifier"),
    }
    loaded = {name: sanderling.load(bundle, variant="fp32") for name, bundle in made.items()}
    yield loaded
    for model in loaded.values():
        model.close()


@pytest.fixture
def index(models: dict[str, Any], tmp_path: Path) -> Iterator[sanderling.Index]:
    model = models["model"]
    with sanderling.Index.create(tmp_path / "index", space=model.space, dimension=model.dimension) as made:
        about = [{"text": text, "words": len(text.split())} for text in TEXTS.values()]
        made.add(list(TEXTS), model(list(TEXTS.values()), prompt="passage"), about)
        yield made


def test_without_more_it_is_the_search(models: dict[str, Any], index: sanderling.Index) -> None:
    model = models["model"]
    found = sanderling.SearchPipeline(index, model)(QUERY, k=3)
    hits = index.search(model(QUERY, prompt="query"), 3)
    assert [(one.id, one.score, one.cosine) for one in found] == [(hit.id, hit.score, hit.score) for hit in hits]  # type: ignore[union-attr]
    assert [one.retrieved for one in found] == [0, 1, 2]
    assert [stage.name for stage in found.stages] == ["embed", "retrieve"]
    assert (len(found), found[0].text, found[0].classification, found.complete) == (3, None, None, True)
    assert "3 items; embed" in repr(found)


@pytest.mark.parametrize("ranker", ["cross", "late"])
def test_every_stage_answers_as_alone(ranker: str, models: dict[str, Any], index: sanderling.Index) -> None:
    pipeline = sanderling.SearchPipeline(index, models["model"], ranker=models[ranker], classifier=models["classifier"])
    found = pipeline(QUERY, k=3, candidates=4, top_k=2)
    hits = index.search(models["model"](QUERY, prompt="query"), 4)
    ranking = models[ranker].rank(QUERY, [hit.metadata["text"] for hit in hits])  # type: ignore[union-attr]
    assert [one.id for one in found] == [hits[place].id for place in ranking.indices[:3]]  # type: ignore[union-attr]
    np.testing.assert_allclose([one.score for one in found], ranking.scores[:3], rtol=1e-5)
    assert [one.retrieved for one in found] == list(ranking.indices[:3])
    assert [one.cosine for one in found] == [hits[place].score for place in ranking.indices[:3]]  # type: ignore[union-attr]
    decided = models["classifier"]([TEXTS[one.id] for one in found], top_k=2)
    for one, wanted in zip(found, decided, strict=True):
        assert one.classification is not None
        assert (one.classification.labels, one.text) == (wanted.labels, TEXTS[one.id])
        np.testing.assert_allclose(one.classification.scores, wanted.scores, rtol=1e-5)
    assert [(stage.name, stage.inputs) for stage in found.stages] == [
        ("embed", 1),
        ("retrieve", 4),
        ("rank", 4),
        ("classify", 3),
    ]
    assert found.seconds >= sum(stage.seconds for stage in found.stages) > 0
    assert asyncio.run(pipeline.acall(QUERY, k=3, candidates=4, top_k=2))[0].id == found[0].id


def test_what_was_lost_is_told_by_stage(models: dict[str, Any], index: sanderling.Index) -> None:
    pipeline = sanderling.SearchPipeline(index, models["model"], ranker=models["late"], classifier=models["classifier"])
    found = pipeline("bird " * 30, k=5)
    by_name = {stage.name: stage for stage in found.stages}
    assert not found.complete
    assert by_name["embed"].tokens_lost == found.query_report.tokens_lost > 0  # type: ignore[union-attr]
    # Of the late-interaction model: 30 words of which 5 fit, and 60 of which 13 do; of the classifier, 14.
    assert (by_name["rank"].tokens_lost, by_name["classify"].tokens_lost) == (30 - 5 + 60 - 13, 60 - 14)
    cut = next(one for one in found if one.id == "long")
    assert cut.rank_report.tokens_lost == 60 - 13  # type: ignore[union-attr]
    assert cut.classification.report.tokens_lost == 60 - 14  # type: ignore[union-attr]


def test_filters_functions_and_nothing_found(models: dict[str, Any], index: sanderling.Index) -> None:
    pipeline = sanderling.SearchPipeline(
        index,
        models["model"],
        ranker=models["cross"],
        classifier=models["classifier"],
        text=lambda hit: TEXTS[hit.id].upper(),
    )
    found = pipeline(QUERY, k=5, filter={"words": 3})
    assert {one.id: one.text for one in found} == {"bird": "A SMALL BIRD", "love": "I LOVE IT"}
    nothing = pipeline(QUERY, filter={"words": 99})
    assert (len(nothing), [stage.inputs for stage in nothing.stages]) == (0, [1, 0, 0, 0])


def test_what_does_not_fit_is_refused(models: dict[str, Any], index: sanderling.Index, tmp_path: Path) -> None:
    make: Any = sanderling.SearchPipeline
    model = models["model"]
    for arguments, words in (
        ((7, model), "index is of type int; an Index"),
        ((index, models["cross"]), "model is of type Ranker; an EmbeddingModel"),
    ):
        with pytest.raises(InputError, match=words):
            make(*arguments)
    for settings, words in (
        ({"ranker": models["classifier"]}, "ranker is of type Classifier; a Ranker or a LateInteractionModel"),
        ({"classifier": models["cross"]}, "a model for text-ranking; one for text-classification"),
        ({"text": 7}, "text is of type int"),
    ):
        with pytest.raises(InputError, match=words):
            make(index, model, **settings)
    with pytest.raises(InputError, match="has no text under 'body' in its metadata"):
        make(index, model, ranker=models["cross"], text="body")(QUERY)
    with pytest.raises(InputError, match="k is 0"):
        make(index, model)(QUERY, 0)
    with pytest.raises(InputError, match="Several queries were given"):
        make(index, model)([QUERY, QUERY])
    with sanderling.Index.create(tmp_path / "other", space="other", dimension=8) as other, pytest.raises(SpaceError):
        make(other, model)
    ended = sanderling.Cancellation()
    ended.cancel()
    with pytest.raises(CancelledError):
        make(index, model, ranker=models["cross"])(QUERY, cancellation=ended)
