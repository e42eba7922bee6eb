"""int8-static: convolutions with calibrated activations (QDQ), made to hold on processors without VNNI too.

Three things make it hold, each measured on EfficientNet-Lite0 (mean cosine of logits; plain QDQ gives 0.85 to 0.93):

- Without VNNI, ONNX Runtime adds pairs of u8 x s8 products in 16 bits, which saturate. Weights that are matrices
  (pointwise convolutions, Gemm) are bounded in pairs, and each rounding error is made up for by those rounded after it;
  so it is in depthwise kernels, which accumulate wider and need no bound. Other weights take 7 bits, which cannot
  saturate.
- Rounding weights shifts the mean of every channel; the shift is known from the mean input and goes into the bias
  (bias correction, Nagel et al. 2019). What rounded activations shift beyond that is measured in the end (`shifts`).
- A few small layers cost most of the drift; found by rounding each alone, weights and input, they stay in float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from sanderling.verification import cosines
from sanderling_export import convolutions, graphs, shifts
from sanderling_export.convolutions import Grid, Layer
from sanderling_export.graphs import Feed
from sanderling_export.ranges import PERCENTILE, Method, Ranges

# Layers kept in float hold at most this share of all weights, and each costs at least this much cosine alone.
_KEPT_SHARE = 0.01
_KEPT_DRIFT = 2e-4
_PROBES = 10
_MEAN_SAMPLES = 80
_BOUNDING = {"Clip", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"}
_SUM = "Add"
_OPERATORS = ["Conv", "Gemm", "MatMul", _SUM, "Clip", "Relu", "MaxPool", "GlobalAveragePool"]


@dataclass(frozen=True, slots=True)
class Static:
    """The quantized graph, and which layers stayed in float."""

    model: onnx.ModelProto
    kept: tuple[str, ...]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantize(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    *,
    keep: Collection[str] | None = None,
    method: Method = "min-max",
    percentile: float = PERCENTILE,
    sums: bool = True,
) -> Static:
    """Quantize weights and activations to 8 bits, with ranges from `feeds` (single inputs) by `method`.

    Layers whose nodes are named in `keep` stay in float; by default those few that cost most. Without `sums` what is
    added up stays in float, too: where each layer adds to what was before it, rounded sums add up their errors.
    """
    operators = [name for name in _OPERATORS if sums or name != _SUM]
    model = graphs.named(model)
    original = graphs.copied(model)
    samples = feeds
    layers = convolutions.find(model)
    means = graphs.channel_means(model, [layer.input for layer in layers], feeds[:_MEAN_SAMPLES])
    grids = convolutions.grids(model, layers, feeds[:_MEAN_SAMPLES])
    kept = _most_sensitive(model, layers, grids, means, feeds[:_PROBES]) if keep is None else tuple(keep)
    rounded = [layer for layer in layers if layer.node not in kept]
    for layer in rounded:
        convolutions.correct_bias(model, layer, grids[layer.node], means)
    for layer in rounded:
        if grids[layer.node].scales is not None:
            graphs.replace(graphs.weights(model)[layer.weight], grids[layer.node].values)
    graphs.prune(model)
    overrides: dict[str, list[dict[str, object]]] = {
        layer.weight: [{"quant_type": QuantType.QInt8, "reduce_range": False, "axis": layer.axis}]
        * graphs.weights(model)[layer.weight].dims[layer.axis]
        for layer in rounded
        if layer.depthwise and grids[layer.node].scales is None
    }
    for layer in rounded:
        scales = grids[layer.node].scales
        if scales is not None:
            fixed = {"quant_type": QuantType.QInt8, "zero_point": np.int8(0), "axis": layer.axis}
            overrides[layer.weight] = [{**fixed, "scale": scale} for scale in scales]
    if method != "min-max":
        found = _ranges(model, feeds, method, percentile, operators)
        overrides |= {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in found.items()
        }
        # Every range is known by now; the quantizer asks for one sample all the same.
        feeds = feeds[:1]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        quantize_static(
            model,
            str(target),
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            nodes_to_exclude=list(kept),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
        )
        made = onnx.load(str(target))
        _answer_in_float(made)
        shifts.correct(made, original, samples)
        return Static(made, kept)


def _answer_in_float(model: onnx.ModelProto) -> None:
    """The graph's outputs as their last layer gives them: in steps of 8 bits, neighbouring labels would be level."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        last = makers[output.name]
        rounded = makers.get(last.input[0]) if last.op_type == "DequantizeLinear" else None
        if rounded is None or rounded.op_type != "QuantizeLinear" or rounded.input[0] not in makers:
            continue
        raw = rounded.input[0]
        model.graph.node.remove(last)
        model.graph.node.remove(rounded)
        for node in model.graph.node:
            node.output[:] = [output.name if name == raw else name for name in node.output]
            node.input[:] = [output.name if name == raw else name for name in node.input]


