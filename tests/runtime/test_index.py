"""The index: what is added is found again, by cosine, in one space only, and nothing acknowledged is lost."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

import sanderling
from sanderling import Hit, Index
from sanderling.errors import (
    IndexBusyError,
    InputError,
    MixedVariantsWarning,
    SearchIndexError,
    SpaceError,
    StorageError,
)
from sanderling.index import layout
from sanderling.index.nearest import Nearest, order
from sanderling.results import Embeddings, TextReport, Timing

SPACE = "a" * 64
PRECISIONS = ("float32", "float16", "int8")


def rows(count: int, width: int = 24, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def made(folder: Path, count: int = 0, precision: Any = "float32", width: int = 24) -> Index:
    """An index of `count` items "0", "1" ... with their number as metadata, open for writing."""
    index = Index.create(folder / "index", space=SPACE, dimension=width, precision=precision)
    if count:
        index.add([str(n) for n in range(count)], rows(count, width), [{"n": n} for n in range(count)], space=SPACE)
    return index


def answers(vectors: NDArray[np.float32], variant: str = "fp32", drift: float | None = 1.0) -> Embeddings:
    return Embeddings(vectors, (TextReport(3),) * len(vectors), SPACE, variant, Timing(0, 0, 0), drift)


def brute_force(
    stored: NDArray[np.float32], query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    unit = stored.astype(np.float64) / np.linalg.norm(stored.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
    order = np.argsort(-cosines, kind="stable")[:k]
    return order, cosines[order]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [1, 7, 4095, 4096, 9000])
def test_the_nearest_are_those_of_plain_arithmetic(tmp_path: Path, precision: str, count: int) -> None:
    stored, queries = rows(count), rows(66, seed=1)
    with made(tmp_path, count, precision) as index:
        hits: Any = index.search(queries, 10, space=SPACE)
        alone: Any = index.search(queries[3], 10, space=SPACE)
        assert [hit.id for hit in alone] == [hit.id for hit in hits[3]]
        found = expected = 0
        for query, line in zip(queries, hits, strict=True):
            order, cosines = brute_force(stored, query, 10)
            assert len(line) == min(10, count)
            assert [hit.score for hit in line] == sorted((hit.score for hit in line), reverse=True)
            expected += len(order)
            found += len({hit.id for hit in line} & set(map(str, order)))
            assert [hit.score for hit in line] == pytest.approx(
                list(cosines), abs=1e-6 if precision == "float32" else 2e-3
            )
            assert all(hit.metadata == {"n": int(hit.id)} for hit in line)
        assert found >= {"float32": 1.0, "float16": 0.99, "int8": 0.99}[precision] * expected


def leaning(count: int, width: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Vectors most of whose length lies along few directions, none of which is one number's, as models' do."""
    random = np.random.default_rng(7)
    turn = np.linalg.qr(random.standard_normal((width, width)))[0]
    spread = 0.6 ** np.arange(width)
    return (rows(count, width, seed) * spread @ turn).astype(np.float32)


def test_codes_are_of_the_axes_that_count(tmp_path: Path) -> None:
    stored, queries = leaning(10_000), leaning(70, seed=1)
    with Index.create(tmp_path / "index", space=SPACE, dimension=64, precision="int8") as index:
        for first in range(0, 10_000, 2500):
            part = stored[first : first + 2500]
            index.add([str(first + row) for row in range(len(part))], part, space=SPACE)
        header = layout.read_header(tmp_path / "index")
        assert 0 < header.axes <= 32
        assert header.extent("codes").bytes == 2 * layout.BLOCK * header.axes
        before: Any = index.search(queries, 10, space=SPACE)
        found = 0
        for query, line in zip(queries, before, strict=True):
            order, cosines = brute_force(stored, query, 10)
            found += len({hit.id for hit in line} & set(map(str, order)))
            assert line[0].score == pytest.approx(cosines[0], abs=1e-5)
        assert found >= 0.99 * 10 * len(queries)
        alone: Any = index.search(queries[0], 10, space=SPACE)
        assert [hit.id for hit in alone] == [hit.id for hit in before[0]]
        index.delete("3")
        index.compact()
        assert layout.read_header(tmp_path / "index").axes == header.axes
        index.check()
    with Index.open(tmp_path / "index") as index:
        again: Any = index.search(queries, 10, space=SPACE)
        assert (
            sum(hit.id in {one.id for one in old} for new, old in zip(again, before, strict=True) for hit in new) > 690
        )
    path = layout.data_path(tmp_path / "index", "axes", 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SearchIndexError, match="cut short"):
        Index.open(tmp_path / "index")


