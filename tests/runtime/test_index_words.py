"""Search by words: what a word is, how rare and frequent ones count, and how two rankings become one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sanderling
from sanderling import Index, SearchPipeline
from sanderling.errors import InputError, SearchIndexError
from sanderling.index import fusion, layout
from sanderling.index import words as vocabulary

SPACE = "a" * 64
TEXTS = {
    "tide": "The tide comes in twice a day, and the tide goes out.",
    "gull": "A gull steals chips on the shore.",
    "code": "def load_bundle(path): return HTMLPage(path)",
    "rates": "The bank raised its rates.",
}


def made(folder: Path, texts: dict[str, str] | None = None) -> Index:
    """An index of texts whose vectors are the axes, in their order."""
    given = TEXTS if texts is None else texts
    index = Index.create(folder / "index", space=SPACE, dimension=max(4, len(given)))
    index.add(list(given), np.eye(max(4, len(given)))[: len(given)], space=SPACE, texts=list(given.values()))
    return index


def axis(place: int) -> Any:
    return np.eye(4)[place]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Tides", "TIDES"),
        ("the ﬁle", "the file"),
        ("STRASSE", "straße"),
        ("_private_name", "private name"),
        ("", " .,;\n"),
    ],
)
def test_texts_of_the_same_words(text: str, other: str) -> None:
    assert vocabulary.terms(text).tolist() == vocabulary.terms(other).tolist()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("loadBundle(path)", "bundle"),
        ("loadBundle(path)", "loadBundle"),
        ("an HTMLPage", "html"),
        ("int8", "int"),
        ("潮汐每天两次", "每天"),
        ("Möwe", "möwe"),
        ("the sea's", "sea"),
        ("a lone \ud800 surrogate", "surrogate"),
    ],
)
def test_what_is_found_by_a_word(text: str, word: str) -> None:
    assert set(vocabulary.terms(word).tolist()) <= set(vocabulary.terms(text).tolist())


def test_scores_are_those_of_the_formula(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        ((found, score),) = index.search_words("tide")
    words = {name: len(vocabulary.terms(text)) for name, text in TEXTS.items()}
    rarity = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    damping = 1.2 * (1 - 0.75 + 0.75 * words["tide"] / (sum(words.values()) / 4))
    assert found == "tide"
    assert score == pytest.approx(rarity * 2 * 2.2 / (2 + damping), rel=1e-5)


def test_words_are_found_without_a_model(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        assert [name for name, _ in index.search_words("a bank on the shore", 2)] == ["gull", "rates"]
        assert [name for name, _ in index.search_words("which bundle?")] == ["code"]
        assert index.search_words("nothing such") == []
        assert index.search_words("") == []
        assert index.search_words("gull", filter=lambda metadata: False) == []
        with pytest.raises(InputError, match="type int"):
            index.search_words(3)  # type: ignore[arg-type]


def test_pieces_of_a_document_are_ranked_together(tmp_path: Path) -> None:
    texts = {"a#0": "tides", "a#1": "gulls", "b#0": "tides and tides", "c#0": "a bank"}
    with made(tmp_path, texts) as index:

        def names(**given: Any) -> list[str]:
            return [name for name, _ in index.search_words("tides gulls", document=lambda one: one[0], **given)]

        assert names() == ["a", "b"]
        assert names(k=1) == ["a"]
        index.delete("a#1")
        assert sorted(names()) == ["a", "b"]
        index.delete(["a#0"])
        assert names() == ["b"]


def test_a_documents_name_counts_apart_from_its_pieces(tmp_path: Path) -> None:
    texts = {"docs/tides.md#0": "the moon pulls", "docs/gull.md#0": "a bird", "x#0": "tidy"}
    with made(tmp_path, texts) as index:
        found = index.search_words("Which tide?", document=lambda one: one.partition("#")[0])
        assert [name for name, _ in found] == ["docs/tides.md"]
        assert index.search_words("tide") == []


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("errors", "error"),
        ("queries", "query"),
        ("caches", "cache"),
        ("class", "class"),
        ("axis", "axi"),
        ("corpus", "corpus"),
        ("shoes", "shoes"),
        ("es", "es"),
        ("movies", "movy"),
        ("straße", "strasse"),
    ],
)
def test_plurals_are_as_singulars(plural: str, singular: str) -> None:
    np.testing.assert_array_equal(vocabulary.singular(plural), vocabulary.terms(singular))


def test_two_rankings_are_one(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        hits: Any = index.search(axis(3), 4, words="the gull", space=SPACE)
        by_id = {hit.id: hit for hit in hits}
        # First by its vector; its "the" is a word of the query's, too.
        assert hits[0].id == "rates"
        assert by_id["gull"].words > by_id["rates"].words > 0
        assert by_id["code"].words == 0
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        ranked = [name for name, _ in index.search_words("the gull")]
        assert by_id["rates"].score == pytest.approx(1 / 61 + 1 / (61 + ranked.index("rates")), rel=1e-5)
        assert by_id["rates"].cosine == pytest.approx(1)
        assert by_id["code"].cosine == pytest.approx(0)
        plain: Any = index.search(axis(3), 1, space=SPACE)
        assert (plain[0].score, plain[0].cosine, plain[0].words) == (plain[0].cosine, pytest.approx(1), None)
        several: Any = index.search(np.eye(4)[:2], 1, words=["the tide", "a gull"], space=SPACE)
        assert [line[0].id for line in several] == ["tide", "gull"]
        only: Any = index.search(axis(3), 4, words="gull", space=SPACE, filter=lambda metadata: False)
        assert only == []


def test_what_stands_high_in_both_is_first() -> None:
    worth = fusion.fused([["a", "b", "c"], ["b", "d"]])
    assert sorted(worth, key=lambda one: -worth[one]) == ["b", "a", "d", "c"]
    assert worth["b"] == pytest.approx(1 / 62 + 1 / 61)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["tide"], "a list of 1; the text of the one query"), (3, "type int"), ("x", None)],
)
def test_words_that_are_none_are_refused(tmp_path: Path, words: Any, message: str | None) -> None:
    with made(tmp_path) as index:
        if message is None:
            assert len(index.search(axis(0), words=words, space=SPACE)) == 4
            with pytest.raises(InputError, match="a list of 2, one for each vector"):
                index.search(np.eye(4)[:2], words=words, space=SPACE)
            return
        with pytest.raises(InputError, match=message):
            index.search(axis(0), words=words, space=SPACE)


@pytest.mark.parametrize("texts", ["one", ["one"], [1, 2], 3])
def test_texts_that_are_none_are_refused_and_nothing_changes(tmp_path: Path, texts: Any) -> None:
    with made(tmp_path) as index:
        with pytest.raises(InputError):
            index.add(["x", "y"], np.eye(4)[:2], space=SPACE, texts=texts)
        assert len(index) == 4


def test_an_index_without_texts_says_so(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", space=SPACE, dimension=4) as index:
        assert index.search(axis(0), words="tide", space=SPACE) == []
        index.add("a", axis(0), space=SPACE)
        assert not index.worded
        for asked in (lambda: index.search_words("tide"), lambda: index.search(axis(0), words="tide", space=SPACE)):
            with pytest.raises(SearchIndexError, match="was added with its text"):
                asked()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_words_outlive_changes_compaction_and_closing(tmp_path: Path, precision: Any) -> None:
    with Index.create(tmp_path / "index", space=SPACE, dimension=4, precision=precision) as index:
        index.add(["a", "b"], np.eye(4)[:2], space=SPACE, texts=["the tide", None])
        index.add("c", axis(2), space=SPACE, texts="a gull")
        index.update("a", axis(0), space=SPACE, texts="a bank")
        assert index.search_words("tide") == []
        before = [index.search_words(query) for query in ("bank", "gull")]
        index.compact()
        assert [index.search_words(query) for query in ("bank", "gull")] == before
        index.add("d", axis(3), space=SPACE, texts="the tide")
    with Index.open(tmp_path / "index") as index:
        assert [name for name, _ in index.search_words("tide")] == ["d"]
        assert index.worded
        index.check()


def test_rows_and_terms_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    made(tmp_path).close()
    path = layout.data_path(tmp_path / "index", "rows", 0)
    rows = np.frombuffer(path.read_bytes(), layout.ROW).copy()
    rows["terms"][0] += 1
    path.write_bytes(rows.tobytes())
    with Index.open(tmp_path / "index") as index, pytest.raises(SearchIndexError, match="is damaged"):
        index.search_words("tide")


def test_a_pipeline_retrieves_by_words_too(embedding_bundle: Path, tmp_path: Path) -> None:
    texts = ["the sea", "a bird", "the shore"]
    with (
        sanderling.load(embedding_bundle) as model,
        Index.create(tmp_path / "i", space=model.space, dimension=model.dimension) as index,
    ):
        index.add(texts, texts, [{"text": text} for text in texts], model=model, texts=texts)
        search = SearchPipeline(index, model)
        plain, both = search("the shore", k=3), search("the shore", k=3, words=True)
        assert plain[0].score == plain[0].cosine
        assert both[0].id == "the shore"
        assert both[0].score == pytest.approx(2 / 61)
        assert both[0].cosine == pytest.approx(plain[0].cosine)
        with pytest.raises(InputError, match="type bytes"):
            search(b"the shore", words=True)
