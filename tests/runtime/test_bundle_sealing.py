"""A bundle that is written is the old one or the new one, whichever moment the writing ends at."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from sanderling.bundle import open_bundle
from sanderling.codec import decode, encode
from sanderling.errors import StorageError
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.sealing import build_folder, check_target, commit_bundle, list_files
from sanderling.storage import FileLock, staging_folder

# Writes the bundle at argv[1] again and again to argv[2], each time with another number in `round.txt`.
# From the operation argv[3] of the second writing on (0: never), it ends as after kill -9.
WRITER = """
    import itertools, os, sys
    from pathlib import Path
    import msgspec
    from sanderling.codec import decode
    from sanderling.sealing import build_folder, commit_bundle, list_files
    from sanderling.storage import staging_folder

    template, target, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    raw = (template / "bundle.json").read_bytes()
    (old,) = {name.partition("/")[0] for name in decode(raw, "").files}
    contents = {p.relative_to(template / old): p.read_bytes() for p in (template / old).rglob("*") if p.is_file()}

    def write(number):
        with staging_folder(target) as staging:
            build = build_folder(staging)
            for name, data in [*contents.items(), (Path("round.txt"), b"%d" % number)]:
                (build / name).parent.mkdir(parents=True, exist_ok=True)
                (build / name).write_bytes(data)
            named = decode(raw.replace(old.encode(), build.name.encode()), "")
            manifest = msgspec.structs.replace(named, files=list_files(staging))
            commit_bundle(staging, manifest, target)

    write(0)
    operations = itertools.count(1)
    WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}

    def watch(event, arguments):
        if event in WATCHED and next(operations) == last:
            os._exit(9)

    if last:
        sys.addaudithook(watch)
        write(1)
    else:
        print("ready", flush=True)
        for number in itertools.count(1):
            write(number)
"""


@pytest.fixture
def template(image_bundle: Path) -> Path:
    return image_bundle


def command(template: Path, target: Path, last: int) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(WRITER), str(template), str(target), str(last)]


def number(target: Path) -> int:
    """Which writing stands at `target`, after every file of it was checked."""
    bundle = open_bundle(target, integrity="full")
    bundle.verify_all()
    (name,) = (name for name in bundle.manifest.files if name.endswith("round.txt"))
    return int(bundle.read(name))


def assert_clean(target: Path) -> None:
    """Nothing is at and beside `target` but what the manifest names."""
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    files = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert files == {MANIFEST_NAME, *open_bundle(target).manifest.files}


def test_killed_at_random_moments(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "bundle"
    seen = set()
    moments = random.Random(3)
    for _ in range(12):
        process = subprocess.Popen(command(template, target, 0), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.08))
            process.kill()
            process.wait(30)
        seen.add(number(target))
    assert len(seen) > 1, "the moments were not random enough to be a test"
    write(template, target)
    assert_clean(target)


def test_killed_at_every_operation_on_files(template: Path, tmp_path: Path) -> None:
    numbers = []
    for last in range(1, 400, 3):
        target = tmp_path / str(last) / "bundle"
        ended = subprocess.run(command(template, target, last), check=False, timeout=60).returncode
        assert ended in (0, 9)
        numbers.append(number(target))
        write(template, target)
        assert_clean(target)
        if ended == 0:
            break
    else:
        pytest.fail("the writing never came to its end")
    assert numbers == sorted(numbers), "once the new bundle is there it stays"
    assert set(numbers) == {0, 1}


def made(staging: Path, template: Path) -> Manifest:
    """The template's files, copied to the build folder of `staging`, and a manifest of them."""
    build = build_folder(staging)
    raw = (template / MANIFEST_NAME).read_bytes()
    (old,) = {name.partition("/")[0] for name in decode(raw, "").files}
    shutil.copytree(template / old, build, dirs_exist_ok=True)
    named = decode(raw.replace(old.encode(), build.name.encode()), "here")
    assert named.files.keys() == list_files(staging).keys()
    return named


def write(template: Path, target: Path) -> None:
    with staging_folder(target) as staging:
        commit_bundle(staging, made(staging, template), target)


def failing_calls() -> list[tuple[str, int]]:
    """Each call that the commit makes of each function that can fail: enough of each to see it end."""
    counts = {"fsync": 12, "rename": 3, "replace": 2, "mkdir": 2, "open": 14}
    return [(name, call) for name, calls in counts.items() for call in range(calls)]


