"""`trim`: fewer variants, in place or in a new folder, and the whole old bundle after any interruption."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
import tiny_bundles

import sanderling
from sanderling import sealing, trimming
from sanderling.codec import encode
from sanderling.errors import BundleError, IntegrityError, StorageError
from sanderling.manifest import MANIFEST_NAME
from sanderling.schema.variants import Form
from sanderling.trimming import trim

CopyBundle = Callable[[Path], Path]


def files(bundle: Path) -> set[str]:
    return {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}


def size(bundle: Path) -> int:
    return sum((bundle / name).stat().st_size for name in files(bundle) - {MANIFEST_NAME})


def test_in_place_the_other_variants_files_are_gone(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    before = size(bundle)
    done = trim(bundle, ["int8-dynamic"])
    assert (done.path, done.kept, done.before, done.after) == (bundle, ("int8-dynamic",), before, size(bundle))
    assert not any("fp32" in name for name in files(bundle))
    assert sorted(path.name for path in bundle.iterdir())[1:] == [MANIFEST_NAME]
    assert sanderling.verify(bundle).held
    with sanderling.load(bundle) as model:
        assert model.variant == "int8-dynamic"


def test_into_a_new_folder_the_old_bundle_stays(embedding_bundle: Path, tmp_path: Path) -> None:
    before = files(embedding_bundle)
    done = trim(embedding_bundle, ["fp32"], tmp_path / "deep" / "new")
    assert files(embedding_bundle) == before
    assert done.path == tmp_path / "deep" / "new"
    assert (done.before, done.after) == (size(embedding_bundle), size(done.path))
    assert sanderling.verify(done.path).held
    assert [path.name for path in done.path.parent.iterdir()] == ["new"]


def test_keeping_all_keeps_all(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    done = trim(bundle, ["int8-dynamic", "fp32", "fp32"])
    assert done.kept == ("int8-dynamic", "fp32")
    assert tiny_bundles.read_manifest(bundle) == tiny_bundles.read_manifest(embedding_bundle)


def test_weights_that_a_kept_variant_shares_stay(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)

    def sharing(manifest: sanderling.bundle.Manifest) -> sanderling.bundle.Manifest:  # type: ignore[name-defined]
        component = manifest.components["model"]
        exact = component.variants["fp32"]
        both = Form(exact.forms["padded"].graph, exact.forms["padded"].data)
        variants = {**component.variants, "copy": msgspec.structs.replace(exact, forms={"padded": both})}
        changed = msgspec.structs.replace(component, variants=variants)
        return msgspec.structs.replace(manifest, components={"model": changed})

    tiny_bundles.reseal(bundle, sharing)
    trim(bundle, ["copy"])
    assert sanderling.verify(bundle).held


def test_a_bundle_laid_out_otherwise_is_copied_whole(embedding_bundle: Path, tmp_path: Path) -> None:
    """The names of files are the writer's choice: another may put them at the top."""
    flat = tmp_path / "flat"
    (build,) = (path for path in embedding_bundle.iterdir() if path.is_dir())
    shutil.copytree(build, flat)
    text = (embedding_bundle / MANIFEST_NAME).read_text("utf-8").replace(f"{build.name}/", "")
    (flat / MANIFEST_NAME).write_text(text, "utf-8")
    assert sanderling.verify(flat).held
    trim(flat, ["fp32"], tmp_path / "new")
    assert sanderling.verify(tmp_path / "new").held
    trim(flat, ["fp32"])
    assert sanderling.verify(flat).held


def test_one_name_is_one_variant(embedding_bundle: Path, tmp_path: Path) -> None:
    assert trim(embedding_bundle, "fp32", tmp_path / "new").kept == ("fp32",)


@pytest.mark.parametrize("keep", [[], ["int4"], ["fp32", "int4"]])
def test_what_cannot_be_kept_is_refused(copy_bundle: CopyBundle, embedding_bundle: Path, keep: list[str]) -> None:
    bundle = copy_bundle(embedding_bundle)
    with pytest.raises((BundleError, StorageError), match=r"has no variant 'int4'|No variant to keep was given"):
        trim(bundle, keep)
    assert files(bundle) == files(embedding_bundle)


def test_a_target_that_exists_is_refused(embedding_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_bytes(b"mine")
    for target in (tmp_path / "file", tmp_path / "folder", embedding_bundle):
        with pytest.raises(StorageError, match="exists; give a new folder for the trimmed bundle"):
            trim(embedding_bundle, ["fp32"], target)
    assert (tmp_path / "file").read_bytes() == (tmp_path / "folder" / "mine").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    assert sanderling.verify(trim(embedding_bundle, ["fp32"], tmp_path / "empty").path).held


@pytest.mark.parametrize("output", [None, "new"])
def test_a_damaged_source_is_refused_and_left(
    copy_bundle: CopyBundle, embedding_bundle: Path, tmp_path: Path, output: str | None
) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "tokenizer.json")
    path.write_bytes(path.read_bytes().replace(b"sea", b"see"))
    manifest = (bundle / MANIFEST_NAME).read_bytes()
    with pytest.raises(IntegrityError, match=r"tokenizer\.json is not the file that was sealed"):
        trim(bundle, ["fp32"], output and tmp_path / output)
    assert (bundle / MANIFEST_NAME).read_bytes() == manifest
    assert files(bundle) == files(embedding_bundle)
    assert not (tmp_path / "new").exists()


def test_killed_before_the_manifest_the_old_bundle_is_whole(
    copy_bundle: CopyBundle, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(embedding_bundle)

    def killed(path: Path, data: bytes) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sealing, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        trim(bundle, ["fp32"])
    assert files(bundle) == files(embedding_bundle)
    assert sanderling.verify(bundle).held


def test_killed_while_sweeping_the_new_bundle_is_whole_and_swept_later(
    copy_bundle: CopyBundle, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(embedding_bundle)

    def killed(target: Path, manifest: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            trim(bundle, ["fp32"])
    assert files(bundle) == files(embedding_bundle)
    assert tiny_bundles.read_manifest(bundle).variants == ("fp32",)
    assert sanderling.verify(bundle).held
    trim(bundle, ["fp32"])
    assert not any("int8" in name for name in files(bundle))


def test_a_copy_that_fails_leaves_nothing(
    embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Path] = []

    def full(source: Path, target: Path) -> None:
        if copied:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())
        copied.append(target)

    monkeypatch.setattr(trimming.shutil, "copyfile", full)
    with pytest.raises(StorageError, match=r"Could not copy the bundle to .*: No space left on device"):
        trim(embedding_bundle, ["fp32"], tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    assert encode(tiny_bundles.read_manifest(embedding_bundle)) == (embedding_bundle / MANIFEST_NAME).read_bytes()
