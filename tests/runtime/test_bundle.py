"""Bundles that were damaged, tampered with or misplaced are refused by name; the stamp spares hashing and no more."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import tiny_bundles

from sanderling import bundle as module
from sanderling import cache, load
from sanderling.bundle import Bundle, open_bundle
from sanderling.errors import BundleError, GraphError, IntegrityError, ManifestError
from sanderling.manifest import MANIFEST_NAME

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links, pipes and change times")


@pytest.fixture
def folder(image_bundle: Path, copy_bundle: Callable[[Path], Path]) -> Path:
    """A bundle for one test to change."""
    return copy_bundle(image_bundle)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, as they are."""
    names: list[str] = []
    real = module.file_sha256

    def noted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "file_sha256", noted)
    return names


def name_of(bundle: Bundle, ending: str) -> str:
    (name,) = (name for name in bundle.manifest.files if name.endswith(ending))
    return name


def weights(folder: Path) -> Path:
    return tiny_bundles.find(folder, "fp32/weights.bin")


def assert_refused(folder: Path, message: str, kind: type[BundleError] = IntegrityError) -> None:
    """A load, a full load and a check of all files refuse the bundle alike."""
    for check in (
        lambda: load(folder),
        lambda: load(folder, integrity="full"),
        lambda: open_bundle(folder).verify_all(),
    ):
        with pytest.raises(kind, match=message):
            check()


def test_a_whole_bundle_opens(folder: Path) -> None:
    bundle = open_bundle(str(folder))
    assert bundle.path == folder
    assert bundle.digest == module.file_sha256(folder / MANIFEST_NAME)
    bundle.verify_all()
    assert bundle.read(name_of(bundle, "shore.png")) == tiny_bundles.png(tiny_bundles.PICTURE)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "does not exist; a bundle is a folder with a bundle.json"),
        ("file", "is a file; a bundle is a folder"),
        ("file/below", "does not exist|cannot be read"),
        ("empty", "has no bundle.json, so it is no bundle. Make one with: sanderling export"),
        ("x" * 5000, "cannot be read|does not exist"),
        ("a\0b", "does not exist|cannot be read"),
    ],
)
def test_places_that_hold_no_bundle(place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path / place)


def test_an_unknown_integrity_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match='integrity is \'none\'; it takes "stamp" or "full"'):
        open_bundle(folder, integrity="none")  # type: ignore[arg-type]


def test_a_manifest_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(ManifestError, match="a manifest has at most 10"):
        open_bundle(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000])
def test_a_damaged_manifest_names_its_file(data: bytes, folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(ManifestError, match=r"tiny-shore.bundle\.json is no valid manifest"):
        load(folder)


@posix
def test_a_manifest_that_is_no_plain_file(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST_NAME).rename(tmp_path / "elsewhere.json")
    (folder / MANIFEST_NAME).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(IntegrityError, match="is a link"):
        open_bundle(folder)
    (folder / MANIFEST_NAME).unlink()
    os.mkfifo(folder / MANIFEST_NAME)
    with pytest.raises(IntegrityError, match="is not a regular file"):
        open_bundle(folder)
    (folder / MANIFEST_NAME).unlink()
    (folder / MANIFEST_NAME).mkdir()
    with pytest.raises(IntegrityError, match="is not a regular file"):
        open_bundle(folder)


def test_a_missing_file(folder: Path) -> None:
    weights(folder).unlink()
    assert_refused(folder, r"weights\.bin is not the file that was sealed: it is missing\. Copy the bundle again")


def test_a_file_of_another_size(folder: Path) -> None:
    with weights(folder).open("ab") as file:
        file.write(b"x")
    assert_refused(folder, r"sealed: [\d,]+ bytes, expected [\d,]+")


def test_a_file_of_other_bytes(folder: Path) -> None:
    flip(weights(folder))
    assert_refused(folder, "its SHA-256 is not the manifest's")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@posix
@pytest.mark.parametrize("kind", ["link", "link of the folder", "dangling link", "folder", "pipe", "loop"])
def test_a_file_that_is_no_plain_file(kind: str, folder: Path, tmp_path: Path) -> None:
    path = weights(folder)
    outside = tmp_path / "outside"
    shutil.copytree(path.parent, outside)
    message = "is a link; a bundle holds its own files"
    if kind == "link of the folder":
        shutil.rmtree(path.parent)
        path.parent.symlink_to(outside)
    else:
        path.unlink()
        if kind == "link":
            path.symlink_to(outside / path.name)
        elif kind == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        elif kind == "loop":
            path.symlink_to(path)
        else:
            path.mkdir() if kind == "folder" else os.mkfifo(path)
            message = "is not a regular file"
    assert_refused(folder, message)


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    parent = weights(folder).parent
    shutil.rmtree(parent)
    parent.write_bytes(b"")
    assert_refused(folder, "is missing|cannot be read|not a regular file")


def test_a_file_that_is_not_listed_is_ignored_and_not_given_out(folder: Path) -> None:
    (weights(folder).parent / "extra.bin").write_bytes(b"x")
    bundle = open_bundle(folder)
    bundle.verify_all()
    for name in ("extra.bin", "../" + folder.name, MANIFEST_NAME, "/etc/passwd"):
        with pytest.raises(IntegrityError, match="is not in the list of files"):
            bundle.require([name])


def test_a_stamp_spares_hashing_and_full_does_not_trust_it(folder: Path, hashed: list[str]) -> None:
    names = sorted(open_bundle(folder).manifest.files)
    open_bundle(folder).require(names)
    assert len(hashed) == len(names)
    hashed.clear()
    open_bundle(folder).require(names)
    assert hashed == []
    open_bundle(folder, integrity="full").require(names)
    assert len(hashed) == len(names)
    hashed.clear()
    open_bundle(folder).verify_all()
    assert len(hashed) == len(names)


def test_only_what_changed_is_hashed_again(folder: Path, hashed: list[str]) -> None:
    open_bundle(folder).require(open_bundle(folder).manifest.files)
    hashed.clear()
    path = weights(folder)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))
    open_bundle(folder).require(open_bundle(folder).manifest.files)
    assert hashed == ["weights.bin"]