@pytest.mark.parametrize(("name", "call"), failing_calls())
@pytest.mark.parametrize("first", [True, False])
def test_a_disk_that_fails_at_any_call(
    name: str, call: int, first: bool, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "bundle"
    old = None
    if not first:
        write(template, target)
        old = open_bundle(target).digest
    error = None
    with staging_folder(target) as staging:
        manifest = made(staging, template)
        real, calls = getattr(os, name), iter(range(10_000))

        def failing(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                commit_bundle(staging, manifest, target)
            except StorageError as caught:
                error = str(caught)
    written = error is None or "is written" in error
    if written or not first:
        bundle = open_bundle(target, integrity="full")
        bundle.verify_all()
        assert (bundle.digest != old) == written
    else:
        assert not target.exists()
    if error is not None and not written:
        assert "What stood there before is unchanged" in error
        assert sum(path.name.startswith("build-") for path in target.glob("*")) == (not first)
    write(template, target)
    assert_clean(target)


def test_the_moved_files_are_the_sealed_ones(template: Path, tmp_path: Path) -> None:
    """Files at the top of a bundle are moved like those in folders: a writer may put them there."""
    target = tmp_path / "bundle"
    with staging_folder(target) as staging:
        manifest = made(staging, template)
        (staging / "NOTICE").write_bytes(b"notice")
        raw = encode(manifest).replace(
            b'"files": {', b'"files": {"NOTICE": {"size": 6, "sha256": "%s"},' % sha(b"notice")
        )
        commit_bundle(staging, decode(raw, "here"), target)
    open_bundle(target).verify_all()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def test_names_that_an_older_bundle_uses_are_not_overwritten(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(template, target)
    (target / "NOTICE").write_bytes(b"old")
    digest = open_bundle(target).digest
    with staging_folder(target) as staging:
        manifest = made(staging, template)
        (staging / "NOTICE").write_bytes(b"new")
        with pytest.raises(StorageError, match="is there already"):
            commit_bundle(staging, manifest, target)
    assert (target / "NOTICE").read_bytes() == b"old"
    assert open_bundle(target).digest == digest
    open_bundle(target).verify_all()


def test_read_only_files_are_sealed_too(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with staging_folder(target) as staging:
        manifest = made(staging, template)
        for path in staging.rglob("*.png"):
            path.chmod(0o444 if sys.platform != "win32" else 0o666)
        commit_bundle(staging, manifest, target)
    open_bundle(target).verify_all()


@pytest.mark.parametrize(
    "contents",
    [
        {"notes.txt": "x"},
        {"build-release/main.o": "x", "main.c": "x"},
        {"build-release/main.o": "x"},
        {"build-0123456g/x": "x"},
        {MANIFEST_NAME: "{}"},
        {MANIFEST_NAME: '{"format": "webpack", "version": "1.0"}', "index.js": "x"},
        {MANIFEST_NAME: "not json", "index.js": "x"},
        {f"{MANIFEST_NAME}/x": "x"},
        {".git/config": "x", "src/main.c": "x"},
    ],
)
def test_foreign_folders_are_refused_and_left_as_they_are(
    contents: dict[str, str], template: Path, tmp_path: Path
) -> None:
    target = tmp_path / "project"
    for name, text in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    with pytest.raises(StorageError, match=r"is a folder with other things in it, and no bundle; give a new folder"):
        write(template, target)
    found = {p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("*") if p.is_file()}
    assert found == contents
    assert [p.name for p in tmp_path.iterdir()] == ["project"]


def test_a_file_is_no_target(template: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"mine")
    with pytest.raises(StorageError, match="is a file; give a folder"):
        write(template, tmp_path / "bundle")
    assert (tmp_path / "bundle").read_bytes() == b"mine"


def test_what_the_user_put_into_a_bundle_stays(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(template, target)
    mine = ["notes.txt", "build-notes/a.txt", "build-0123456/x", ".git/config", "Build-01234567/x"]
    for name in mine:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    if sys.platform != "win32":
        (target / "build-89abcdef").symlink_to(outside)
    write(template, target)
    assert all((target / name).read_text() == "mine" for name in mine)
    assert (outside / "precious").read_text() == "mine"
    assert len(list(target.glob("build-????????"))) == (2 if sys.platform != "win32" else 1)


@pytest.mark.parametrize(
    "contents", [[], [".DS_Store"], ["build-01234567/model.onnx"], [".bundle.json.01234567.partial"]]
)
def test_empty_folders_and_leftovers_are_written_to(contents: list[str], template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    for name in contents:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(b"")
    check_target(target)
    write(template, target)
    open_bundle(target).verify_all()
    assert not (target / "build-01234567").exists()
    assert not (target / ".bundle.json.01234567.partial").exists()


def test_a_bundle_of_a_future_version_may_be_replaced(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(template, target)
    (target / MANIFEST_NAME).write_text('{"format": "sanderling-bundle", "version": "7.0"}')
    write(template, target)
    assert_clean(target)


def test_what_another_process_is_about_to_commit_is_not_swept(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(template, target)
    (target / "build-01234567").mkdir()
    (target / "build-01234567" / "model.onnx").write_bytes(b"moved, and its manifest is not yet written")
    staging = tmp_path / ".bundle.staging-01234567"
    staging.mkdir()
    lock = FileLock(staging / ".lock")
    assert lock.acquire()
    write(template, target)
    assert (target / "build-01234567" / "model.onnx").exists()
    lock.release()
    write(template, target)
    assert_clean(target)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits on the size of files")
def test_a_disk_too_small_for_the_manifest(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write(template, target)
    digest = open_bundle(target).digest
    limit = (target / MANIFEST_NAME).stat().st_size - 100
    code = """
        import resource, signal, sys
        from pathlib import Path
        from sanderling.errors import StorageError
        from sanderling.codec import decode
        from sanderling.sealing import commit_bundle
        from sanderling.storage import staging_folder
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        target = Path(sys.argv[1])
        manifest = decode((target / "bundle.json").read_bytes().replace(b'"tiny-shore"', b'"other"'), "")
        with staging_folder(target) as staging:
            (staging / "build-00000000").mkdir()
            (staging / "build-00000000" / "x").write_bytes(b"x")
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
            try:
                commit_bundle(staging, manifest, target)
            except StorageError as error:
                print(error)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(target), str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert "What stood there before is unchanged" in ended.stdout
    assert open_bundle(target).digest == digest
    open_bundle(target).verify_all()
    assert_clean(target)
