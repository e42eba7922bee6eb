"""From a clean fp32 graph to a graph in the precision asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import onnx
from msgspec.structs import replace
from onnxruntime.quantization import QuantType, quantize_dynamic

from sanderling.errors import ExportError
from sanderling_export import graphs, half, matmuls, rounding, smooth, static, tables, weight_only
from sanderling_export.graphs import Feed
from sanderling_export.recipe import Precision
from sanderling_export.settings import Settings

# Ranges of fewer samples than this leave out what a model meets every day.
ENOUGH = 100
DEFAULTS = Settings()

# Operators that multiply by weights, and how many of those left in fp32 a note names.
_WEIGHTED = {"Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"}
_NAMED = 10


def default_precision(model: onnx.ModelProto) -> Precision:
    """int8-static for convolutional networks, int8-dynamic for transformers and their kin: by which node is more."""
    constants = graphs.weights(model)
    weighted = [node.op_type for node in model.graph.node if len(node.input) > 1 and node.input[1] in constants]
    return "int8-static" if weighted.count("Conv") > weighted.count("MatMul") else "int8-dynamic"


def quantize(
    model: onnx.ModelProto,
    precision: Precision,
    feeds: Sequence[Feed],
    settings: Settings = DEFAULTS,
    rounder: rounding.Rounder = rounding.rounded,
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph in `precision`, and notes on how it was made. `feeds` are single calibration inputs.

    Raises ExportError: a precision that this graph cannot have, no samples, a node to keep that is not there.
    """
    if precision == "fp32":
        return model, ()
    if precision == "fp16":
        return half.convert(model), ("fp16: weights and inner tensors in half precision, inputs and outputs float32",)
    model = graphs.named(model)
    settings = replace(settings, keep=_kept(model, precision, settings.keep))
    made, notes, in_float = _quantized(model, precision, feeds, settings, rounder)
    notes += _left(made, precision, {*(settings.keep or ()), *in_float})
    if not settings.keep:
        return made, notes
    kept = f"{precision}: kept in {settings.keep_as}: {', '.join(settings.keep)}"
    if settings.keep_as == "int8-weight-only":
        made = weight_only.quantize(made, 8, block=settings.block).model
    return made, (*notes, kept)


def _left(model: onnx.ModelProto, precision: Precision, keep: Collection[str]) -> tuple[str, ...]:
    """A note on the nodes that have weights, and no form in this precision: they are still in fp32."""
    constants = graphs.weights(model)
    left = [
        f"{node.name} ({node.op_type})"
        for node in model.graph.node
        if node.op_type in _WEIGHTED
        and node.name not in keep
        and any(name in constants and _is_matrix(constants[name]) for name in node.input)
    ]
    if not left:
        return ()
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return (f"{precision}: cannot be quantized, left in fp32: {', '.join(left[:_NAMED])}{more}",)


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2