@posix
def test_same_size_and_restored_time_do_not_deceive_the_stamp(folder: Path) -> None:
    load(folder).close()
    path = weights(folder)
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of a file system may be coarse
        flip(path)
        flip(path)
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_size == before.st_size
    with pytest.raises(IntegrityError, match="SHA-256"):
        load(folder)


def test_a_replaced_file_of_the_same_times_does_not_deceive_the_stamp(folder: Path) -> None:
    load(folder).close()
    path = weights(folder)
    other = path.with_name("other.bin")
    shutil.copy2(path, other)
    flip(other)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    with pytest.raises(IntegrityError, match="SHA-256"):
        load(folder)


def test_a_stamp_is_of_one_manifest(folder: Path, hashed: list[str]) -> None:
    """The same files under another manifest are checked anew: it may state other hashes."""
    names = sorted(open_bundle(folder).manifest.files)
    open_bundle(folder).require(names)
    hashed.clear()
    raw = (folder / MANIFEST_NAME).read_bytes()
    (folder / MANIFEST_NAME).write_bytes(raw.replace(b"made by hand", b"made by foot"))
    open_bundle(folder).require(names)
    assert len(hashed) == len(names)


@pytest.mark.parametrize("record", [b"", b"{", b"null", b"[]", b'{"a": 1}', b'{"a": [1, 2]}', b"\xff", b"[" * 100_000])
def test_a_damaged_cache_costs_time_only(record: bytes, folder: Path, cache_folder: Path, hashed: list[str]) -> None:
    names = sorted(open_bundle(folder).manifest.files)
    open_bundle(folder).require(names)
    (path,) = cache_folder.rglob("*.json")
    path.write_bytes(record)
    hashed.clear()
    open_bundle(folder).require(names)
    assert len(hashed) == len(names)
    hashed.clear()
    open_bundle(folder).require(names)
    assert hashed == []


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_bytes(b"")
    monkeypatch.setenv("SANDERLING_CACHE", str(tmp_path / "taken" / "cache"))
    for _ in range(2):
        load(folder).close()
    assert (tmp_path / "taken").read_bytes() == b""
    flip(weights(folder))
    with pytest.raises(IntegrityError):
        load(folder)


def test_a_user_without_a_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run under a user id that no account has."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SANDERLING_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    load(folder).close()
    assert cache.read("verified", "0" * 40, dict[str, int]) is None


@posix
def test_a_stamp_of_another_place_is_not_used(folder: Path, tmp_path: Path, hashed: list[str]) -> None:
    """A link to the bundle's folder may lead to another one tomorrow."""
    link = tmp_path / "current"
    link.symlink_to(folder)
    names = sorted(open_bundle(link).manifest.files)
    open_bundle(link).require(names)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    link.unlink()
    link.symlink_to(moved)
    hashed.clear()
    open_bundle(link).require(names)
    assert len(hashed) == len(names)


@pytest.mark.parametrize("location", ["../../../outside.bin", "/etc/passwd", "extra.bin"])
def test_a_graph_that_leads_out_is_refused_however_well_sealed(location: str, folder: Path) -> None:
    path = tiny_bundles.find(folder, "fp32/model.onnx")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    shutil.copy(weights(folder), folder.parent / "outside.bin")
    shutil.copy(weights(folder), path.parent / "extra.bin")
    tiny_bundles.reseal(folder)
    assert_refused(folder, "reads its weights from .* which the manifest does not list", GraphError)


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.99])
def test_a_graph_that_is_cut_is_refused_however_well_sealed(keep: float, folder: Path) -> None:
    path = tiny_bundles.find(folder, "fp32/model.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    tiny_bundles.reseal(folder)
    with pytest.raises(GraphError):
        load(folder)
