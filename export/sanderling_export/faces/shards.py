"""Weights of TensorFlow.js: a JSON manifest and the binary shards it names, dequantized as the manifest says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import CheckpointError

SUFFIX = "-weights_manifest.json"
_DTYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "u1"}
_QUANTIZED = ("uint8", "uint16")


class Quantization(Struct, frozen=True):
    """How integers become numbers: `integer * scale + min`."""

    dtype: str
    scale: float = 1.0
    min: float = 0.0


class Entry(Struct, frozen=True):
    """One tensor, in the order of the bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None


class Group(Struct, frozen=True):
    """Tensors whose bytes follow each other through the files of `paths`."""

    paths: tuple[str, ...]
    weights: tuple[Entry, ...]


class Weights:
    """The tensors of one network by name; each is taken once, and what nobody took is known."""

    def __init__(self, where: str, tensors: dict[str, NDArray[np.float32]], sha256: str) -> None:
        self.where = where
        self.sha256 = sha256
        self._left = dict(tensors)

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """The tensor of this name. Raises CheckpointError: none of that name, or of another shape (0: any size)."""
        found = self._left.pop(name, None)
        if found is None:
            raise CheckpointError(f"{self.where} has no tensor {name!r} (or it was read before); another version may.")
        if len(found.shape) != len(shape) or any(a not in (0, b) for a, b in zip(shape, found.shape, strict=True)):
            raise CheckpointError(f"{self.where}: {name!r} has the shape {found.shape}; {shape} was expected.")
        return found

    def drop(self, prefixes: Sequence[str]) -> None:
        """Forget constants of the original graph that the rebuilt network does not need."""
        for name in [name for name in self._left if name.startswith(tuple(prefixes))]:
            del self._left[name]

    def close(self) -> None:
        """Raise CheckpointError if a tensor was not used: it would be another network."""
        if self._left:
            names = ", ".join(sorted(self._left)[:3])
            raise CheckpointError(f"{self.where} has {len(self._left)} tensors that this network has not: {names}.")


def read(folder: Path, network: str) -> Weights:
    """The weights of `network` (as "face_recognition") in a folder of face-api models.

    `sha256` is of the manifest and of all shards. Raises CheckpointError: missing, damaged, of an unknown dtype.
    """
    path = folder / f"{network}_model{SUFFIX}"
    try:
        raw = path.read_bytes()
        groups = msgspec.json.decode(raw, type=tuple[Group, ...])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as a manifest of TensorFlow.js weights: {error}.") from error
    digest = hashlib.sha256(raw)
    tensors: dict[str, NDArray[np.float32]] = {}
    for group in groups:
        data = b"".join(_shard(folder, name) for name in group.paths)
        digest.update(data)
        tensors |= _tensors(group, data, path)
    return Weights(str(path), tensors, digest.hexdigest())


def _shard(folder: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise CheckpointError(f"{folder}: the weight file {name!r} is not beside its manifest.")
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder / name} cannot be read: {error.strerror or error}.") from error


def _tensors(group: Group, data: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    start = 0
    for entry in group.weights:
        stored = entry.quantization.dtype if entry.quantization is not None else entry.dtype
        if stored not in _DTYPES or (entry.quantization is not None and stored not in _QUANTIZED):
            raise CheckpointError(f"{path}: {entry.name!r} has the dtype {stored!r}; {', '.join(_DTYPES)} are known.")
        dtype = np.dtype(_DTYPES[stored])
        end = start + math.prod(entry.shape) * dtype.itemsize
        if min(entry.shape, default=1) < 0 or end > len(data):
            raise CheckpointError(f"{path}: {entry.name!r} lies beyond the end of its files; fetch them again.")
        values: NDArray[Any] = np.frombuffer(data[start:end], dtype).reshape(entry.shape)
        if entry.quantization is not None:
            # As TensorFlow.js: in double precision, then rounded to the tensor's own.
            values = values * entry.quantization.scale + entry.quantization.min
        found[entry.name] = values.astype(np.float32)
        start = end
    if start != len(data):
        raise CheckpointError(f"{path} describes {start:,} bytes of {len(data):,}; fetch the files again.")
    return found
