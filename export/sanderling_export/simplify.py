"""An exported encoder brought to the form that runs fastest: fewer, larger operators, the same answers.

Every pass is proven on the graph at hand: where the answers to probes move by more than 1e-5 of the largest value, or a
pass fails, the graph stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from sanderling_export.passes import attention, biases, gelu, narrow, probe

# Gelu came with opset 20, Attention with 23; the operators below did not change their meaning from 18 to 23.
_OPSET = 23
_UNCHANGED_SINCE_18 = {
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "CumSum", "Div", "Einsum", "Equal", "Erf", "Expand", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual", "Identity",
    "IsNaN", "LayerNormalization", "Less", "LessOrEqual", "Log", "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul",
    "Neg", "Not", "Or", "Pow", "Range", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where",
}  # fmt: skip
_MAX_MOVED = 1e-5

Rewrite = Callable[[ir.Model], int]

_PASSES: tuple[tuple[str, Rewrite], ...] = (
    ("Gelu", gelu.rewrite),
    ("Attention", attention.rewrite),
    ("biases", biases.rewrite),
    ("narrow", narrow.rewrite),
)


def simplify(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The graph after all passes that held, and how often each found its pattern."""
    graph = ir.from_proto(model)
    counts: dict[str, int] = {}
    if {node.op_type for node in graph.graph if node.domain == ""} <= _UNCHANGED_SINCE_18:
        try:
            expected = probe.answers(graph)
        except probe.ProbeError:
            # Nothing can be proven of a graph that takes no probes.
            return model, counts
        for name, rewrite in _PASSES:
            changed, found = _applied(graph, rewrite, expected)
            if found:
                graph, counts[name] = changed, found
    return (ir.to_proto(graph) if counts else model), counts


def _applied(graph: ir.Model, rewrite: Rewrite, expected: list[NDArray[Any]]) -> tuple[ir.Model, int]:
    """The graph after one pass and how often that found its pattern: 0 where it moved an answer, or broke the graph."""
    changed = graph.clone()
    changed.graph.opset_imports[""] = _OPSET
    common.ShapeInferencePass()(changed)
    try:
        found = rewrite(changed)
        common.RemoveUnusedNodesPass()(changed)
        return changed, found if found and probe.distance(expected, probe.answers(changed)) <= _MAX_MOVED else 0
    except probe.ProbeError:
        return graph, 0
