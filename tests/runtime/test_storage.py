"""Writing that fails, or is killed, at any point leaves what was there or what is new, and no litter for ever."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sanderling.errors import StorageError
from sanderling.storage import FileLock, is_staged, staging_folder, write_atomic

HOLDER = """
    import sys, time
    from pathlib import Path
    from sanderling.storage import staging_folder
    with staging_folder(Path(sys.argv[1])) as folder:
        (folder / "half.bin").write_bytes(b"half")
        print(folder.name, flush=True)
        time.sleep(600)
"""


def fail(number: int, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the call of that number of `os.<name>` fail as on a full disk."""
    real = getattr(os, name)
    calls = iter(range(10_000))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for data in (b"old", b"", b"new" * 100_000):
        write_atomic(tmp_path / "a.json", data)
        assert (tmp_path / "a.json").read_bytes() == data
        assert names(tmp_path) == ["a.json"]


def test_a_full_disk_while_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(b"old")
    fail(0, monkeypatch, "fsync")
    with pytest.raises(StorageError, match=r"Could not write .*a\.json: No space left.*before is unchanged; free some"):
        write_atomic(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flushing of folders")
def test_a_folder_that_cannot_be_flushed_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(b"old")
    fail(1, monkeypatch, "fsync")
    with pytest.raises(StorageError, match="is written, but the system did not confirm"):
        write_atomic(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits on the size of files")
def test_a_write_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"old")
    code = """
        import resource, signal, sys
        from pathlib import Path
        from sanderling.errors import StorageError
        from sanderling.storage import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_atomic(Path(sys.argv[1]), bytes(100_000))
        except StorageError as error:
            print(error)
    """
    process = started(code, tmp_path / "a.json")
    output, _ = process.communicate(timeout=60)
    assert "Could not write" in output
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_an_interruption_by_the_user_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.json", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/a.json", "file/a.json", "folder"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StorageError, match="Could not write"):
        write_atomic(tmp_path / place, b"new")
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == ["full"]


def test_a_staging_folder_is_gone_at_the_end_even_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "bundle"

    def build() -> None:
        with staging_folder(target) as folder:
            assert folder.parent == target.parent
            (folder / "half.bin").write_bytes(b"half")
            raise RuntimeError("the export failed")

    with pytest.raises(RuntimeError, match="the export failed"):
        build()
    assert names(target.parent) == []


@pytest.mark.parametrize("name", ["bundle", "model[1]", "*", "a b", "ünï", "bundle.staging-00000000"])
def test_what_a_killed_process_left_is_swept(name: str, tmp_path: Path) -> None:
    if sys.platform == "win32" and name == "*":
        pytest.skip("no name on Windows")
    target = tmp_path / name
    process = started(HOLDER, target)
    leftover = tmp_path / line(process)
    assert (leftover / "half.bin").exists()
    kill(process)
    assert leftover.exists()
    with staging_folder(target) as folder:
        assert not leftover.exists()
        assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_what_a_living_process_builds_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    process = started(HOLDER, target)
    try:
        other = tmp_path / line(process)
        token = other.name.rpartition("-")[2]
        assert is_staged(target, token)
        with staging_folder(target):
            assert (other / "half.bin").exists()
    finally:
        kill(process)
    assert not is_staged(target, token)


def test_nothing_but_its_own_leftovers_is_swept(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"")
    foreign = [
        ".bundle.staging-notes",
        ".bundle.staging-0123456G",
        ".bundle.staging-012345678",
        ".bundle.staging-",
        ".other.staging-01234567",
        "bundle.staging-01234567",
        ".bundle2.staging-01234567",
    ]
    for name in foreign:
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").write_bytes(b"")
        (tmp_path / name / "kept").write_bytes(b"")
    (tmp_path / ".bundle.staging-aaaaaaaa").write_bytes(b"a file of that name")
    if sys.platform != "win32":
        (tmp_path / ".bundle.staging-bbbbbbbb").symlink_to(elsewhere)
    before = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*"))
    with staging_folder(tmp_path / "bundle"):
        pass
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == before


def test_folders_without_a_lock_are_swept(tmp_path: Path) -> None:
    """A process was killed before it took its lock, or in the middle of sweeping."""
    empty, half = tmp_path / ".bundle.staging-00000001", tmp_path / ".bundle.staging-00000002"
    empty.mkdir()
    half.mkdir()
    (half / "model.onnx").write_bytes(b"")
    with staging_folder(tmp_path / "bundle") as folder:
        assert names(tmp_path) == [folder.name]


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, attempts = FileLock.acquire, []

    def swept_first(lock: FileLock) -> bool:
        attempts.append(lock)
        if len(attempts) <= 2:
            (swept,) = tmp_path.iterdir()
            swept.rmdir()
            if len(attempts) == 2:
                return True  # the lock was taken on a file that is no longer there
        return real(lock)

    monkeypatch.setattr(FileLock, "acquire", swept_first)
    with staging_folder(tmp_path / "bundle") as folder:
        assert len(attempts) == 3
        assert names(tmp_path) == [folder.name]


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b""), lambda p: (p / "x").mkdir(parents=True)])
def test_a_parent_that_is_a_file_is_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "parent")
    context = staging_folder(tmp_path / "parent" / "x" / "bundle")
    if (tmp_path / "parent").is_file():
        with pytest.raises(StorageError, match="Could not write beside"):
            context.__enter__()
    else:
        with context as folder:
            assert folder.is_dir()


def test_a_lock_is_held_by_one_and_let_go_by_release(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    second.release()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
