"""Approximate search: nearly all of the nearest, what came after the graph, and nothing that was deleted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sanderling import Index
from sanderling.errors import InputError, MissingExtraError, SearchIndexError, StorageError
from sanderling.index import layout

SPACE = "a" * 64


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    # Near a few directions, as texts are: without any structure no graph helps.
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(99).standard_normal((20, 32))
    return (middles[random.integers(0, 20, count)] + 0.5 * random.standard_normal((count, 32))).astype(np.float32)


def made(folder: Path, count: int) -> Index:
    index = Index.create(folder / "index", space=SPACE, dimension=32)
    index.add([str(n) for n in range(count)], rows(count), [{"n": n} for n in range(count)], space=SPACE)
    return index


def test_most_of_the_nearest_are_found_and_scored_exactly(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    queries = rows(40, seed=1)
    with made(tmp_path, 2000) as index:
        index.build_graph()
        index.delete([str(n) for n in range(0, 2000, 9)])
        index.add([f"late{n}" for n in range(50)], rows(50, seed=2), space=SPACE)
        exact: Any = index.search(queries, 10, space=SPACE)
    with Index.open(tmp_path / "index", writable=True) as index:
        found: Any = index.search_approximately(queries, 10, effort=128, space=SPACE)
        shared = 0
        for near, line in zip(exact, found, strict=True):
            scores = {hit.id: hit.score for hit in near}
            shared += len(scores.keys() & {hit.id for hit in line})
            assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-6) for hit in line if hit.id in scores)
            assert not any(hit.id.isdigit() and int(hit.id) % 9 == 0 for hit in line)
        assert shared >= 0.95 * 400
        assert any(hit.id.startswith("late") for line in found for hit in line)
        alone: Any = index.search_approximately(queries[0], 3, space=SPACE)
        assert len(alone) == 3
        index.build_graph()
        assert len(list((tmp_path / "index").glob("graph*"))) == 1
        index.check()
        with pytest.raises(InputError, match="effort"):
            index.search_approximately(queries[0], effort=0, space=SPACE)
        index.compact()
        with pytest.raises(SearchIndexError, match="has no graph"):
            index.search_approximately(queries[0], space=SPACE)
        assert not list((tmp_path / "index").glob("graph*"))


def test_a_damaged_graph_is_refused_and_exact_search_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    with made(tmp_path, 300) as index:
        index.build_graph()
    (path,) = (tmp_path / "index").glob("graph*")
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw[:100] + b"\xff" + raw[101:], b""):
        path.write_bytes(damaged)
        with Index.open(tmp_path / "index") as index:
            with pytest.raises(SearchIndexError, match="missing or damaged"):
                index.search_approximately(rows(1), space=SPACE)
            assert index.search(rows(1), space=SPACE)


def test_a_graph_that_cannot_be_written_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with made(tmp_path, 300) as index:
        monkeypatch.setattr("sanderling.storage.sync_file", full)
        with pytest.raises(StorageError, match="build the graph again"):
            index.build_graph()
        assert not list((tmp_path / "index").glob("graph*"))
        assert layout.read_header(tmp_path / "index").graph is None
        assert len(index) == 300


def test_without_usearch_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with made(tmp_path, 3) as index, pytest.raises(MissingExtraError, match=r'pip install "sanderling\[search\]"'):
        index.build_graph()


def test_codes_are_searched_after_a_graph_was_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    code = """
import sys
import numpy as np
from sanderling import Index
rows = np.random.default_rng(0).standard_normal((4200, 32))
for precision in ("float32", "int8"):
    with Index.create(f"{sys.argv[1]}/{precision}", space="s", dimension=32, precision=precision) as index:
        index.add([str(n) for n in range(len(rows))], rows, space="s")
        if precision == "float32":
            index.build_graph()
            index.search_approximately(rows[:3], space="s")
        print(len(index.search(rows[:3], space="s")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["3", "3"], done.stderr


def test_an_empty_graph_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    with Index.create(tmp_path / "index", space=SPACE, dimension=32) as index:
        index.build_graph()
        assert index.search_approximately(rows(1)[0], space=SPACE) == []
        index.add("late", rows(1)[0], space=SPACE)
        hits: Any = index.search_approximately(rows(1)[0], space=SPACE)
        assert [hit.id for hit in hits] == ["late"]
