"""Convolutions over time as convolutions over pictures one row high.

ONNX Runtime keeps two-dimensional convolutions in blocks of channels on x86-64, and computes them without laying their
input out anew; of one-dimensional ones it makes matrices. The numbers are the same but for the order of sums. Whether
it pays is measured where a voice is exported, and it is left out where it does not.
"""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sanderling_export import graphs
from sanderling_export.pace import Pace

# Operators that take a tensor of any rank, number by number.
_POINTWISE = {"Add", "Div", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sub", "Tanh"}
_CONVOLUTIONS = {"Conv", "ConvTranspose"}
# What both ways are timed on: frames of a short sentence, in alternating runs.
_FRAMES, _ROUNDS = 128, 7


def flattened(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph of a decoder (1, channels, frames) to samples with its convolutions in two dimensions; None where it
    has operators for which a row more is not the same."""
    made = graphs.copied(model)
    nodes = list(made.graph.node)
    if len(made.graph.input) != 1 or not nodes or nodes[-1].op_type != "Reshape":
        return None
    weights = graphs.weights(made)
    for node in nodes[:-1]:
        if node.op_type in _CONVOLUTIONS:
            if node.input[1] not in weights or len(weights[node.input[1]].dims) != 3:
                return None
        elif node.op_type not in _POINTWISE or any(_long(weights, name) for name in node.input):
            return None
    seen: set[str] = set()
    for node in nodes[:-1]:
        if node.op_type in _CONVOLUTIONS:
            if node.input[1] not in seen:
                tensor = weights[node.input[1]]
                graphs.replace(tensor, graphs.array(tensor)[:, :, None, :])
                seen.add(node.input[1])
            _widen(node)
    name = made.graph.input[0].name
    row = f"{name}_row"
    for node in nodes:
        node.input[:] = [row if one == name else one for one in node.input]
    made.graph.node.insert(0, helper.make_node("Unsqueeze", [name, "row_axis"], [row], name="row"))
    made.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "row_axis"))
    onnx.checker.check_model(made)
    return made


def compare(before: onnx.ModelProto, after: onnx.ModelProto) -> Pace:
    """How fast `after` is beside `before`, both on one thread of the CPU, in processor time of alternating runs."""
    given = before.graph.input[0]
    shape = (1, given.type.tensor_type.shape.dim[1].dim_value, _FRAMES)
    feeds = {given.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    runners = []
    for model in (before, after):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        runner = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        runner.run(None, feeds)
        runners.append(runner)
    times = [[_seconds(runner, feeds) for runner in runners] for _ in range(_ROUNDS)]
    return Pace(tuple(slow / fast for slow, fast in times))


def _seconds(runner: ort.InferenceSession, feeds: dict[str, NDArray[np.float32]]) -> float:
    begin = time.process_time()
    runner.run(None, feeds)
    return max(time.process_time() - begin, 1e-9)


def _long(weights: dict[str, onnx.TensorProto], name: str) -> bool:
    """Whether a constant beside a tensor has an axis that another rank would put elsewhere."""
    return name in weights and any(size != 1 for size in weights[name].dims)


def _widen(node: onnx.NodeProto) -> None:
    """The attributes of a convolution for one row."""
    for attribute in node.attribute:
        sizes = list(attribute.ints)
        if attribute.name in ("dilations", "kernel_shape", "strides"):
            attribute.ints[:] = [1, *sizes]
        elif attribute.name == "pads":
            attribute.ints[:] = [0, sizes[0], 0, sizes[1]]
        elif attribute.name == "output_padding":
            attribute.ints[:] = [0, *sizes]