def test_codes_are_of_all_numbers_where_all_count(tmp_path: Path) -> None:
    with made(tmp_path, 5000, "int8") as index:
        header = layout.read_header(index.path)
    assert (header.axes, header.coded) == (0, 24)
    (tmp_path / "index" / layout.HEADER).write_bytes(layout.encode(replace(header, axes=12)))
    with pytest.raises(SearchIndexError, match="contradicts itself"):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_there_again_after_it_was_closed(tmp_path: Path, precision: str) -> None:
    with made(tmp_path, 5000, precision) as index:
        index.delete(["7", "4999"])
        index.update("8", -rows(1)[0], {"n": -8}, space=SPACE)
        before = index.search(rows(3, seed=2), 20, space=SPACE)
    with Index.open(tmp_path / "index") as index:
        assert (len(index), index.space, index.dimension, index.precision) == (4998, SPACE, 24, precision)
        assert "7" not in index
        assert index.metadata("8") == {"n": -8}
        assert index.search(rows(3, seed=2), 20, space=SPACE) == before
        index.check()
    with Index.open(tmp_path / "index", writable=True) as index:
        index.compact()
        assert index.search(rows(3, seed=2), 20, space=SPACE) == before
        assert len(index.ids()) == 4998
        assert layout.read_header(tmp_path / "index").rows == 4998
        index.check()
        index.add("late", rows(1)[0], space=SPACE)
        assert "late" in index
    assert {path.stem.rpartition("-")[2] for path in (tmp_path / "index").glob("*.bin")} == {"1"}


def test_models_answers_and_inputs_are_taken(embedding_bundle: Path, tmp_path: Path) -> None:
    texts = ["the sea", "a bird", "the shore"]
    with (
        sanderling.load(embedding_bundle) as model,
        Index.create(tmp_path / "i", space=model.space, dimension=model.dimension, about={"model": "tiny"}) as index,
    ):
        index.add(texts[:2], model(texts[:2]), [{"kind": "a"}, None])
        index.add("the shore", model("the shore"), {"kind": "b"})
        index.update(texts, texts, model=model)
        (hit, *rest) = index.search(model("a bird"), k=9)
        assert isinstance(hit, Hit)
        assert (hit.id, hit.metadata) == ("a bird", {})
        assert hit.score == pytest.approx(1, abs=1e-6)
        assert len(rest) == 2
        assert index.about == {"model": "tiny"}
        cosines = sanderling.similarity(model(texts), model("a bird"))[:, 0]
        by_id = {one.id: one.score for one in (hit, *rest) if isinstance(one, Hit)}
        assert [by_id[text] for text in texts] == pytest.approx(cosines.tolist(), abs=1e-6)


@pytest.mark.parametrize("precision", ["float16", "int8", "binary"])
def test_answers_of_every_precision_are_taken(embedding_bundle: Path, tmp_path: Path, precision: Any) -> None:
    texts = ["the sea", "a bird", "the shore"]
    with sanderling.load(embedding_bundle) as model:
        found = model(texts, precision=precision)
        query = model("a bird runs", precision=precision)
    with Index.create(tmp_path / "i", space=found.space, dimension=model.dimension) as index:
        index.add(texts[:2], found[:2])
        index.add(texts[2], found[2])
        hits: Any = index.search(query)
    cosines = {hit.id: hit.score for hit in hits}
    assert [cosines[text] for text in texts] == pytest.approx(
        sanderling.similarity(found, query)[:, 0].tolist(), abs=1e-6
    )


