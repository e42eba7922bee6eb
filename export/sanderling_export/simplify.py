"""An exported encoder brought to the form that runs fastest: fewer, larger operators, the same answers.

Every pass is proven on the graph at hand: where the answers to probes move by more than 1e-5 of the largest value, or a
pass fails, the graph stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from sanderling_export.passes import attention, biases, gelu, narrow, probe

# Gelu came with opset 20, Attention with 23; the operators below did not change their meaning from 18 to 23.
_OPSET = 23
_UNCHANGED_SINCE_18 = {
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "CumSum", "Div", "Einsum", "Equal", "Erf", "Expand", "Flatten", "Gather",
    "GatherElements", "Gelu", "Gemm", "GlobalAveragePool", "Greater", "Identity", "LayerNormalization", "Less",
    "Log", "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub",
    "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_MAX_MOVED = 1e-5

_PASSES: tuple[tuple[str, Callable[[ir.Model], int]], ...] = (
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
        expected = probe.answers(graph)
        for name, rewrite in _PASSES:
            changed = graph.clone()
            changed.graph.opset_imports[""] = _OPSET
            common.ShapeInferencePass()(changed)
            found = rewrite(changed)
            common.RemoveUnusedNodesPass()(changed)
            if found and probe.distance(expected, probe.answers(changed)) <= _MAX_MOVED:
                graph, counts[name] = changed, found
    return (ir.to_proto(graph) if counts else model), counts
