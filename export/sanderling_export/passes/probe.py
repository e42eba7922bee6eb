"""What a graph does on a few small inputs: values of its own tensors, and whether a rewrite changed its answers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]

# Two probes of different extents: what is equal in both does not depend on the input.
_EXTENTS = ((2, 5), (3, 7))
_SEED = 0
# Samples of a waveform for each token of a text: the shortest one has frames enough for what pools over them.
SAMPLES = "samples"
_A_TOKEN = 1200


class ProbeError(Exception):
    """The graph does not load, or does not take inputs that are made up."""


def feeds(model: ir.Model, extents: Sequence[tuple[int, int]] = _EXTENTS) -> list[Feeds]:
    """Inputs for the graph, of each extent (inputs, tokens) in the dimensions that change from run to run.

    Two small ones unless told.
    """
    return [_feeds(model, batch, length) for batch, length in extents]


def run(model: ir.Model, outputs: Sequence[str]) -> list[list[NDArray[Any]]]:
    """For each probe the values of any tensors of the graph, by name, unoptimized, so that each is there.

    Raises ProbeError.
    """
    probes = feeds(model)
    if not outputs:
        return [[] for _ in probes]
    exposed = ir.Model(model.graph.clone(), ir_version=model.ir_version)
    values = {value.name: value for node in exposed.graph for value in node.outputs}
    known = {value.name for value in exposed.graph.outputs}
    exposed.graph.outputs.extend(values[name] for name in outputs if name not in known)
    session = _session(exposed)
    return [_run(session, list(outputs), each) for each in probes]


def answers(model: ir.Model) -> list[NDArray[Any]]:
    """The graph's outputs for every probe. Raises ProbeError."""
    session = _session(model)
    return [value for each in feeds(model) for value in _run(session, None, each)]


def distance(a: Sequence[NDArray[Any]], b: Sequence[NDArray[Any]]) -> float:
    """The largest absolute difference of any element, relative to the largest value; infinite if shapes differ."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or not np.isfinite(y).all():
            return float("inf")
        scale = max(1.0, float(np.abs(x).max(initial=0.0)))
        worst = max(worst, float(np.abs(x.astype(np.float64) - y).max(initial=0.0)) / scale)
    return worst


def _run(session: onnxruntime.InferenceSession, outputs: list[str] | None, feeds: Feeds) -> list[NDArray[Any]]:
    try:
        found: list[NDArray[Any]] = session.run(outputs, dict(feeds))
    except Exception as error:  # ONNX Runtime's errors share no base
        raise ProbeError(str(error)) from error
    return found


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        ir.save(model, path, external_data="probe.bin")
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base
            raise ProbeError(str(error)) from error


def _feeds(model: ir.Model, batch: int, length: int) -> Feeds:
    random = np.random.default_rng(_SEED)
    made: dict[str, NDArray[Any]] = {}
    for value in model.graph.inputs:
        assert value.name is not None
        assert value.shape is not None
        free = iter((batch, length, length, length))
        shape = [
            dim if isinstance(dim, int) else next(free) * (_A_TOKEN if dim.value == SAMPLES else 1)
            for dim in value.shape
        ]
        if value.dtype == ir.DataType.FLOAT:
            made[value.name] = random.standard_normal(shape).astype(np.float32)
        elif value.name == "attention_mask":
            made[value.name] = np.ones(shape, np.int64)
            made[value.name][0, -2:] = 0
        elif value.name == "token_type_ids":
            made[value.name] = np.zeros(shape, np.int64)
        else:
            made[value.name] = random.integers(4, 100, shape) % _vocabulary(value)
    return made


def _vocabulary(ids: ir.Value) -> int:
    """How many tokens the smallest table has that ids are looked up in; more than are tried where there is none."""
    sizes, values = [100], [ids]
    for value in values:
        for node in value.consumers():
            if node.op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze"):
                values += node.outputs
            elif node.op_type == "Gather" and node.inputs[0] is not None and node.inputs[1] is value:
                table = node.inputs[0].const_value
                sizes += [] if table is None else [table.shape.numpy()[0]]
    return min(sizes)