def test_another_space_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with made(tmp_path, 3) as index:
        with pytest.raises(SpaceError, match=f"embedding space {'b' * 16}, the index of {'a' * 16}"):
            index.add("x", rows(1), space="b" * 64)
        with pytest.raises(SpaceError):
            index.search(rows(1), space="b" * 64)
        with pytest.raises(InputError, match=r"space=model\.space"):
            index.search(rows(1))
        assert len(index) == 3


def test_variants_beyond_their_drift_are_warned_of(tmp_path: Path) -> None:
    with made(tmp_path) as index, warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add(["a", "b"], answers(rows(2)))
        index.add(["c", "d"], answers(rows(2), "int8", 0.995))
        with pytest.warns(MixedVariantsWarning, match="down to") as caught:
            index.search(answers(rows(2), "int4", 0.96))
        assert caught[0].filename == __file__
        with pytest.warns(MixedVariantsWarning, match="unknown distance") as caught:
            index.add("e", answers(rows(1), "other", None))
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.add(["1", "x"], rows(2), space=SPACE), "1 of the ids are in the index, the first '1'"),
        (lambda i: i.add(["x", "x"], rows(2), space=SPACE), "'x' is given twice"),
        (lambda i: i.add(["x", "y"], rows(3), space=SPACE), "2 ids and 3 vectors"),
        (lambda i: i.add(["x"], rows(1, 5), space=SPACE), "have 5 numbers; those of this index have 24"),
        (lambda i: i.add([5], rows(1), space=SPACE), "of type int; a text"),
        (lambda i: i.add([""], rows(1), space=SPACE), "has 0 bytes"),
        (lambda i: i.add(["x" * 4097], rows(1), space=SPACE), "has 4,097 bytes"),
        (lambda i: i.add(["\ud800"], rows(1), space=SPACE), "lone surrogate"),
        (lambda i: i.add("x", rows(1) * np.inf, space=SPACE), "Vector 0 has numbers that are not finite"),
        (lambda i: i.add("x", "text", space=SPACE), "The vectors are str"),
        (lambda i: i.add("x", rows(1).astype(object), space=SPACE), "array of object and rank 2"),
        (lambda i: i.add(["x"], rows(1), {"a": 1}, space=SPACE), "one mapping, but several ids"),
        (lambda i: i.add(["x"], rows(1), [{}, {}], space=SPACE), "1 ids and metadata of 2"),
        (lambda i: i.add("x", rows(1), {"a": math.nan}, space=SPACE), "metadata of 'x' cannot be kept"),
        (lambda i: i.add("x", rows(1), {"a": {1, 2}}, space=SPACE), "metadata of 'x' cannot be kept"),
        (lambda i: i.add("x", rows(1), {"a": object()}, space=SPACE), "a value is of type object"),
        (lambda i: i.add("x", rows(1), {"a": "b" * 2**20}, space=SPACE), "at most 1,048,576"),
        (lambda i: i.delete(["1", "x"]), "no item 'x'"),
        (lambda i: i.update("y", rows(1), space=SPACE, delete="x"), "no item 'x'"),
        (lambda i: i.metadata("x"), "no item 'x'"),
        (lambda i: i.vectors(["1", "x"]), "no item 'x'"),
        (lambda i: i.search(rows(1), 0, space=SPACE), "k is 0"),
        (lambda i: i.search(rows(1), filter=5, space=SPACE), "filter is of type int"),
        (lambda i: i.search([], space=SPACE), "k"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(tmp_path: Path, change: Any, message: str) -> None:
    with made(tmp_path, 3) as index:
        if message == "k":
            assert change(index) == []
            return
        with pytest.raises(InputError, match=message):
            change(index)
        assert index.ids() == ["0", "1", "2"]
        index.check()


def test_filters(tmp_path: Path) -> None:
    with made(tmp_path, precision="int8") as index:
        count = 9000
        kinds = [{"kind": "abc"[n % 3], "n": n, "tags": ["x"]} for n in range(count)]
        index.add([str(n) for n in range(count)], rows(count), kinds, space=SPACE)
        stored = rows(count)
        for wanted, chosen in (
            ({"kind": "a"}, range(0, count, 3)),
            ({"kind": ["a", "b"], "n": list(range(10))}, [0, 1, 3, 4, 6, 7, 9]),
            ({"tags": [["x"]]}, range(count)),
            (lambda about: about["n"] % 5 == 2, range(2, count, 5)),
            ({"kind": "d"}, []),
            ({"missing": None}, []),
        ):
            hits: Any = index.search(stored[17], 20, filter=wanted, space=SPACE)
            kept = np.array(chosen, int)
            order, _ = brute_force(stored[kept], stored[17], 20)
            assert len(hits) == min(20, len(kept))
            assert len({hit.id for hit in hits} & set(map(str, kept[order]))) >= 0.95 * len(hits)


def test_equal_vectors_come_in_the_order_they_were_added(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        index.add([str(n) for n in range(300)], np.ones((300, 24), np.float32), space=SPACE)
        index.update("0", np.ones(24, np.float32), space=SPACE)
        hits: Any = index.search(np.ones(24), 5, space=SPACE)
        assert [hit.id for hit in hits] == ["1", "2", "3", "4", "5"]
        assert [hit.score for hit in hits] == pytest.approx([1.0] * 5)


def test_zeros_are_like_nothing(tmp_path: Path) -> None:
    with made(tmp_path, 4) as index:
        index.add("zero", np.zeros(24), space=SPACE)
        hits: Any = index.search(np.zeros(24), 9, space=SPACE)
        assert {hit.score for hit in hits} == {0.0}
        assert len(hits) == 5


def test_lengths_far_from_one_are_no_matter(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        for name, scale in (("small", 1e-30), ("large", 1e30)):
            index.add(name, (rows(1) * np.float32(scale)), space=SPACE)
        hits: Any = index.search(rows(1)[0], space=SPACE)
        assert [hit.score for hit in hits] == pytest.approx([1, 1])


def test_an_empty_index_answers(tmp_path: Path) -> None:
    with made(tmp_path) as index:
        assert index.search(rows(1)[0], space=SPACE) == []
        assert index.search(rows(2), space=SPACE) == [[], []]
        index.add([], np.empty((0, 24)), space=SPACE)
        index.check()
        index.compact()
        assert len(index) == 0


def test_one_writer_and_many_readers(tmp_path: Path) -> None:
    with made(tmp_path, 5) as writer:  # noqa: SIM117 - what the writer has open, they read
        with Index.open(tmp_path / "index") as reader, Index.open(tmp_path / "index") as other:
            with pytest.raises(IndexBusyError, match="Another writer"):
                Index.open(tmp_path / "index", writable=True)
            assert issubclass(IndexBusyError, SearchIndexError)
            writer.add("new", rows(1)[0], space=SPACE)
            writer.delete("0")
            assert (len(reader), "new" in reader, "0" in reader) == (5, False, True)
            assert reader.metadata("0") == {"n": 0}
            reader.refresh()
            assert (len(reader), "new" in reader, "0" in reader) == (5, True, False)
            writer.compact()
            assert other.metadata("0") == {"n": 0}
            other.check()
            other.refresh()
            assert "0" not in other
            with pytest.raises(SearchIndexError, match="open for reading"):
                reader.delete("1")
    with Index.open(tmp_path / "index", writable=True) as again:
        assert again.writable


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = made(tmp_path, 2)
    index.close()
    assert "closed" in repr(index)
    for use in (len, lambda i: i.search(rows(1), space=SPACE), lambda i: i.delete("0"), lambda i: i.space):
        with pytest.raises(SearchIndexError, match="was closed"):
            use(index)


def test_creating_overwrites_nothing(tmp_path: Path) -> None:
    made(tmp_path, 2).close()
    with pytest.raises(StorageError, match="an index is there already"):
        made(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=r"it holds letter\.txt"):
        Index.create(tmp_path / "other", space=SPACE, dimension=3)
    with pytest.raises(StorageError, match="Could not make the folder"):
        Index.create(tmp_path / "other" / "letter.txt", space=SPACE, dimension=3)
    for wrong in ({"dimension": 0}, {"dimension": 2**17}, {"space": ""}, {"precision": "int4"}, {"about": {"a": {1}}}):
        arguments: Any = {"space": SPACE, "dimension": 3} | wrong
        with pytest.raises(InputError):
            Index.create(tmp_path / "third", **arguments)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("damage", ["header", "short header", "newer", "other", "contradiction", "huge"])
def test_a_header_that_is_not_whole_is_refused(tmp_path: Path, damage: str) -> None:
    made(tmp_path, 20).close()
    path = tmp_path / "index" / layout.HEADER
    raw, header = path.read_bytes(), layout.read_header(tmp_path / "index")
    changed = {
        "header": raw.replace(b'"rows":20', b'"rows":19'),
        "short header": raw[:-5],
        "newer": layout.encode(replace(header, version=2)),
        "other": layout.encode(replace(header, format="something")),
        "contradiction": layout.encode(replace(header, rows=21)),
        "huge": b" " * (2**24 + 1),
    }[damage]
    assert changed != raw
    path.write_bytes(changed)
    message = {"newer": "of version 2; this Sanderling reads version 1", "other": "format 'something'"}.get(damage)
    for writable in (False, True):
        with pytest.raises(SearchIndexError, match=message):
            Index.open(tmp_path / "index", writable=writable)
    assert path.read_bytes() == changed


@pytest.mark.parametrize("name", ["vectors", "rows", "items", "deleted", "codes", "scales"])
def test_a_file_cut_short_damaged_or_gone_is_refused(tmp_path: Path, name: str) -> None:
    with made(tmp_path, 4100, "int8") as index:
        index.delete("5")
    path = layout.data_path(tmp_path / "index", name, 0)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    for writable in (False, True):
        with pytest.raises(SearchIndexError, match="cut short"):
            Index.open(tmp_path / "index", writable=writable)
    path.write_bytes(raw[:9] + bytes([raw[9] ^ 255]) + raw[10:] if name != "deleted" else b"\xff" * len(raw))
    with pytest.raises(SearchIndexError, match="damaged"), Index.open(tmp_path / "index") as index:
        index.check()
    path.unlink()
    with pytest.raises(SearchIndexError, match="is missing"):
        Index.open(tmp_path / "index")
    path.write_bytes(raw)
    with Index.open(tmp_path / "index") as index:
        index.check()


def test_damaged_items_are_never_shown(tmp_path: Path) -> None:
    made(tmp_path, 3).close()
    path = layout.data_path(tmp_path / "index", "items", 0)
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    with Index.open(tmp_path / "index") as index, pytest.raises(SearchIndexError, match="damaged"):
        index.search(rows(1), space=SPACE)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no index")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(SearchIndexError):
            Index.open(path, writable=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_the_best_are_kept_in_any_order_of_blocks() -> None:
    random = np.random.default_rng(3)
    scores = random.integers(0, 50, (3, 5000)).astype(np.float32)
    nearest = Nearest(3, 40)
    for first in range(0, 5000, 700):
        nearest.offer(scores[:, first : first + 700], first)
    for query in range(3):
        kept, found = nearest.best(query)
        expected = np.lexsort((np.arange(5000), -scores[query]))[:40]
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(found, scores[query][expected])


@pytest.mark.parametrize("count", [0, 1, 9, 3000])
def test_scores_of_all_signs_are_put_in_order(count: int) -> None:
    random = np.random.default_rng(count)
    least, most = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    some = np.array([-np.inf, -most, -1, -0.5, -least, -0.0, 0.0, least, 0.5, 1, most], np.float32)
    queries, scores = random.integers(0, 64, count), random.choice(some, count)
    np.testing.assert_array_equal(order(queries, scores), np.lexsort((-scores, queries)))


def test_many_queries_at_once_find_what_each_finds_alone(tmp_path: Path) -> None:
    with made(tmp_path, 3 * layout.BLOCK, "int8") as index:
        asked = rows(40, seed=7)
        together = index.search(asked, space=SPACE)
        alone = [index.search(query, space=SPACE) for query in asked]
        assert [[hit.id for hit in hits] for hits in together] == [[hit.id for hit in hits] for hits in alone]
