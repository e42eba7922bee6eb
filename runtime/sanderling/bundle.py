"""A bundle on disk: opening it, trusting only what was checked, and writing it so that it is never half there."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sanderling import cache, graph
from sanderling.errors import BundleError, IntegrityError, ManifestError, StorageError
from sanderling.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    decode,
    encode,
)
from sanderling.storage import sync_file, sync_folder, write_atomic

Integrity = Literal["stamp", "full"]

_CHUNK = 2**20
_BUILD_PREFIX = "build-"


class Stamp(Struct, frozen=True, array_like=True):
    """What a verified file looked like: if all of it is unchanged, hashing it again is spared."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Bundle:
    """An opened bundle: its manifest, its digest, and files that are handed out only once verified."""

    def __init__(self, path: Path, manifest: Manifest, digest: str, integrity: Integrity) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.integrity = integrity

    def require(self, names: Iterable[str]) -> list[Path]:
        """Check the named files against the manifest and give their paths, in the same order.

        With integrity "stamp" a file whose stamp in the user's cache still fits is not hashed again.
        Raises IntegrityError: unlisted, missing, changed, a link, or leading outside the folder.
        """
        names = list(names)
        key = cache.key("verified", str(self.path), self.digest)
        known = cache.read("verified", key, dict[str, Stamp]) if self.integrity == "stamp" else None
        stamps = dict(known or {})
        for name in names:
            stamp = self._stamp(name)
            if stamps.get(name) != stamp:
                self._verify(name)
                stamps[name] = stamp
        if stamps != (known or {}):
            cache.write("verified", key, stamps)
        return [self.path / name for name in names]

    def read(self, name: str) -> bytes:
        """The verified bytes of one listed file."""
        return self.require([name])[0].read_bytes()

    def verify_all(self) -> None:
        """Check every listed file, trusting no stamp."""
        for name in self.manifest.files:
            self._stamp(name)
            self._verify(name)

    def _stamp(self, name: str) -> Stamp:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise IntegrityError(f"{name!r} is not in the list of files of {self.path / MANIFEST_NAME}.")
        status = _regular_file(self.path, name)
        if status.st_size != entry.size:
            raise IntegrityError(_differs(self.path / name, f"{status.st_size:,} bytes, expected {entry.size:,}"))
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)

    def _verify(self, name: str) -> None:
        path, entry = self.path / name, self.manifest.files[name]
        if file_sha256(path) != entry.sha256:
            raise IntegrityError(_differs(path, "its SHA-256 is not the manifest's"))
        if name.endswith(".onnx"):
            allowed = {
                data.rpartition("/")[2]
                for data in self._data_files(name)
                if data.rpartition("/")[0] == name.rpartition("/")[0]
            }
            graph.check(path, allowed)

    def _data_files(self, graph_name: str) -> list[str]:
        return [
            data
            for component in self.manifest.components.values()
            for variant in component.variants.values()
            for form in variant.forms.values()
            if form.graph == graph_name
            for data in form.data
        ]


def open_bundle(path: str | os.PathLike[str], *, integrity: Integrity = "stamp") -> Bundle:
    """Open the bundle in the folder `path`: read and check its manifest, nothing else yet.

    Raises BundleError: no such folder, no manifest, or a manifest that this version cannot use.
    """
    if integrity not in ("stamp", "full"):
        raise BundleError(f'integrity is {integrity!r}; it takes "stamp" or "full".')
    folder = Path(path).absolute()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} {found}; a bundle is a folder with a {MANIFEST_NAME} in it.")
    if not os.path.lexists(folder / MANIFEST_NAME):
        raise BundleError(
            f"{folder} has no {MANIFEST_NAME}, so it is no bundle. "
            f"Make one with: sanderling export CHECKPOINT -o {folder}"
        )
    status = _regular_file(folder, MANIFEST_NAME)
    if status.st_size > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{folder / MANIFEST_NAME} has {status.st_size:,} bytes; a manifest has at most {MAX_MANIFEST_BYTES:,}."
        )
    try:
        raw = (folder / MANIFEST_NAME).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder / MANIFEST_NAME} cannot be read: {error.strerror or error}.") from error
    manifest = decode(raw, str(folder / MANIFEST_NAME))
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest(), integrity)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces. Raises IntegrityError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


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


def _regular_file(folder: Path, name: str) -> os.stat_result:
    path = folder
    status = None
    for part in name.split("/"):
        path = path / part
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise IntegrityError(_differs(folder / name, "it is missing")) from None
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read: {error.strerror or error}.") from error
        is_junction = getattr(status, "st_reparse_tag", 0) != 0
        if stat.S_ISLNK(status.st_mode) or is_junction:
            raise IntegrityError(f"{path} is a link; a bundle holds its own files. Copy the file into its place.")
    assert status is not None
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityError(f"{folder / name} is not a regular file.")
    return status


def _differs(path: Path, how: str) -> str:
    return f"{path} is not the file that was sealed: {how}. Copy the bundle again, or export it again."
