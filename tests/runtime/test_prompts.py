"""Prompts for queries and documents: one rule for indexes, adapters and the evaluation of retrieval."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_bundles

import sanderling
from sanderling import Index
from sanderling.index import folder
from sanderling.prompts import Side, choose, prompt_for
from sanderling.tasks.feature_extraction import EmbeddingModel


@pytest.mark.parametrize(
    ("prompts", "side", "expected"),
    [
        ({}, "query", None),
        ({"summary": "summarize: "}, "document", None),
        ({"query": "query: "}, "query", "query"),
        ({"query": "query: "}, "document", None),
        ({"passage": "passage: ", "document": "text: "}, "document", "document"),
        ({"corpus": "corpus: ", "passage": "passage: "}, "document", "passage"),
        # sentence-transformers gives every model an empty prompt named "document".
        ({"document": "", "passage": "passage: "}, "document", "passage"),
        ({"query": "query: ", "document": ""}, "document", "document"),
    ],
)
def test_the_first_that_says_something(prompts: dict[str, str], side: Side, expected: str | None) -> None:
    assert choose(prompts, side) == expected


def test_an_empty_prompt_keeps_the_default_prompt_from_documents(tmp_path: Path) -> None:
    prompts = {"query": "a bird ", "document": ""}
    path = tiny_bundles.embedding_bundle(tmp_path / "bundle", prompts=prompts, default_prompt="query")
    with sanderling.load(path) as model:
        assert isinstance(model, EmbeddingModel)
        whole = model("the sea", prompt=prompt_for(model, "document"))
        assert (whole.embedding == model("the sea", prompt="document").embedding).all()
        assert (whole.embedding != model("the sea").embedding).any()


def test_a_folder_is_embedded_with_the_prompt_for_documents(tmp_path: Path) -> None:
    path = tiny_bundles.embedding_bundle(tmp_path / "bundle", prompts={"passage": "word ", "document": "a bird "})
    files = tmp_path / "files"
    files.mkdir()
    (files / "a").write_text("the sea", "utf-8")
    with (
        sanderling.load(path) as model,
        Index.create(tmp_path / "i", space=model.space, dimension=model.dimension) as index,
    ):
        assert isinstance(model, EmbeddingModel)
        list(folder.update(index, files, model, folder.Report(), 16, 0))
        ((hit,)) = index.search(model("a\nthe sea", prompt="document"))
        assert hit.score == pytest.approx(1, abs=1e-6)
