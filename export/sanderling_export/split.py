"""The outlier split of hidden activations: a channel that peaks far above the others is carried by several columns.

An unsigned 8-bit activation with the range up to a limit saturates above it. For each channel of a Gelu that peaks
higher, columns are appended to the matrix before it, with a bias lower by the limit, twice the limit and so on, and
the matching rows to the matrix behind it. Gelu is the identity far from zero, so the saturated columns add up to the
channel again; near each step the sum is off by at most 0.17 (the minimum of Gelu), as rare as the outliers are. The
split is no rewrite of the float graph: it holds only where each column saturates at the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling_export import graphs

# Measured on MiniLM: 4 splits 252 channels and 8 too few; 5 and 6 are best.
LIMIT = 5.0
# Kernels work on blocks of columns.
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Hidden:
    """MatMul -> Add -> Gelu -> MatMul with constant weights, read by nothing else: the tensor and the constants."""

    tensor: str
    before: str
    bias: str
    after: str


def find(model: onnx.ModelProto) -> list[Hidden]:
    """Every hidden layer that can be split."""
    constants = graphs.weights(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = []
    for gelu in model.graph.node:
        add = makers.get(gelu.input[0]) if gelu.op_type == "Gelu" else None
        if add is None or add.op_type != "Add":
            continue
        product = next((makers[name] for name in add.input if name in makers), None)
        bias = next((name for name in add.input if name in constants), None)
        after = readers.get(gelu.output[0], [])
        if product is None or bias is None or product.op_type != "MatMul" or len(after) != 1:
            continue
        chain = (product.output[0], add.output[0], gelu.output[0])
        alone = all(len(readers[name]) == 1 and name not in outputs for name in chain)
        names = (product.input[1], bias, after[0].input[1] if after[0].op_type == "MatMul" else "")
        if alone and all(name in constants and len(readers[name]) == 1 for name in names):
            found.append(Hidden(gelu.output[0], *names))
    return found


def split(
    model: onnx.ModelProto, layers: list[Hidden], peaks: Mapping[str, NDArray[np.float32]], limit: float = LIMIT
) -> int:
    """Append columns in place for the channels of `layers` whose peak is above `limit`; gives how many."""
    constants = graphs.weights(model)
    added = 0
    for layer in layers:
        steps = np.ceil(peaks[layer.tensor] / limit).astype(int) - 1
        channels = np.repeat(np.arange(len(steps)), np.maximum(steps, 0))
        if not len(channels):
            continue
        lowered = np.concatenate([np.arange(1, count + 1) for count in steps if count > 0]) * limit
        before, bias, after = (graphs.array(constants[name]) for name in (layer.before, layer.bias, layer.after))
        empty = -len(channels) % _BLOCK
        columns, rows = np.zeros((len(before), empty), np.float32), np.zeros((empty, after.shape[1]), np.float32)
        lower = bias[channels] - lowered.astype(np.float32)
        graphs.replace(constants[layer.before], np.concatenate([before, before[:, channels], columns], axis=1))
        graphs.replace(constants[layer.bias], np.concatenate([bias, lower, np.zeros(empty, np.float32)]))
        graphs.replace(constants[layer.after], np.concatenate([after, after[channels], rows]))
        added += len(channels)
    return added
