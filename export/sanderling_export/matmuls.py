"""int8-static for transformers: every product with constant weights in integers, with calibrated activations.

An answer depends on its own tokens alone: ranges are constants, so neither batch mates nor padding move them, which
they do where ranges are found at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sanderling_export import graphs, rounding, smooth, split, tables
from sanderling_export.graphs import Feed

_DOMAIN = "com.microsoft"
# Of what a channel must exceed the median one by to be smoothed: less than where ranges are found at run time.
OUTLIER = 1.5


@dataclass(frozen=True, slots=True)
class Made:
    """The quantized graph and what was done: inputs smoothed, channels' columns added, tables quantized."""

    model: onnx.ModelProto
    products: int
    smoothed: int
    columns: int
    tables: int


@dataclass(slots=True)
class _Seen:
    """The range of an activation over the calibration data, and the sum of x x^T."""

    low: float
    high: float
    moments: NDArray[np.float64]


def quantize(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    *,
    keep: Collection[str] = (),
    limit: float = split.LIMIT,
    outlier: float = OUTLIER,
    rounder: rounding.Rounder = rounding.rounded,
) -> Made:
    """Split, smooth, and quantize; `feeds` are single inputs without padding, so that no masked position counts.

    Products whose nodes are named in `keep` stay as they are. Hidden channels are split at `limit` (0: not at all);
    a channel is smoothed where it peaks above `outlier` times the median one. `rounder` rounds the weights.
    """
    changed = graphs.copied(model)
    kept = {node.input[0] for nodes in smooth.products(changed).values() for node in nodes if node.name in keep}
    layers = [layer for layer in split.find(changed) if limit and layer.tensor not in kept]
    hidden = {layer.tensor for layer in layers}
    columns = split.split(changed, layers, _peaks(changed, hidden, feeds), limit)
    smoothed = smooth.smooth(changed, feeds, outlier=outlier, skip=hidden | kept)
    products = {tensor: nodes for tensor, nodes in smooth.products(changed).items() if tensor not in kept}
    seen = _see(changed, products, hidden, feeds, limit)
    for tensor, nodes in products.items():
        _quantize_input(changed, tensor, nodes, seen[tensor])
        for node in nodes:
            _quantize_product(changed, tensor, node, seen[tensor], rounder)
    if _DOMAIN not in {opset.domain for opset in changed.opset_import}:
        changed.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    looked_up = tables.quantize_tables(changed)
    graphs.prune(changed)
    return Made(changed, sum(map(len, products.values())), smoothed, columns, looked_up)


def _peaks(model: onnx.ModelProto, tensors: set[str], feeds: Sequence[Feed]) -> dict[str, NDArray[np.float32]]:
    peaks: dict[str, NDArray[np.float32]] = {}
    for values in graphs.observe(model, tensors, feeds):
        for name, value in values.items():
            peak = value.reshape(-1, value.shape[-1]).max(axis=0)
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks


def _see(
    model: onnx.ModelProto,
    products: dict[str, list[onnx.NodeProto]],
    hidden: set[str],
    feeds: Sequence[Feed],
    limit: float,
) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for values in graphs.observe(model, products, feeds):
        for name, value in values.items():
            rows = value.reshape(-1, value.shape[-1])
            if name in hidden:
                rows = np.minimum(rows, limit)
            entry = seen.setdefault(name, _Seen(0.0, 0.0, np.zeros((rows.shape[1], rows.shape[1]))))
            entry.low, entry.high = min(entry.low, float(rows.min())), max(entry.high, float(rows.max()))
            entry.moments += rows.T @ rows
    return seen


def _quantize_input(model: onnx.ModelProto, tensor: str, nodes: list[onnx.NodeProto], seen: _Seen) -> None:
    scale = np.float32(max((seen.high - seen.low) / 255, 1e-12))
    zero = np.uint8(np.clip(np.rint(-seen.low / scale), 0, 255))
    names = [f"{tensor}_scale", f"{tensor}_zero"]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), names[0]))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(zero), names[1]))
    first = next(i for i, node in enumerate(model.graph.node) if any(node is other for other in nodes))
    rounded = helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}_uint8"], f"{tensor}_quantize")
    model.graph.node.insert(first, rounded)


def _quantize_product(
    model: onnx.ModelProto, tensor: str, node: onnx.NodeProto, seen: _Seen, rounder: rounding.Rounder
) -> None:
    constants = graphs.weights(model)
    name = node.input[1]
    integers, scales = f"{name}_int8", f"{name}_scales"
    if integers not in constants:
        values, by_column = rounder(graphs.array(constants[name]), seen.moments)
        model.graph.initializer.append(numpy_helper.from_array(values, integers))
        model.graph.initializer.append(numpy_helper.from_array(by_column, scales))
    inputs = [f"{tensor}_uint8", integers, f"{tensor}_scale", scales, f"{tensor}_zero"]
    output, position = node.output[0], next(i for i, other in enumerate(model.graph.node) if other is node)
    readers = [other for other in model.graph.node if output in other.input]
    is_output = output in {value.name for value in model.graph.output}
    if len(readers) == 1 and readers[0].op_type == "Add" and not is_output:
        bias = next((other for other in readers[0].input if other in constants), "")
        if bias and list(constants[bias].dims) == [constants[name].dims[1]]:
            inputs += ["", bias]
            output = readers[0].output[0]
            model.graph.node.remove(readers[0])
    made = helper.make_node("MatMulIntegerToFloat", inputs, [output], f"{output}_integers", domain=_DOMAIN)
    model.graph.node.remove(node)
    model.graph.node.insert(position, made)
