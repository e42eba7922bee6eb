"""Sealing: a bundle written so that it is the old one or the new one, never half there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sanderling.bundle import Bundle, file_sha256
from sanderling.errors import StorageError
from sanderling.manifest import MANIFEST_NAME, FileEntry, Manifest, encode
from sanderling.storage import sync_file, sync_folder, write_atomic

_BUILD_PREFIX = "build-"


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file below `folder`, by relative POSIX path; hidden files and the manifest are not."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_NAME and not any(part.startswith(".") for part in name.split("/")):
            found[name] = FileEntry(path.stat().st_size, file_sha256(path))
    return found


def build_folder(staging: Path) -> Path:
    """Where in a staging folder the files of a new bundle go: a folder of a name no older build has."""
    folder = staging / f"{_BUILD_PREFIX}{staging.name.rpartition('-')[2]}"
    folder.mkdir(exist_ok=True)
    return folder


def commit_bundle(staging: Path, manifest: Manifest, target: Path) -> None:
    """Put what was built in `staging` (see `build_folder`) at `target`, with `manifest`, as one step.

    The files come first, under names no older build uses; replacing `bundle.json` is the one moment at which the
    new bundle is there. Killed before it, the old bundle stands; after it, the new one does, and files of the old
    one are swept by the next writing.
    """
    check_target(target)
    builds = [child for child in staging.iterdir() if child.is_dir()]
    try:
        for build in builds:
            for path in build.rglob("*"):
                sync_folder(path) if path.is_dir() else sync_file(path)
        target.mkdir(parents=True, exist_ok=True)
        for build in builds:
            build.rename(target / build.name)
        sync_folder(target)
    except OSError as error:
        for build in builds:
            shutil.rmtree(target / build.name, ignore_errors=True)
        raise StorageError(f"Could not write the bundle to {target}: {error.strerror or error}.") from error
    write_atomic(target / MANIFEST_NAME, encode(manifest))
    _sweep(target, manifest)


def replace_manifest(bundle: Bundle, manifest: Manifest) -> None:
    """Commit a manifest that names fewer of the bundle's own files, then sweep those it no longer names."""
    write_atomic(bundle.path / MANIFEST_NAME, encode(manifest))
    _sweep(bundle.path, manifest)


def check_target(target: Path) -> None:
    """Refuse to write into anything but an old bundle, an empty folder, or nothing."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise StorageError(f"{target} is a file; give a folder for the bundle.")
    if any(target.iterdir()) and not (target / MANIFEST_NAME).is_file() and not _only_builds(target):
        raise StorageError(
            f"{target} is a folder with other things in it and no {MANIFEST_NAME}; "
            "give a new folder, or an older bundle to replace."
        )


def _only_builds(target: Path) -> bool:
    return all(child.name.startswith((_BUILD_PREFIX, ".")) for child in target.iterdir())


def _sweep(target: Path, manifest: Manifest) -> None:
    for build in target.glob(f"{_BUILD_PREFIX}*"):
        if build.is_symlink() or not build.is_dir():
            continue
        for path in sorted(build.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(target).as_posix() not in manifest.files:
                path.unlink(missing_ok=True)
        if not any(build.iterdir()):
            build.rmdir()
