"""A folder's files in an index: what is read, how it is cut, what is embedded again; and the commands around it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import sanderling
from sanderling import Index, near_duplicates, recommend
from sanderling.errors import InputError, MissingExtraError, SearchIndexError, SpaceError, TextError
from sanderling.index import folder as folders
from sanderling.index import reading
from sanderling.index.chunks import chunks
from sanderling.tasks.feature_extraction import EmbeddingModel

TEXTS = {
    "sea.txt": "the sea",
    "notes/bird.md": "a bird\n\nthe shore and the sea",
    "page.html": "<html><script>var x = 1</script><body><p>the <b>bird</b></p><p>a shore &amp; sea</body></html>",
    "code.py": "sea = 'bird'\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    for name, text in TEXTS.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text, "utf-8")
    return made


@pytest.fixture
def model(embedding_bundle: Path) -> Any:
    with sanderling.load(embedding_bundle) as loaded:
        assert isinstance(loaded, EmbeddingModel)
        yield loaded


def brought(index: Index, folder: Path, model: EmbeddingModel) -> folders.Report:
    report = folders.Report()
    list(folders.update(index, folder, model, report, 64, 8))
    return report


def empty(folder: Path, model: EmbeddingModel) -> Index:
    return Index.create(folder.with_name("i"), space=model.space, dimension=model.dimension)


def test_only_what_changed_is_embedded_again(folder: Path, model: EmbeddingModel) -> None:
    with empty(folder, model) as index:
        report = brought(index, folder, model)
        assert (report.embedded, report.unchanged, report.gone, report.failed) == (4, 0, 0, {})
        assert index.metadata("page.html#0")["text"] == "the bird\na shore & sea"
        before = index.vectors(index.ids())
        assert brought(index, folder, model).unchanged == 4
        # Touched, but the same; changed; gone; new.
        os.utime(folder / "sea.txt", ns=(1, 1))
        (folder / "code.py").write_text("other = 'sea sea sea'\n")
        (folder / "page.html").unlink()
        (folder / "new.txt").write_text("the shore")
        report = brought(index, folder, model)
        assert (report.embedded, report.unchanged, report.gone) == (2, 2, 1)
        assert set(index.ids()) == {"sea.txt#0", "notes/bird.md#0", "code.py#0", "new.txt#0"}
        assert "other" in index.metadata("code.py#0")["text"]
        assert len(before) == 4
        index.check()


def test_a_file_without_a_text_is_counted_each_time_and_takes_its_pieces_with_it(
    folder: Path, model: EmbeddingModel
) -> None:
    (folder / "empty.md").write_text(" \n", "utf-8")
    with empty(folder, model) as index:
        report = brought(index, folder, model)
        assert (report.embedded, report.unchanged, report.empty) == (4, 0, 1)
        report = brought(index, folder, model)
        assert (report.embedded, report.unchanged, report.empty) == (0, 4, 1)
        before = len(index)
        (folder / "sea.txt").write_text("", "utf-8")
        report = brought(index, folder, model)
        assert (report.embedded, report.unchanged, report.empty) == (0, 3, 2)
        assert len(index) < before


def test_files_that_are_none_of_its_kind_are_counted_and_broken_ones_named(folder: Path, model: EmbeddingModel) -> None:
    (folder / "program").write_bytes(b"\x7fELF\0\0\1")
    (folder / "picture.png").write_bytes(tiny_bundles.png(tiny_bundles.PICTURE))
    (folder / "latin.txt").write_bytes("Möwe".encode("latin-1"))
    (folder / "wide.txt").write_bytes("the sea".encode("utf-16"))
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbfa bird")
    (folder / "empty.txt").write_bytes(b"")
    (folder / ".hidden.txt").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "round").symlink_to(folder / "round")
    with empty(folder, model) as index:
        report = brought(index, folder, model)
        assert report.failed == {"latin.txt": "This is no valid UTF-8 (byte 1); convert it first."}
        assert (report.embedded, report.empty) == (4 + 2, 1)
        assert index.metadata("wide.txt#0")["text"] == "the sea"
        assert index.metadata("marked.txt#0")["text"] == "a bird"
        assert not any("hidden" in name or "loop" in name or "round" in name for name in index.ids())
        assert report.other >= 3


def test_nothing_to_index_changes_nothing(folder: Path, model: EmbeddingModel, tmp_path: Path) -> None:
    with empty(folder, model) as index:
        brought(index, folder, model)
        (tmp_path / "nothing").mkdir()
        for wrong in (tmp_path / "nothing", tmp_path / "missing", folder / "sea.txt"):
            with pytest.raises(InputError):
                brought(index, wrong, model)
        assert len(index) == 4
    other = Index.create(tmp_path / "other", space="b" * 64, dimension=model.dimension)
    with pytest.raises(SpaceError):
        brought(other, folder, model)


def test_an_interruption_keeps_what_was_done(
    folder: Path, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_PIECES_AT_ONCE", 1)
    with empty(folder, model) as index:
        report = folders.Report()
        for step in folders.update(index, folder, model, report, 64, 8):
            if step.pieces == 2:
                break
        assert len(index) == 2
        rest = brought(index, folder, model)
        assert (rest.embedded, rest.unchanged) == (2, 2)


def test_images_are_items_of_an_image_model(image_bundle: Path, tmp_path: Path) -> None:
    assert reading.kind(tmp_path / "A.JPG") == "image"
    assert reading.kind(tmp_path / "a.pdf") == "pdf"
    assert reading.kind(tmp_path / "a.unknown") == "text"


def test_a_pdf_is_read_or_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pypdf = pytest.importorskip("pypdf")
    import io

    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    made = io.BytesIO()
    writer.write(made)
    assert reading.text(made.getvalue(), "pdf") == ""
    with pytest.raises(TextError, match="PDF cannot be read"):
        reading.text(b"%PDF-1.4 but no more", "pdf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "sanderling\[pdf\]"'):
        reading.text(made.getvalue(), "pdf")


def words(text: str) -> NDArray[np.int64]:
    import re

    return np.array([m.span() for m in re.finditer(r"\S+", text)], np.int64).reshape(-1, 2)


@given(st.text("ab \n", max_size=400), st.integers(2, 20), st.integers(0, 10))
def test_pieces_cover_every_word_in_order(text: str, size: int, overlap: int) -> None:
    found = list(chunks(text, words, size, min(overlap, size // 2)))
    covered = np.zeros(len(text), bool)
    for chunk in found:
        assert text[chunk.start :].startswith(chunk.text)
        assert chunk.line == 1 + text.count("\n", 0, chunk.start)
        assert 0 < len(words(chunk.text)) <= size
        covered[chunk.start : chunk.start + len(chunk.text)] = True
    assert all(covered[place] for place, letter in enumerate(text) if not letter.isspace())
    assert [chunk.start for chunk in found] == sorted({chunk.start for chunk in found})


def test_offsets_are_those_of_the_text(model: EmbeddingModel) -> None:
    front: Any = model.front
    text = "the sea, a bird" * 2000
    spans = front.offsets(text)
    assert len(spans) > 2000
    assert text[slice(*spans[1])] == "sea"
    assert front.offsets("").shape == (0, 2)
    assert front.room > 0


def test_groups_of_near_duplicates(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    base = random.standard_normal((40, 16)).astype(np.float32)
    twins = np.concatenate([base[[3, 3, 7]] + 1e-3, base])
    with Index.create(tmp_path / "i", space="a" * 64, dimension=16) as index:
        assert near_duplicates(index) == []
        index.add([str(n) for n in range(43)], twins, space="a" * 64)
        assert near_duplicates(index, 0.99) == [["0", "1", "6"], ["2", "10"]]
        assert near_duplicates(index, -1.0) == [[str(n) for n in range(43)]]
        with pytest.raises(InputError, match="min_cosine"):
            near_duplicates(index, 1.5)


def test_recommendation_is_by_what_is_liked_and_diverse(tmp_path: Path) -> None:
    def at(degrees: float) -> list[float]:
        return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]

    places = {"liked": 0, "near": 10, "nearer": 9, "far": -30, "disliked": 80, "opposite": 180}
    with Index.create(tmp_path / "i", space="a" * 64, dimension=2) as index:
        index.add(list(places), np.array([at(d) for d in places.values()]), space="a" * 64)
        plain = recommend(index, "liked", k=3, diversity=0)
        assert [hit.id for hit in plain] == ["nearer", "near", "far"]
        assert plain[0].score == pytest.approx(np.cos(np.radians(9)), abs=1e-6)
        assert [hit.id for hit in recommend(index, ["liked"], k=2, diversity=0.7)] == ["nearer", "opposite"]
        assert [hit.id for hit in recommend(index, ["liked"], k=2, diversity=0.4)] == ["nearer", "far"]
        assert [hit.id for hit in recommend(index, "liked", "disliked", 1, diversity=0)] == ["far"]
        for wrong in (
            {"liked": []},
            {"liked": "nobody"},
            {"liked": "liked", "diversity": 2},
            {"liked": "liked", "k": 0},
        ):
            arguments: Any = wrong
            with pytest.raises(InputError):
                recommend(index, **arguments)


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    from sanderling.cli import main

    def call(*arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfdbinary.readouterr()
        assert (ended.value.code or 0) == status, err
        return (out if status == 0 else err).decode()

    return call


def test_the_commands(folder: Path, embedding_bundle: Path, run: Run) -> None:
    target = folder.with_name("files.index")
    assert "sanderling index FOLDER -m BUNDLE" in run("index", folder, status=1)
    made = json.loads(run("index", folder, "-m", embedding_bundle, "--precision", "int8", "--json"))
    assert (made["embedded"], made["failed"], made["index"]) == (4, {}, str(target))
    assert json.loads(run("index", folder, "--json"))["unchanged"] == 4
    hits = [json.loads(line) for line in run("search", target, "a bird", "--json", "-k", "2").splitlines()]
    assert len(hits) == 2
    assert {"path", "id", "score", "line", "start", "text", "kind"} <= set(hits[0])
    only = [json.loads(line) for line in run("search", target, "a bird", "--json", "--kind", "html").splitlines()]
    assert [hit["path"] for hit in only] == ["page.html"]
    assert "notes/bird.md:1" in run("search", target, "the shore and the sea")
    like = [json.loads(line)["path"] for line in run("similar", target, "sea.txt", "--json").splitlines()]
    assert sorted(like) == ["code.py", "notes/bird.md", "page.html"]
    groups = [json.loads(line)["group"] for line in run("similar", target, "--min-cosine", "-1", "--json").splitlines()]
    assert [len(group) for group in groups] == [4]
    assert "was made with --tokens 200, not 50" in run("index", folder, "--tokens", "50", status=1)
    assert "neither a file nor an id" in run("similar", target, "nobody", status=1)
    assert "is no index" in run("search", folder, "a bird", status=1)
    refused = run("search", target, "a bird", "--kind", "song", status=1)
    assert "--kind is 'song'; one of text, html, pdf, image" in refused
    both = [json.loads(line) for line in run("search", target, "a bird", "--json").splitlines()]
    assert all(set(hit) >= {"cosine", "words"} for hit in both)
    assert {hit["path"] for hit in both if hit["words"] > 0} == {"notes/bird.md", "page.html", "code.py"}
    assert ", words " in run("search", target, "a bird")
    alone = [json.loads(line) for line in run("search", target, "a bird", "--json", "--no-words").splitlines()]
    assert all(hit["score"] == hit["cosine"] and "words" not in hit for hit in alone)
    (folder / "latin.txt").write_bytes(b"\xf6\xff")
    assert "latin.txt: This is no valid UTF-8" in run("index", folder, status=1)


def test_an_index_whose_bundle_moved_asks_for_it(
    folder: Path, copy_bundle: Any, embedding_bundle: Path, run: Run
) -> None:
    bundle, target = copy_bundle(embedding_bundle), folder.with_name("files.index")
    run("index", folder, "-m", bundle)
    moved = bundle.rename(bundle.with_name("moved"))
    for asked in (("search", target, "a bird"), ("index", folder)):
        assert "is not there any more; name it with -m BUNDLE" in run(*asked, status=1)
    assert json.loads(run("search", target, "a bird", "-m", moved, "--json", "-k", "1"))["id"]


def test_an_index_is_not_made_of_nothing(tmp_path: Path, embedding_bundle: Path, run: Run) -> None:
    (tmp_path / "empty").mkdir()
    assert "no index was made" in run("index", tmp_path / "empty", "-m", embedding_bundle, status=1)
    assert not (tmp_path / "empty.index").exists()
    with pytest.raises(SearchIndexError):
        Index.open(tmp_path / "empty.index")
