"""A bundle on disk: opening it, and trusting only what was checked."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sanderling import cache
from sanderling.codec import decode
from sanderling.errors import BundleError, IntegrityError, ManifestError
from sanderling.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest

Integrity = Literal["stamp", "full"]

_CHUNK = 2**20
_NAME_SURROGATE = 0x20000000  # The bit of a Windows reparse tag that says: this leads to another place.


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
        status = regular_file(self.path, name)
        if status.st_size != entry.size:
            raise IntegrityError(_differs(self.path / name, f"{status.st_size:,} bytes, expected {entry.size:,}"))
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)

    def _verify(self, name: str) -> None:
        path, entry = self.path / name, self.manifest.files[name]
        if file_sha256(path) != entry.sha256:
            raise IntegrityError(_differs(path, "its SHA-256 is not the manifest's"))
        if name.endswith(".onnx"):
            from sanderling import graph  # not needed where stamps spare the checks

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
    try:
        found = None if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
    if found is not None:
        raise BundleError(f"{folder} {found}; a bundle is a folder with a {MANIFEST_NAME} in it.")
    if not os.path.lexists(folder / MANIFEST_NAME):
        raise BundleError(
            f"{folder} has no {MANIFEST_NAME}, so it is no bundle. "
            f"Make one with: sanderling export CHECKPOINT -o {folder}"
        )
    status = regular_file(folder, MANIFEST_NAME)
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


def regular_file(folder: Path, name: str) -> os.stat_result:
    """The status of a file below `folder`. Raises IntegrityError: missing, no plain file, or reached by a link."""
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
        is_junction = bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)
        if stat.S_ISLNK(status.st_mode) or is_junction:
            raise IntegrityError(f"{path} is a link; a bundle holds its own files. Copy the file into its place.")
    assert status is not None
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityError(f"{folder / name} is not a regular file.")
    return status


def _differs(path: Path, how: str) -> str:
    return f"{path} is not the file that was sealed: {how}. Copy the bundle again, or export it again."
