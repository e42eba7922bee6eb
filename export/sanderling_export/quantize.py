"""From a clean fp32 graph to a graph in the precision asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from sanderling.errors import ExportError
from sanderling_export import graphs, half, matmuls, smooth, static, tables, weight_only
from sanderling_export.graphs import Feed
from sanderling_export.recipe import Precision

# Ranges of fewer samples than this leave out what a model meets every day.
ENOUGH = 100


def default_precision(model: onnx.ModelProto) -> Precision:
    """int8-static for convolutional networks, int8-dynamic for transformers and their kin: by which node is more."""
    constants = graphs.weights(model)
    weighted = [node.op_type for node in model.graph.node if len(node.input) > 1 and node.input[1] in constants]
    return "int8-static" if weighted.count("Conv") > weighted.count("MatMul") else "int8-dynamic"


def quantize(
    model: onnx.ModelProto, precision: Precision, feeds: Sequence[Feed]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph in `precision`, and notes on how it was made. `feeds` are single calibration inputs."""
    if precision == "fp32":
        return model, ()
    if precision == "fp16":
        return half.convert(model), ("fp16: weights and inner tensors in half precision, inputs and outputs float32",)
    if precision == "int8-weight-only":
        return _weight_only(model, precision, 8)
    if precision == "int4-weight-only":
        return _weight_only(model, precision, 4)
    if not feeds:
        raise ExportError(
            f"{precision} is calibrated on samples, and there are none; give some with --data (100 or more), or leave "
            f"{precision} out of --variants."
        )
    few = _few(precision, len(feeds))
    made, notes = _static(model, feeds) if precision == "int8-static" else _dynamic(model, feeds)
    return made, (*notes, *few)


def _few(precision: Precision, count: int) -> tuple[str, ...]:
    if count >= ENOUGH:
        return ()
    return (f"{precision}: calibrated on {count} samples only; with {ENOUGH} or more its ranges are surer",)


def _weight_only(
    model: onnx.ModelProto, precision: Precision, bits: Literal[4, 8]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    made = weight_only.quantize(model, bits)
    if not made.products:
        raise ExportError(
            f"{precision} quantizes products with constant weights (MatMul), and this graph has none; a convolutional "
            "network takes int8-static."
        )
    note = (
        f"{precision}: {made.products} weights in {bits} bits by blocks of {weight_only.BLOCK}, "
        f"{made.tables} embedding tables by row in int8"
    )
    return made.model, (note,)


def _static(model: onnx.ModelProto, feeds: Sequence[Feed]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    if default_precision(model) == "int8-static":
        layers = static.quantize(model, feeds)
        kept = f"int8-static: calibrated on {len(feeds)} samples (min-max), weights by channel, bias corrected"
        in_float = f"; in float: {', '.join(layers.kept)}" if layers.kept else ""
        return layers.model, (kept + in_float,)
    made = matmuls.quantize(model, feeds)
    note = (
        f"int8-static: calibrated on {len(feeds)} samples (min-max), {made.products} products with weights by channel, "
        f"{made.smoothed} inputs smoothed, {made.columns} columns split off for outliers, "
        f"{made.tables} embedding tables by row"
    )
    return made.model, (note,)


def _dynamic(model: onnx.ModelProto, feeds: Sequence[Feed]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    changed = graphs.copied(model)
    smoothed = smooth.smooth(changed, feeds)
    looked_up = tables.quantize_tables(changed)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        # Seven-bit weights: without VNNI, pairs of u8 x s8 products saturate 16 bits.
        quantize_dynamic(
            changed,
            str(target),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        note = (
            f"int8-dynamic: weights by channel in 7 bits, {smoothed} inputs smoothed on {len(feeds)} samples, "
            f"{looked_up} embedding tables by row"
        )
        # Loading a graph that was fused at export takes half the time.
        return graphs.fuse(target, Path(folder) / "fused.onnx"), (note,)
