"""Graphs of text encoders under trace: what each value depends on, and what it is worth on probes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from sanderling_export import graphs

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Run = Callable[[onnx.ModelProto, Sequence[str], Feeds], list[Array]]

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

# Extents of the probes. Lengths differ, so that what is equal in all does not depend on them.
EXTENTS = ((2, 5), (3, 7))
SEED = 0


class Kinds:
    """What each value depends on: constants and shapes alone, those and the mask, or the tokens."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = set(graphs.weights(model)) | {""}
        self.shaped = set(self.constants)
        self.masked = {MASK}
        for node in model.graph.node:
            if node.op_type in ("Shape", "Size", "Constant") or self.shaped.issuperset(node.input):
                self.shaped.update(node.output)
            elif all(name in self.shaped or name in self.masked for name in node.input):
                self.masked.update(node.output)


def runner(folder: Path) -> Run:
    """Runs a graph as it stands, unoptimized, with any of its values as outputs; its weights are in `folder`."""
    sessions: dict[bytes, ort.InferenceSession] = {}

    def run(graph: onnx.ModelProto, names: Sequence[str], feeds: Feeds) -> list[Array]:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(graph)
        known = {value.name for value in exposed.graph.output}
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        key = exposed.SerializeToString(deterministic=True)
        if key not in sessions:
            sessions.clear()
            sessions[key] = _session(folder, key)
        taken = {value.name for value in sessions[key].get_inputs()}
        values: list[Array] = sessions[key].run(list(names), {n: v for n, v in feeds.items() if n in taken})
        return values

    return run


def _session(folder: Path, graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    # Beside its weights, where ONNX Runtime looks for them.
    with tempfile.NamedTemporaryFile(suffix=".onnx", dir=folder, delete=False) as file:
        file.write(graph)
    path = Path(file.name)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        path.unlink()


def values_of(model: onnx.ModelProto, run: Run, names: Iterable[str]) -> list[dict[str, Array]]:
    """The named values, and the ids, on each probe: texts of one length, of random tokens."""
    random = np.random.default_rng(SEED)
    constants = graphs.weights(model)
    inputs = {value.name for value in model.graph.input}
    wanted = sorted(name for name in set(names) if name and name not in inputs and name not in constants)
    small = {n: numpy_helper.to_array(constants[n]) for n in names if n in constants and not constants[n].external_data}
    found = []
    for extents in EXTENTS:
        feeds = full(tokens(model, random, extents))
        values = run(model, wanted, feeds) if wanted else []
        found.append({**small, **feeds, **dict(zip(wanted, values, strict=True))})
    return found


def tokens(model: onnx.ModelProto, random: np.random.Generator, shape: int | tuple[int, ...]) -> Array:
    """Ids of random tokens that a model knows, of this shape."""
    return random.integers(4, 100, shape) % _vocabulary(model)


def _vocabulary(model: onnx.ModelProto) -> int:
    """How many tokens the smallest table has that ids are looked up in; more than are tried where there is none."""
    constants = graphs.weights(model)
    looked_up, sizes = {IDS}, [100]
    for node in model.graph.node:
        if node.op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze") and node.input[0] in looked_up:
            looked_up.update(node.output)
        elif node.op_type == "Gather" and node.input[1] in looked_up and node.input[0] in constants:
            sizes.append(constants[node.input[0]].dims[0])
    return min(sizes)


def full(ids: Array) -> Feeds:
    """The inputs of `padded` for texts of one length, (texts, tokens): a mask that masks nothing."""
    return {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}


def outputs(model: onnx.ModelProto) -> list[str]:
    """The names of a graph's outputs."""
    return [value.name for value in model.graph.output]


def sweep(model: onnx.ModelProto) -> None:
    """Drop nodes, initializers and inputs that lead to no output."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    inputs = [value for value in model.graph.input if value.name in needed]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    graphs.prune(model)
