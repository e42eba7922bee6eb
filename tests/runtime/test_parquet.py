"""Parquet in and out, part by part: what is read, what is written, and what is known again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import sanderling
from sanderling.errors import InputError, SpaceError, StorageError
from sanderling.tasks.feature_extraction import EmbeddingModel

pa = pytest.importorskip("pyarrow", reason='the extra [ray] is not installed: pip install "sanderling[ray]"')
import pyarrow.parquet as pq  # noqa: E402

from sanderling.integrations import parquet  # noqa: E402
from sanderling.integrations.parquet import How, Part  # noqa: E402

TEXTS = ["the sea", None, "a small bird runs", "", "word " * 40, "of the sea", "love it"]


@pytest.fixture(scope="module")
def model(embedding_bundle: Path) -> Any:
    with sanderling.load(embedding_bundle) as loaded:
        assert isinstance(loaded, EmbeddingModel)
        yield loaded


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two files, one of them with rows in groups of three."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    pq.write_table(pa.table({"id": range(7), "text": TEXTS}), folder / "all.parquet", row_group_size=3)
    pq.write_table(pa.table({"id": [7, 8], "text": ["a", "b"]}), folder / "deep" / "two.parquet")
    (folder / "_notes.parquet").write_bytes(b"no Parquet")
    (folder / "read.me").write_text("nor this")
    return folder


def carried_out(parts: list[Part], model: EmbeddingModel, how: How) -> list[bool]:
    for part in parts:
        Path(part.target).parent.mkdir(parents=True, exist_ok=True)
    return [parquet.carry_out(part, model, how)[1] for part in parts]


def test_every_row_is_in_one_part(source: Path, tmp_path: Path) -> None:
    found = parquet.parts(source, tmp_path / "out", "text", 4)
    assert [(Path(part.source).name, part.first, part.rows) for part in found] == [
        ("all.parquet", 0, 4),
        ("all.parquet", 4, 3),
        ("two.parquet", 0, 2),
    ]
    names = [Path(part.target).relative_to(tmp_path / "out").as_posix() for part in found]
    assert names == ["all-0000000000.parquet", "all-0000000004.parquet", "deep/two-0000000000.parquet"]
    (one,) = parquet.parts(source / "deep" / "two.parquet", tmp_path / "out", "text", 4)
    assert Path(one.target) == tmp_path / "out" / "two-0000000000.parquet"


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 100])
def test_the_parts_together_are_what_one_call_answers(
    source: Path, tmp_path: Path, model: EmbeddingModel, rows: int
) -> None:
    parts = parquet.parts(source / "all.parquet", tmp_path / "out", "text", rows)
    assert carried_out(parts, model, How("text", "passage")) == [False] * len(parts)
    table = pa.concat_tables(pq.read_table(part.target) for part in parts)
    assert table.column("id").to_pylist() == list(range(7))
    assert table.column("text").to_pylist() == TEXTS
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 8)
    there = [text for text in TEXTS if text is not None]
    expected = model(there, prompt="passage")
    vectors = [vector for vector in table.column("vector").to_pylist() if vector is not None]
    np.testing.assert_allclose(np.float32(vectors), expected.embeddings, atol=1e-6)
    assert table.column("vector").to_pylist()[1] is None
    lost = [row for row in table.column("tokens_lost").to_pylist() if row is not None]
    assert tuple(lost) == expected.tokens_lost
    assert max(lost) > 0
    assert table.column("characters_unread").null_count == 1
    said = [parquet.made(Path(part.target)) for part in parts]
    assert sum(of.empty for of in said if of) == 1
    assert sum(of.truncated for of in said if of) == 1


@pytest.mark.parametrize(("precision", "kind", "width"), [("float16", "halffloat", 8), ("binary", "uint8", 1)])
def test_other_precisions(model: EmbeddingModel, precision: Any, kind: str, width: int) -> None:
    made = parquet.embedded(pa.table({"text": TEXTS}), model, How("text", precision=precision))
    assert str(made.schema.field("vector").type) == f"fixed_size_list<item: {kind}>[{width}]"
    assert "scale" not in made.column_names


def test_int8_vectors_have_a_scale_each(model: EmbeddingModel) -> None:
    made = parquet.embedded(pa.table({"text": ["the sea", None]}), model, How("text", precision="int8"))
    expected = model(["the sea"], precision="int8")
    assert made.column("vector").to_pylist() == [expected.embeddings[0].tolist(), None]
    assert made.column("scale").to_pylist() == [pytest.approx(float(np.float32(expected.scales)[0])), None]


def test_rows_without_any_text_are_kept(model: EmbeddingModel) -> None:
    nothing = pa.table({"text": pa.array([None, None], pa.string())})
    made = parquet.embedded(nothing, model, How("text"))
    assert made.column("vector").to_pylist() == [None, None]
    words = pa.table({"text": pa.array(["the sea", "the sea"]).dictionary_encode()})
    assert parquet.embedded(words, model, How("text")).column("vector").null_count == 0


def test_a_part_is_known_again_by_its_content_and_how_it_was_made(
    source: Path, tmp_path: Path, model: EmbeddingModel
) -> None:
    how = How("text", "passage")
    parts = parquet.parts(source, tmp_path / "out", "text", 4)
    carried_out(parts, model, how)
    before = Path(parts[1].target).read_bytes()
    os.utime(source / "all.parquet", ns=(1, 1))
    assert carried_out(parts, model, how) == [True] * 3
    # Other rows, another setting, a file cut short: made again, and alike.
    pq.write_table(pa.table({"id": [7, 9], "text": ["a", "b"]}), source / "deep" / "two.parquet")
    assert carried_out(parts, model, how) == [True, True, False]
    assert carried_out(parts, model, How("text", "query")) == [False] * 3
    assert carried_out(parts, model, how) == [False] * 3
    Path(parts[1].target).write_bytes(before[:-20])
    assert parquet.made(Path(parts[1].target)) is None
    assert carried_out(parts, model, how) == [True, False, True]
    assert Path(parts[1].target).read_bytes() == before
    assert set(parquet.standing(tmp_path / "out")) == {Path(part.target) for part in parts}


def test_a_folder_of_other_vectors_is_refused(source: Path, tmp_path: Path, model: EmbeddingModel) -> None:
    out = tmp_path / "out"
    carried_out(parquet.parts(source, out, "text", 4), model, How("text"))
    parquet.check(parquet.standing(out), model.space, source, out)
    with pytest.raises(SpaceError, match="has vectors of the embedding space 5555555555555555"):
        parquet.check(parquet.standing(out), "b" * 64, source, out)
    with pytest.raises(InputError, match=r"out has the vectors of .*source, not of .*other\. Choose another folder"):
        parquet.check(parquet.standing(out), model.space, tmp_path / "other", out)


def test_a_part_that_cannot_be_written_leaves_nothing(
    source: Path, tmp_path: Path, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part, *_) = parts = parquet.parts(source, tmp_path / "out", "text", 4)
    carried_out(parts, model, How("text"))
    before = Path(part.target).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        parquet.carry_out(part, model, How("text", "query"))
    assert Path(part.target).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "all-0000000000.parquet",
        "all-0000000004.parquet",
        "deep",
    ]
    (tmp_path / "out" / ".all-0000000000.parquet.0a1b2c3d.partial").write_bytes(before[:100])
    parquet.sweep(tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_part_that_ends_every_process_is_given_up(source: Path, tmp_path: Path) -> None:
    (part, *_) = parquet.parts(source, tmp_path, "text", 4)
    name = f".{Path(part.target).name}"
    for number in range(3):
        with parquet.taken(part):
            assert len(list(tmp_path.glob(f"{name}.*.taken"))) == number + 1
            left = [(path, path.read_bytes()) for path in tmp_path.glob(f"{name}.*.taken")]
        assert not list(tmp_path.glob(f"{name}.*.taken"))
        for path, data in left:  # as a process that was killed leaves them
            path.write_bytes(data)
    with pytest.raises(InputError, match="3 workers ended while they made it"), parquet.taken(part):
        pass
    parquet.sweep(tmp_path)
    with parquet.taken(part):
        pass
    with (
        pytest.raises(StorageError, match="Could not write"),
        parquet.taken(replace(part, target=str(tmp_path / "no" / "folder"))),
    ):
        pass


def test_what_cannot_be_embedded_is_refused(source: Path, tmp_path: Path, model: EmbeddingModel) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="has no column 'body'; it has id, text"):
        parquet.parts(source, out, "body", 4)
    with pytest.raises(InputError, match="'id' is of the type int64; texts"):
        parquet.parts(source, out, "id", 4)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        parquet.parts(tmp_path / "missing", out, "text", 4)
    with pytest.raises(InputError, match="is inside"):
        parquet.parts(source, source / "out", "text", 4)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="There is no Parquet file"):
        parquet.parts(tmp_path / "nothing", out, "text", 4)
    (part, *_) = parquet.parts(source, out, "text", 4)
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), source / "all.parquet")
    with pytest.raises(InputError, match="has become shorter"):
        parquet.carry_out(part, model, How("text"))
    pq.write_table(pa.table({"text": ["a"], "vector": [1]}), source / "deep" / "two.parquet")
    with pytest.raises(InputError, match="has a column 'vector' already"):
        parquet.parts(source, out, "text", 4)
    shutil.copy(source / "read.me", source / "cut.parquet")
    with pytest.raises(InputError, match=r"cut\.parquet cannot be read as Parquet"):
        parquet.parts(source, out, "text", 4)
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    with pytest.raises(InputError, match="no valid UTF-8"):
        parquet.embedded(pa.table({"text": broken}), model, How("text"))
