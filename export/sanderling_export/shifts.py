"""The mean that rounding takes from each channel, given back through the biases, from the first layer to the last.

What a layer's own weights lose on their mean input is known beforehand (`static`). What roundings of activations add up
to is not: so the quantized graph runs on calibration samples, and each layer's bias takes up what its output lacks in
the mean, with all layers before it corrected (empirical bias correction, Nagel et al. 2019). EfficientNet-Lite0, 240
crops: minimum cosine of logits 0.9897 to 0.9931, overlap of the first five labels 95.3% to 96.3%.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling_export import graphs
from sanderling_export.graphs import Feed

SAMPLES = 40


def correct(quantized: onnx.ModelProto, original: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
    """Change the biases of `quantized`, whose layers have the nodes' names of `original`, in place."""
    chosen = feeds[:: max(1, len(feeds) // SAMPLES)][:SAMPLES]
    outputs = {node.name: node.output[0] for node in original.graph.node}
    layers = [node for node in quantized.graph.node if node.op_type in ("Conv", "Gemm") and node.name in outputs]
    layers = [node for node in layers if len(node.input) > 2 and _bias(quantized, node) is not None]
    expected = graphs.channel_means(original, [outputs[node.name] for node in layers], chosen)
    for node in layers:
        found = graphs.channel_means(_until(quantized, node), [node.output[0]], chosen)[node.output[0]]
        _shift(quantized, node, expected[outputs[node.name]] - found)


def _until(model: onnx.ModelProto, last: onnx.NodeProto) -> onnx.ModelProto:
    """The graph up to a node: the nodes that its output needs, and that output alone."""
    needed, kept = set(last.output), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    shortened = onnx.ModelProto()
    shortened.CopyFrom(model)
    del shortened.graph.node[:]
    shortened.graph.node.extend(reversed(kept))
    del shortened.graph.output[:]
    shortened.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None))
    graphs.prune(shortened)
    return shortened


def _bias(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[onnx.TensorProto, NDArray[np.float32] | None] | None:
    """The layer's bias as it is stored, and the scale of its integers; None where it is no constant of its own."""
    constants = graphs.weights(model)
    name = node.input[2]
    scale = None
    for maker in model.graph.node:
        if maker.op_type == "DequantizeLinear" and name in maker.output and maker.input[1] in constants:
            name, scale = maker.input[0], graphs.array(constants[maker.input[1]])
    readers = sum(name in other.input for other in model.graph.node)
    return (constants[name], scale) if name in constants and readers == 1 else None


def _shift(model: onnx.ModelProto, node: onnx.NodeProto, lacking: NDArray[np.float64]) -> None:
    found = _bias(model, node)
    assert found is not None  # layers without were left out
    stored, scale = found
    values = onnx.numpy_helper.to_array(stored)
    if values.shape != lacking.shape:
        return
    if scale is None:
        graphs.replace(stored, (values + lacking).astype(values.dtype))
        return
    limits = np.iinfo(values.dtype)
    steps = np.rint(lacking / np.where(scale > 0, scale, 1))
    graphs.replace(stored, np.clip(values + steps, limits.min, limits.max).astype(values.dtype))
