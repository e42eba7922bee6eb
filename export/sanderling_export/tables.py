"""Embedding tables in 8 bits: a MiniLM's table is half its weight, and one scale a row costs it almost nothing."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sanderling_export import graphs

# Smaller tables (segments, short position tables) are not worth three nodes each.
_MIN_ELEMENTS = 2**17


def quantize_tables(model: onnx.ModelProto) -> int:
    """Replace large float tables that are only looked up by int8 rows and a scale a row; gives how many."""
    constants = graphs.weights(model)
    lookups: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    others: set[str] = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name not in constants:
                continue
            rows = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
            if node.op_type == "Gather" and position == 0 and rows:
                lookups[name].append(node)
            else:
                others.add(name)
    chosen = [
        name
        for name in lookups
        if name not in others
        and constants[name].data_type == onnx.TensorProto.FLOAT
        and len(constants[name].dims) == 2
        and int(np.prod(constants[name].dims)) >= _MIN_ELEMENTS
    ]
    for name in chosen:
        _quantize(model, constants[name], lookups[name])
    return len(chosen)


def _quantize(model: onnx.ModelProto, table: onnx.TensorProto, nodes: list[onnx.NodeProto]) -> None:
    values = graphs.array(table)
    peak = np.abs(values).max(axis=1, keepdims=True)
    scales = np.where(peak > 0, peak / np.float32(127), np.float32(1)).astype(np.float32)
    rows = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
    rows_name, scales_name = f"{table.name}_int8", f"{table.name}_scales"
    model.graph.initializer.remove(table)
    model.graph.initializer.append(numpy_helper.from_array(rows, rows_name))
    model.graph.initializer.append(numpy_helper.from_array(scales, scales_name))
    for node in nodes:
        position = next(i for i, other in enumerate(model.graph.node) if other is node)
        ids, output = node.input[1], node.output[0]
        parts = [
            helper.make_node("Gather", [rows_name, ids], [f"{output}_int8"], axis=0),
            helper.make_node("Gather", [scales_name, ids], [f"{output}_scale"], axis=0),
            helper.make_node("Cast", [f"{output}_int8"], [f"{output}_cast"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{output}_cast", f"{output}_scale"], [output]),
        ]
        for part in parts:
            part.name = f"{part.output[0]}_node"
        model.graph.node.remove(node)
        for offset, part in enumerate(parts):
            model.graph.node.insert(position + offset, part)