def _ranges(
    model: onnx.ModelProto, feeds: Sequence[Feed], method: Method, percentile: float, operators: Collection[str]
) -> dict[str, tuple[float, float]]:
    """The range of each activation that is rounded; two passes, since a histogram wants to know its ends.

    What a function bounds keeps its whole range: its ends are met often, and to cut them costs more than it gains.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    typed = {value.name: value.type.tensor_type.elem_type for value in (*inferred.graph.value_info, *model.graph.input)}
    typed |= {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    around = {name for n in model.graph.node if n.op_type in operators for name in (*n.input, *n.output)}
    floats = [name for name in around if typed.get(name) == onnx.TensorProto.FLOAT]
    ends = _ends(model, floats, feeds)
    bounded = {name for node in model.graph.node if node.op_type in _BOUNDING for name in node.output}
    free = {name: both for name, both in ends.items() if name not in bounded}
    ranges = Ranges(method, percentile, free)
    for values in graphs.observe(model, free, feeds):
        ranges.add(values)
    return ends | ranges.found()


def _ends(model: onnx.ModelProto, tensors: Iterable[str], feeds: Sequence[Feed]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of each tensor; zero is among them."""
    ends: dict[str, tuple[float, float]] = {}
    for values in graphs.observe(model, tensors, feeds):
        for name, value in values.items():
            low, high = ends.get(name, (0.0, 0.0))
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    return ends


def _most_sensitive(
    model: onnx.ModelProto,
    layers: list[Layer],
    grids: dict[str, Grid],
    means: dict[str, NDArray[np.float64]],
    probes: Sequence[Feed],
) -> tuple[str, ...]:
    constants = graphs.weights(model)
    sizes = {layer.node: int(np.prod(constants[layer.weight].dims)) for layer in layers}
    budget = _KEPT_SHARE * sum(sizes.values())
    expected = _answers(model, probes)
    ends = _ends(model, {layer.input for layer in layers}, probes)
    costs = {}
    for layer in layers:
        if sizes[layer.node] > budget:
            continue
        trial = onnx.ModelProto()
        trial.CopyFrom(model)
        convolutions.correct_bias(trial, layer, grids[layer.node], means)
        graphs.replace(graphs.weights(trial)[layer.weight], grids[layer.node].values)
        _round_input(trial, layer, *ends[layer.input])
        costs[layer.node] = 1.0 - float(cosines(_answers(trial, probes), expected).mean())
    kept = []
    for name in sorted(costs, key=lambda name: -costs[name]):
        if costs[name] >= _KEPT_DRIFT and sizes[name] <= budget:
            kept.append(name)
            budget -= sizes[name]
    return tuple(kept)


def _round_input(model: onnx.ModelProto, layer: Layer, low: float, high: float) -> None:
    """Let the layer, and it alone, read its input in 8 bits."""
    scale = (high - low) / 255 or 1.0
    name = f"{layer.node}_rounded"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(scale), f"{name}_scale"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(round(-low / scale)), f"{name}_zero"))
    place = next(index for index, node in enumerate(model.graph.node) if node.name == layer.node)
    by = [f"{name}_scale", f"{name}_zero"]
    model.graph.node[place].input[0] = name
    for made in (
        onnx.helper.make_node("DequantizeLinear", [f"{name}_integers", *by], [name]),
        onnx.helper.make_node("QuantizeLinear", [layer.input, *by], [f"{name}_integers"]),
    ):
        model.graph.node.insert(place, made)


def _answers(model: onnx.ModelProto, feeds: Sequence[Feed]) -> NDArray[np.float32]:
    runner = graphs.session(model)
    return np.concatenate([runner.run(None, dict(feed))[0] for feed in feeds])
