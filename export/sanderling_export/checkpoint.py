"""A checkpoint: where its files are, and the digest of its weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sanderling.bundle import file_sha256
from sanderling.errors import CheckpointError
from sanderling.reasons import first_line
from sanderling_export import references

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Graphs are checkpoints of voices alone.
_FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")
_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
# Weights for other frameworks and training leftovers are not fetched.
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.md", "LICENSE*", "*.metadata", "*pytorch_model*.bin")
_LICENSE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder or a weight file. `source` is what provenance records, `sha256` the digest of the weights.

    `parts` are files that are one weight file together, in this order, where it is kept in several."""

    path: Path
    source: str
    sha256: str
    parts: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder whose config files belong to the weights."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def license_file(self) -> Path | None:
        """A licence text beside the weights."""
        return next((self.folder / n for n in _LICENSE_NAMES if (self.folder / n).is_file()), None)


def resolve(
    source: str, base: Path | None = None, distributions: tuple[str, ...] = (), parts: tuple[str, ...] = ()
) -> Checkpoint:
    """Find a checkpoint: a local folder, a weight file, `package:name/path`, or a name on the Hugging Face hub.

    `parts` are references to the files that its weight file was cut into, where it was.
    Raises CheckpointError: not there, without weights, or a hub name without a network.
    """
    base = base or Path.cwd()
    if references.is_package(source):
        path = references.locate(source, base, distributions)
    elif (base / source).exists():
        path = base / source
    elif _HUB_NAME.match(source) and Path(source).suffix not in _FILE_SUFFIXES:
        path = _download(source)
    else:
        raise CheckpointError(
            f"{source!r} is neither a folder nor a weight file here, nor the name of a model on the Hugging Face hub "
            "(like sentence-transformers/all-MiniLM-L6-v2). Give the path of a folder with a config.json in it."
        )
    pieces = tuple(references.locate(part, base, distributions) for part in parts)
    digest = _joined_digest(pieces) if pieces else _digest(path)
    return Checkpoint(path, source if path != base / source else _shown(source), digest, pieces)


def read_json(path: Path) -> dict[str, object]:
    """A config file of a checkpoint as a dict; empty if there is none. Raises CheckpointError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}. Fetch the checkpoint again.") from error


def _shown(source: str) -> str:
    # A local path says nothing to others, and may say too much: its last part does.
    return Path(source).absolute().name


def _joined_digest(parts: tuple[Path, ...]) -> str:
    """The digest of the file that the parts are together."""
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else _weight_files(path)
    if path.is_file() and path.suffix not in _FILE_SUFFIXES:
        raise CheckpointError(
            f"{path} is no weight file; expected one of {', '.join(_FILE_SUFFIXES)}, or the folder it is in."
        )
    if not files:
        raise CheckpointError(
            f"{path} holds no weights ({', '.join('*' + s for s in WEIGHT_SUFFIXES)}); "
            "give the folder that transformers' save_pretrained wrote."
        )
    if len(files) == 1:
        return file_sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file_sha256(file)} {file.relative_to(path).as_posix()}\n".encode())
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    found = [p for p in sorted(folder.rglob("*")) if p.suffix in WEIGHT_SUFFIXES and p.is_file()]
    found = [p for p in found if p.stem not in ("training_args", "optimizer", "scheduler")]
    safe = [p for p in found if p.suffix == ".safetensors"]
    # As transformers: safetensors are read where there are any, and then nothing else.
    return safe or found


def _download(name: str) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:
        reason = first_line(error).partition(". ")[0]
        raise CheckpointError(
            f"{name!r} is no folder here, and fetching it from the Hugging Face hub failed: {reason}. "
            f"Without a network, download it elsewhere (hf download {name} --local-dir FOLDER) and give that FOLDER."
        ) from error
