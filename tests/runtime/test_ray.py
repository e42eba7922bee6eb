"""Bulk embedding on Ray's local cluster of two workers."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles

import sanderling
from sanderling.errors import BundleError, InputError, MissingExtraError, SpaceError, StorageError

_REASON = 'the extra [ray] is not installed: pip install "sanderling[ray]"'
TEXTS = [" ".join(tiny_bundles.VOCABULARY[4 + (i * k) % 13] for k in range(1, 2 + i % 30)) for i in range(200)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason=_REASON)
    pytest.importorskip("ray.data", reason=_REASON)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture
def bulk(cluster: Any) -> Any:
    return importlib.import_module("sanderling.integrations.ray")


@pytest.fixture
def source(cluster: Any, tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "source"
    folder.mkdir()
    for number, first in enumerate(range(0, 200, 50)):
        rows = {"id": range(first, first + 50), "text": TEXTS[first : first + 50]}
        pq.write_table(pa.table(rows), folder / f"{number}.parquet", row_group_size=20)
    return folder


def vectors(folder: Path) -> dict[int, Any]:
    """The vectors of all parts in a folder, by the rows' ids; each id once."""
    import pyarrow.parquet as pq

    found: dict[int, Any] = {}
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path)
        for row, vector in zip(table.column("id").to_pylist(), table.column("vector").to_pylist(), strict=True):
            assert row not in found
            found[row] = vector
    return found


def as_one_process(bundle: Path, made: dict[int, Any]) -> int:
    """That every row is there, with the vector that one process answers; how many texts that truncated."""
    with sanderling.load(bundle, threads=1) as model:
        answers: Any = model(TEXTS, prompt="passage")
    assert sorted(made) == list(range(200))
    np.testing.assert_allclose(np.float32([made[row] for row in range(200)]), answers.embeddings, atol=1e-6)
    return sum(map(bool, answers.tokens_lost))


def workers_of() -> list[Any]:
    """Processes of the actors; Ray's own are children of this one."""
    psutil = pytest.importorskip("psutil")
    names = [(child, child.cmdline()[:1]) for child in psutil.Process().children(recursive=True)]
    return [child for child, name in names if name and name[0].startswith("ray::MapWorker")]


@pytest.mark.parametrize("name", ["ray", "parquet"])
def test_without_the_library_the_error_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = {"ray": "ray", "parquet": "pyarrow"}[name]
    for known in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sanderling.integrations.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "sanderling\[ray\]"'):
        importlib.import_module(f"sanderling.integrations.{name}")


def test_two_workers_give_what_one_process_gives_and_only_what_changed_is_made_again(
    bulk: Any, source: Path, tmp_path: Path, embedding_bundle: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    steps = []
    report = bulk.embed_parquet(
        source, tmp_path / "out", embedding_bundle, workers=2, rows=8, progress=lambda step: steps.append(step)
    )
    truncated = as_one_process(embedding_bundle, vectors(tmp_path / "out"))
    assert (report.rows, report.parts, report.unchanged, report.failed) == (200, 28, 0, {})
    assert report.workers in (1, 2)
    assert report.truncated == truncated > 0
    assert (steps[-1].done, steps[-1].total, steps[-1].embedded) == (200, 200, 200)
    again = bulk.embed_parquet(source, tmp_path / "out", embedding_bundle, workers=2, rows=8)
    assert (again.unchanged, again.truncated, again.removed) == (28, report.truncated, 0)
    pq.write_table(pa.table({"id": [150, 151], "text": ["the sea", None]}), source / "3.parquet")
    (source / "2.parquet").unlink()
    changed = bulk.embed_parquet(source, tmp_path / "out", embedding_bundle, workers=2, rows=8)
    assert (changed.rows, changed.parts, changed.unchanged, changed.removed, changed.empty) == (102, 15, 14, 13, 1)
    assert sorted(vectors(tmp_path / "out")) == [*range(100), 150, 151]
    with pytest.raises(SpaceError, match="Choose another folder"):
        bulk.embed_parquet(source, tmp_path / "out", embedding_bundle, dimensions=4)


def test_a_worker_killed_midway_loses_nothing(bulk: Any, source: Path, tmp_path: Path, embedding_bundle: Path) -> None:
    killed = []

    def kill(step: Any) -> None:
        if not killed:
            killed.extend(workers_of()[:1])
            killed[0].kill()

    report = bulk.embed_parquet(source, tmp_path / "out", embedding_bundle, workers=2, rows=4, progress=kill)
    assert len(killed) == 1
    assert (report.rows, report.failed) == (200, {})
    as_one_process(embedding_bundle, vectors(tmp_path / "out"))


def test_a_dataset_is_embedded_as_it_is_read(bulk: Any, source: Path, tmp_path: Path, embedding_bundle: Path) -> None:
    import ray

    read = ray.data.read_parquet(str(source))
    bulk.embed(read, embedding_bundle, workers=2, rows=16).write_parquet(str(tmp_path / "out"))
    as_one_process(embedding_bundle, vectors(tmp_path / "out"))


def test_what_is_wrong_is_said_and_what_was_made_is_kept(
    bulk: Any, source: Path, tmp_path: Path, embedding_bundle: Path, image_bundle: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = tmp_path / "out"
    with pytest.raises(InputError, match="a model that embeds texts was expected"):
        bulk.embed_parquet(source, out, image_bundle)
    with pytest.raises(InputError, match="no prompt 'poem'"):
        bulk.embed_parquet(source, out, embedding_bundle, prompt="poem")
    with pytest.raises(InputError, match="3 workers of 1 threads were asked for; the cluster has 2 cores"):
        bulk.embed_parquet(source, out, embedding_bundle, workers=3)
    with pytest.raises(BundleError, match="has no variant"):
        bulk.embed_parquet(source, out, embedding_bundle, variant="int3")
    with bulk._locked(out), pytest.raises(StorageError, match="Another run is writing"):
        bulk.embed_parquet(source, out, embedding_bundle)
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [1000], "text": broken}), source / "broken.parquet")
    report = bulk.embed_parquet(source, out, embedding_bundle, workers=2, rows=64)
    assert list(report.failed) == [str(out / "broken-0000000000.parquet")]
    assert "no valid UTF-8" in report.failed[str(out / "broken-0000000000.parquet")]
    as_one_process(embedding_bundle, vectors(out))
    # What is wrong with a machine ends the run, as the error that it was there.
    (source / "broken.parquet").unlink()
    for path in out.glob("*.parquet"):
        path.unlink()
        path.with_name(path.name).mkdir()
    with pytest.raises(StorageError, match="Could not write"):
        bulk.embed_parquet(source, out, embedding_bundle, workers=2, rows=64)


def test_the_command(
    bulk: Any,
    source: Path,
    embedding_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    from sanderling.cli import main

    def call(*arguments: object) -> tuple[Any, bytes]:
        monkeypatch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capfdbinary.readouterr().out

    status, out = call("embed", source, "-m", embedding_bundle, "--rows", 64, "--workers", 2, "--json")
    made = json.loads(out)
    assert (status, made["rows"], made["parts"], made["failed"]) == (0, 200, 4, {})
    assert Path(made["output"]) == source.with_name("source.vectors")
    as_one_process(embedding_bundle, vectors(Path(made["output"])))
    status, out = call("embed", source, "-m", embedding_bundle, "--rows", 64, "--workers", 2)
    assert (status, b"200 rows in 4 parts, 4 as before" in out) == (0, True)
    assert call("embed", source, "-m", embedding_bundle, "--column", "body")[0] == 1
