"""What an ONNX file refers to, read from its protobuf without the onnx package.

ONNX Runtime follows whatever path a graph names for external data, and loads blobs that an `EPContext` node names.
Both are checked here before it parses the file. Field numbers are those of onnx.proto (ONNX 1.x):
ModelProto.graph = 7, .training_info = 20, .functions = 25; TrainingInfoProto.initialization = 1, .algorithm = 2;
GraphProto.node = 1, .initializer = 5, .sparse_initializer = 15;
NodeProto.op_type = 4, .attribute = 5; AttributeProto.t = 5, .g = 6, .tensors = 10, .graphs = 11,
.sparse_tensor = 22, .sparse_tensors = 23; TensorProto.external_data = 13;
FunctionProto.node = 7, .attribute_proto = 11;
SparseTensorProto.values = 1, .indices = 2; StringStringEntryProto.key = 1, .value = 2.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sanderling.errors import GraphError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32

# For each kind of message, the fields that lead on: number -> kind of message, or a leaf's name.
_SCHEMA: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {4: "op_type", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


def check(path: Path, allowed_data: set[str]) -> None:
    """Refuse a graph that names external data beyond `allowed_data`, or binary blobs of a provider.

    Raises GraphError: not an ONNX file, names another file, or holds an `EPContext` node.
    """
    if path.stat().st_size == 0:
        raise GraphError(f"{path} is empty; an ONNX graph was expected. Copy the bundle again, or export it again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for kind, value in _walk(data, 0, len(data), "model", path, 0):
            if kind == "external" and value not in allowed_data:
                raise GraphError(
                    f"{path} reads its weights from {value[:120]!r}, which the manifest does not list for it "
                    "beside the graph. The bundle was damaged or tampered with; do not use it."
                )
            if kind == "op_type" and value == "EPContext":
                raise GraphError(f"{path} holds an EPContext node, which loads a provider's binary; bundles may not.")


def _walk(data: mmap.mmap, start: int, end: int, kind: str, path: Path, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MAX_DEPTH:
        raise GraphError(f"{path} nests graphs deeper than {_MAX_DEPTH}.")
    leads = _SCHEMA[kind]
    for number, first, last in _fields(data, start, end, path):
        target = leads.get(number)
        if target is None or first < 0:
            continue
        if target == "op_type":
            yield target, data[first:last].decode("utf-8", "replace")
        elif target == "external":
            entry = {n: data[a:b].decode("utf-8", "replace") for n, a, b in _fields(data, first, last, path) if a >= 0}
            if entry.get(1) == "location":
                yield target, entry.get(2, "")
        else:
            yield from _walk(data, first, last, target, path, depth + 1)


def _fields(data: mmap.mmap, start: int, end: int, path: Path) -> Iterator[tuple[int, int, int]]:
    """Each field's number with the span of its bytes, or (-1, -1) where it is not length-delimited."""
    position = start
    while position < end:
        tag, position = _varint(data, position, end, path)
        number, wire = tag >> 3, tag & 7
        first = last = -1
        if wire == _VARINT:
            _, position = _varint(data, position, end, path)
        elif wire == _FIXED64:
            position += 8
        elif wire == _FIXED32:
            position += 4
        elif wire == _LENGTH:
            length, first = _varint(data, position, end, path)
            position = last = first + length
        else:
            raise _not_onnx(path)
        if position > end or number == 0:
            raise _not_onnx(path)
        yield number, first, last


def _varint(data: mmap.mmap, position: int, end: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _not_onnx(path)


def _not_onnx(path: Path) -> GraphError:
    return GraphError(f"{path} is not an ONNX graph, or only a part of one. Copy the bundle again, or export it again.")
