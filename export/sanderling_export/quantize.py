"""From a clean fp32 graph to a graph in the precision asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from sanderling_export import graphs, smooth, static, tables
from sanderling_export.graphs import Feed
from sanderling_export.recipe import Precision


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
    if precision == "int8-static":
        made = static.quantize(model, feeds)
        kept = f"int8-static: calibrated on {len(feeds)} samples (min-max), weights by channel, bias corrected"
        in_float = f"; in float: {', '.join(made.kept)}" if made.kept else ""
        return made.model, (kept + in_float,)
    return _dynamic(model, feeds)


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