def _kept(model: onnx.ModelProto, precision: Precision, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The nodes to keep, with the products that share their input: it is quantized for all of them or for none."""
    if not names:
        return names
    constants = graphs.weights(model)
    known = {node.name: node for node in model.graph.node if len(node.input) > 1 and node.input[1] in constants}
    for name in names:
        if name not in known:
            raise ExportError(
                f"{precision} is to keep {name!r}, but this graph has no such node with weights; it has "
                f"{', '.join(sorted(known)[:3])} and others. Search anew with --variants auto, or take it out of keep."
            )
    products = {known[name].input[0] for name in names if known[name].op_type == "MatMul"}
    return tuple(name for name, node in known.items() if name in names or node.input[0] in products)


def _quantized(
    model: onnx.ModelProto,
    precision: Precision,
    feeds: Sequence[Feed],
    settings: Settings,
    rounder: rounding.Rounder,
) -> tuple[onnx.ModelProto, tuple[str, ...], tuple[str, ...]]:
    """The graph, notes, and the nodes that were left in float by choice."""
    if precision == "int8-weight-only":
        return *_weight_only(model, precision, 8, settings), ()
    if precision == "int4-weight-only":
        return *_weight_only(model, precision, 4, settings), ()
    if not feeds:
        raise ExportError(
            f"{precision} is calibrated on samples, and there are none; give some with --data (100 or more), or leave "
            f"{precision} out of --variants."
        )
    few = _few(precision, len(feeds))
    in_float: tuple[str, ...] = ()
    if precision == "int8-static":
        made, notes, in_float = _static(model, feeds, settings, rounder)
    else:
        made, notes = _dynamic(model, feeds, settings)
    return made, (*notes, *few), in_float


def _few(precision: Precision, count: int) -> tuple[str, ...]:
    if count >= ENOUGH:
        return ()
    return (f"{precision}: calibrated on {count} samples only; with {ENOUGH} or more its ranges are surer",)


def _weight_only(
    model: onnx.ModelProto, precision: Precision, bits: Literal[4, 8], settings: Settings
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    made = weight_only.quantize(model, bits, block=settings.block, keep=settings.keep or ())
    if not made.products:
        raise ExportError(
            f"{precision} quantizes products with constant weights (MatMul), and this graph has none; a convolutional "
            "network takes int8-static."
        )
    note = (
        f"{precision}: {made.products} weights in {bits} bits by blocks of {settings.block}, "
        f"{made.tables} embedding tables by row in int8"
    )
    return made.model, (note,)


def _static(
    model: onnx.ModelProto, feeds: Sequence[Feed], settings: Settings, rounder: rounding.Rounder
) -> tuple[onnx.ModelProto, tuple[str, ...], tuple[str, ...]]:
    how: str = settings.calibration
    if settings.calibration == "percentile":
        how = f"percentile {settings.percentile:g}"
    if default_precision(model) == "int8-static":
        layers = static.quantize(
            model,
            feeds,
            keep=settings.keep,
            method=settings.calibration,
            percentile=settings.percentile,
            sums=settings.sums,
        )
        kept = f"int8-static: calibrated on {len(feeds)} samples ({how}), weights by channel, bias corrected"
        left = (*layers.kept, *(() if settings.sums else ("sums",)))
        in_float = f"; in float: {', '.join(left)}" if left else ""
        return layers.model, (kept + in_float,), layers.kept
    made = matmuls.quantize(
        model,
        feeds,
        keep=settings.keep or (),
        limit=settings.split,
        method=settings.calibration,
        percentile=settings.percentile,
        rounder=rounder,
    )
    note = (
        f"int8-static: calibrated on {len(feeds)} samples ({how}), {made.products} products with weights by channel, "
        f"{made.smoothed} inputs smoothed, {made.columns} columns split off for outliers, "
        f"{made.tables} embedding tables by row"
    )
    return made.model, (note,), ()


def _dynamic(
    model: onnx.ModelProto, feeds: Sequence[Feed], settings: Settings
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    changed = graphs.copied(model)
    keep = settings.keep or ()
    kept = {node.input[0] for node in changed.graph.node if node.name in keep}
    smoothed = smooth.smooth(changed, feeds, skip=kept)
    constants = graphs.weights(changed)
    products = [node for tensor, nodes in smooth.products(changed).items() if tensor not in kept for node in nodes]
    # What goes together in calibration data does not help here: of speech it was the wrong data, and cost precision.
    rounded = {name: rounding.paired(graphs.array(constants[name])) for name in {node.input[1] for node in products}}
    looked_up = tables.quantize_tables(changed)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            changed,
            str(target),
            op_types_to_quantize=["MatMul"],
            # The quantizer makes products of Gemm nodes and names them so before it looks.
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in keep)],
            per_channel=True,
            # Of weights that are not rounded in pairs: without VNNI, sums of two products saturate 16 bits.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        made = onnx.load(target)
        constants = graphs.weights(made)
        for name, (integers, by_column) in rounded.items():
            graphs.replace(constants[f"{name}_quantized"], integers)
            graphs.replace(constants[f"{name}_scale"], by_column)
        onnx.save(made, target)
        note = (
            f"int8-dynamic: {len(rounded)} weights by channel, {smoothed} inputs smoothed on {len(feeds)} samples, "
            f"{looked_up} embedding tables by row"
        )
        # Loading a graph that was fused at export takes half the time.
        return graphs.fuse(target, Path(folder) / "fused.onnx"), (note,)
