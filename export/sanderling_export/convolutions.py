"""Convolutions and Gemms with constant weights: which a graph has, how their weights are rounded, and what their biases
make up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling_export import depthwise, graphs, rounding
from sanderling_export.depthwise import Window
from sanderling_export.graphs import Feed
from sanderling_export.moments import Moments

_FULL_RANGE, _REDUCED_RANGE = 127.0, 64.0


@dataclass(frozen=True, slots=True)
class Layer:
    """A Conv or Gemm with constant weights; `axis` is the weights' output channel. A pointwise layer is a product of
    matrices."""

    node: str
    input: str
    weight: str
    bias: str | None
    axis: int
    depthwise: bool
    pointwise: bool
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Weights on the values that 8 bits can hold, the scale of each output channel where rounding chose it, and of
    depthwise layers what their taps see in the mean (channels, taps)."""

    values: NDArray[np.float32]
    scales: NDArray[np.float32] | None = None
    seen: NDArray[np.float64] | None = None


def find(model: onnx.ModelProto) -> list[Layer]:
    """Every layer of a graph whose nodes have names."""
    constants = graphs.weights(model)
    found = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in constants:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in constants else None
        dims = constants[node.input[1]].dims
        if node.op_type == "Gemm" and (attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0):
            continue
        axis = 0 if node.op_type == "Conv" or attributes.get("transB") else 1
        by_channel = node.op_type == "Conv" and attributes.get("group", 1) == dims[0] > 1
        shared = sum(node.input[1] in other.input for other in model.graph.node) > 1
        product = node.op_type == "Gemm" or (attributes.get("group", 1) == 1 and all(size == 1 for size in dims[2:]))
        pointwise = product and not shared and not any(attributes.get("pads", ()))
        window = _window(attributes, dims) if by_channel and dims[1] == 1 and not shared else None
        found.append(Layer(node.name, node.input[0], node.input[1], bias, axis, by_channel, pointwise, window))
    return found


def _window(attributes: dict[str, Any], dims: Sequence[int]) -> Window | None:
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    ones = [1] * (len(dims) - 2)
    return depthwise.window(
        dims[2:],
        attributes.get("strides", ones),
        attributes.get("pads", [0] * (2 * len(ones))),
        attributes.get("dilations", ones),
    )


def grids(model: onnx.ModelProto, layers: list[Layer], feeds: Sequence[Feed]) -> dict[str, Grid]:
    """The weights of each layer as they will be rounded, by node."""
    constants = graphs.weights(model)
    pointwise = [layer for layer in layers if layer.pointwise]
    windows = {layer.node: Moments() for layer in layers if layer.window is not None}
    moments = {layer.input: Moments(np.float32) for layer in pointwise}
    for values in graphs.observe(model, {layer.input for layer in layers if layer.pointwise or layer.window}, feeds):
        for name, seen_so_far in moments.items():
            seen_so_far.add(np.moveaxis(values[name], 1, -1).reshape(-1, values[name].shape[1]))
        for layer in layers:
            if layer.window is not None:
                windows[layer.node].add(layer.window.patches(values[layer.input]))
    found = {}
    for layer in layers:
        weight = graphs.array(constants[layer.weight])
        if layer.node in windows:
            seen = windows[layer.node]
            integers, scales = depthwise.rounded(weight.reshape(len(weight), -1), seen.covariance)
            kernels = (integers * scales[:, None]).astype(np.float32)
            found[layer.node] = Grid(kernels.reshape(weight.shape), scales, seen.mean)
        elif layer.pointwise:
            matrix = weight.reshape(len(weight), -1).T if layer.axis == 0 else weight
            integers, scales = rounding.rounded(np.ascontiguousarray(matrix), moments[layer.input].scatter)
            exact = integers * scales
            found[layer.node] = Grid((exact.T if layer.axis == 0 else exact).reshape(weight.shape), scales)
        else:
            found[layer.node] = Grid(_rounded(weight, layer))
    return found


def _rounded(weight: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
    """The weights as ONNX Runtime's symmetric quantization by output channel will round them."""
    axes = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
    peak = np.abs(weight).max(axis=axes, keepdims=True)
    scale = np.where(peak > 0, peak / (_FULL_RANGE if layer.depthwise else _REDUCED_RANGE), 1)
    return np.asarray(np.rint(weight / scale) * scale, dtype=np.float32)


def _shift(weight: NDArray[np.float32], grid: Grid, layer: Layer, mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """How far rounding moves the mean of each output channel: (weight - rounded) times the mean input."""
    lost = (weight - grid.values).astype(np.float64)
    if grid.seen is not None:
        return np.asarray((lost.reshape(grid.seen.shape) * grid.seen).sum(axis=1), dtype=np.float32)
    if weight.ndim > 2:
        lost = lost.reshape(*lost.shape[:2], -1).sum(axis=2)
    elif layer.axis == 1:
        lost = lost.T
    outputs, width = lost.shape
    # A grouped convolution's output sees the inputs of its own group only.
    groups = len(mean) // width
    grouped = lost.reshape(groups, outputs // groups, width)
    shift = np.einsum("gow,gw->go", grouped, mean.reshape(groups, width))
    return np.asarray(shift.ravel(), dtype=np.float32)


def correct_bias(model: onnx.ModelProto, layer: Layer, grid: Grid, means: dict[str, NDArray[np.float64]]) -> None:
    """Let the layer's bias take back how far rounding moves its mean; `means` are of each layer's input channels."""
    constants = graphs.weights(model)
    shift = _shift(graphs.array(constants[layer.weight]), grid, layer, means[layer.input])
    if layer.bias is not None and constants[layer.bias].dims == [len(shift)]:
        corrected = onnx.numpy_helper.from_array(graphs.array(constants[layer.bias]) + shift, f"{layer.node}_bias")
    elif layer.bias is None:
        corrected = onnx.numpy_helper.from_array(shift, f"{layer.node}_bias")
    else:
        return
    model.graph.initializer.append(corrected)
    node = next(node for node in model.graph.node if node.name == layer.node)
    if len(node.input) > 2:
        node.input[2] = corrected.name
    else:
        node.input.append(corrected.name)
