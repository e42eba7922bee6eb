"""Sealing: a bundle written so that it is the old one or the new one, never half there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sanderling.bundle import Bundle, file_sha256, regular_file
from sanderling.codec import encode, read_header
from sanderling.errors import BundleError, StorageError
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.schema.variants import FileEntry
from sanderling.storage import TOKEN, is_staged, sync_file, sync_folder, write_atomic

_BUILD_PREFIX = "build-"
_PARTIAL = re.compile(rf"\.{re.escape(MANIFEST_NAME)}\.{TOKEN.pattern}\.partial")


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
    data = encode(manifest)
    moved: list[Path] = []
    try:
        built = [child for child in staging.iterdir() if not child.name.startswith(".")]
        for path in (*built, *(path for build in built for path in build.rglob("*"))):
            sync_folder(path) if path.is_dir() else sync_file(path)
        target.mkdir(parents=True, exist_ok=True)
        for child in built:
            place = target / child.name
            if os.path.lexists(place):
                raise StorageError(f"{place} is there already; a new bundle takes no name that an older one uses.")
            child.rename(place)
            moved.append(place)
        sync_folder(target)
        write_atomic(target / MANIFEST_NAME, data)
    except OSError as error:
        _take_back(target, moved, data)
        raise StorageError(
            f"Could not write the bundle to {target}: {error.strerror or error}. What stood there before is unchanged; "
            "free some space or choose another folder."
        ) from error
    except StorageError:
        _take_back(target, moved, data)
        raise
    _sweep(target, manifest.files)


def _take_back(target: Path, moved: list[Path], data: bytes) -> None:
    """Remove what was moved for a manifest that did not get there; leave all if it did."""
    with suppress(OSError):
        if (target / MANIFEST_NAME).read_bytes() == data:
            return
    for place in moved:
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    with suppress(OSError):  # Only a folder that is empty, and so was made here, goes.
        target.rmdir()


def replace_manifest(bundle: Bundle, manifest: Manifest) -> None:
    """Commit a manifest that names fewer of the bundle's own files, then sweep those it no longer names."""
    write_atomic(bundle.path / MANIFEST_NAME, encode(manifest))
    _sweep(bundle.path, manifest.files)


def check_target(target: Path) -> None:
    """Refuse to write into anything but an old bundle, an empty folder, or nothing."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise StorageError(f"{target} is a file; give a folder for the bundle.")
    if not _is_bundle(target) and not all(_is_ours(child) for child in target.iterdir()):
        raise StorageError(
            f"{target} is a folder with other things in it, and no bundle; "
            "give a new folder, or an older bundle to replace."
        )


def _is_bundle(target: Path) -> bool:
    """Whether a manifest of any version is there; another program's `bundle.json` is none."""
    try:
        regular_file(target, MANIFEST_NAME)
        read_header((target / MANIFEST_NAME).read_bytes(), str(target))
    except (BundleError, OSError):
        return False
    return True


def _is_ours(child: Path) -> bool:
    """Whether it is left from a writing that was interrupted, or hidden, as what desktops put into empty folders."""
    return _build_token(child) is not None or child.name.startswith(".")


def _build_token(child: Path) -> str | None:
    token = child.name.removeprefix(_BUILD_PREFIX)
    named = token != child.name and TOKEN.fullmatch(token)
    return token if named and child.is_dir() and not child.is_symlink() else None


def _sweep(target: Path, keep: Collection[str]) -> None:
    """Delete what older builds left in `target`, but for the files to keep and what a living process builds."""
    for child in list(target.iterdir()):
        token = _build_token(child)
        # A file that a running model holds open cannot be deleted on Windows; the next writing tries again.
        with suppress(OSError):
            if token is not None and not is_staged(target, token):
                _sweep_build(target, child, keep)
            elif _PARTIAL.fullmatch(child.name):
                child.unlink(missing_ok=True)


def _sweep_build(target: Path, build: Path, keep: Collection[str]) -> None:
    for path in sorted(build.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(target).as_posix() not in keep:
            path.unlink(missing_ok=True)
    if not any(build.iterdir()):
        build.rmdir()
