"""An export that fails or is killed leaves the old bundle or the new one, whole, and nothing beside it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sanderling
from sanderling import sealing, storage
from sanderling.errors import DriftError, StorageError
from sanderling_export import drift, graphs, pipeline
from sanderling_export.pipeline import export

# Commits the bundle at argv[1] to argv[2] again and again, under names of its own, until it is killed.
WRITER = """
import shutil, sys
from pathlib import Path
from msgspec.structs import replace
import sanderling
from sanderling import sealing
from sanderling.storage import staging_folder
import msgspec
from sanderling.codec import encode
from sanderling.manifest import Manifest
source, target = Path(sys.argv[1]), Path(sys.argv[2])
raw = (source / "bundle.json").read_text()
(old,) = (p.name for p in source.iterdir() if p.is_dir())
print("ready", flush=True)
while True:
    with staging_folder(target) as staging:
        build = sealing.build_folder(staging)
        shutil.copytree(source / old, build, dirs_exist_ok=True)
        manifest = msgspec.json.decode(raw.replace(old, build.name), type=Manifest)
        sealing.commit_bundle(staging, replace(manifest, files=sealing.list_files(staging)), target)
"""
KILLS = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[[str], Path], lines: Path) -> Path:
    return export(checkpoint("bert"), tmp_path_factory.mktemp("bundles") / "old", data=lines)


def whole(path: Path) -> str:
    """The digest of a bundle every file of which is as sealed."""
    opened = sanderling.open_bundle(path, integrity="full")
    opened.verify_all()
    return opened.digest


def beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p != path)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (graphs, "save"),
        (graphs.onnx, "save_model"),
        (pipeline.golden, "save"),
        (sealing, "sync_file"),
        (sealing, "write_atomic"),
        (storage.Path, "mkdir"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failing_write_leaves_the_old_bundle(
    owner: object,
    name: str,
    bundle: Path,
    checkpoint: Callable[[str], Path],
    lines: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, neighbours = whole(bundle), beside(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full_disk)
        with pytest.raises(StorageError, match="No space left"):
            export(checkpoint("distilbert"), bundle, data=lines, variants=["fp32"])
    assert whole(bundle) == before
    assert beside(bundle) == neighbours


def test_a_variant_below_its_floor_is_refused_or_kept_on_demand(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    honest = drift.measure

    def pessimist(rows, expected, *, labels, names):  # type: ignore[no-untyped-def]
        return honest(rows if (rows == expected).all() else -rows, expected, labels=labels, names=names)

    monkeypatch.setattr(drift, "measure", pessimist)
    with pytest.raises(DriftError, match=r"mean cosine -1\.0000, floor 0\.9999.*--keep-failing"):
        export(checkpoint("bert"), target, data=lines, variants=["fp32"])
    assert not target.exists()
    assert beside(target) == []
    export(checkpoint("bert"), target, data=lines, variants=["fp32"], keep_failing=True)
    notes = sanderling.open_bundle(target).manifest.provenance.notes
    assert any("fp32 is below its floor" in note for note in notes)


def test_a_folder_with_other_things_is_not_overwritten(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable", encoding="utf-8")
    with pytest.raises(StorageError, match="other things"):
        export(checkpoint("bert"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_said_before_anything_is_converted(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    stages: list[str] = []
    with pytest.raises(StorageError, match="Could not write beside"):
        export(checkpoint("bert"), tmp_path / "file" / "bundle", progress=stages.append)
    assert stages == ["resolve the checkpoint"]


def test_a_second_export_replaces_the_first_and_sweeps_it(
    bundle: Path, checkpoint: Callable[[str], Path], lines: Path
) -> None:
    before = whole(bundle)
    export(checkpoint("bert"), bundle, data=lines)
    assert whole(bundle) != before
    assert len([p for p in bundle.iterdir() if p.is_dir()]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_killed_at_random_moments_while_committing(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    draw = random.Random(11)
    digests = set()
    for _ in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(bundle), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0.0, 0.25))
            os.kill(process.pid, signal.SIGKILL)
        if target.exists() and (target / "bundle.json").exists():
            digests.add(whole(target))
    assert len(digests) > 1
    # What the killed ones left is swept by the next writing.
    with storage.staging_folder(target):
        pass
    assert beside(target) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX rights")
def test_all_files_are_readable_by_those_who_may_read_the_manifest(bundle: Path) -> None:
    rights = {p.stat().st_mode & 0o777 for p in bundle.rglob("*") if p.is_file()}
    assert rights == {(bundle / "bundle.json").stat().st_mode & 0o777}
