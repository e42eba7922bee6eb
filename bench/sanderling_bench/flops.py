"""The arithmetic of a graph, counted from the shapes that really flow through it.

The graph is run once for each input with ONNX Runtime's profiler on, which writes down every node's shapes. What is
counted are products and convolutions, two operations for each multiplication with its addition; sums, norms,
activations and recurrent nodes are not. Work on padding never counts, since each input is run alone.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one run, in float and in integers, and the bytes of the weights that products read."""

    float_operations: int
    integer_operations: int
    weight_bytes: int


def count(graph: Path, feeds: Sequence[Mapping[str, Any]]) -> list[Work]:
    """The work of the graph for each of `feeds`; those of the same shapes are run once."""
    found: dict[tuple[Shape, ...], Work] = {}
    shapes = [tuple(feed[name].shape for name in sorted(feed)) for feed in feeds]
    with tempfile.TemporaryDirectory() as folder:
        for shape, feed in zip(shapes, feeds, strict=True):
            if shape not in found:
                found[shape] = work(_profile(graph, feed, Path(folder)))
    return [found[shape] for shape in shapes]


def work(events: Iterable[Mapping[str, Any]]) -> Work:
    """The work of one run from ONNX Runtime's profile of it."""
    operations = {"float": 0, "integer": 0}
    weights = 0
    for event in events:
        arguments = event.get("args", {})
        counter = _COUNTERS.get(arguments.get("op_name", ""))
        if counter is None or not event["name"].endswith("_kernel_time"):
            continue
        kind, place, operations_of = counter
        inputs = [_shape(one) for one in arguments["input_type_shape"]]
        operations[kind] += operations_of(inputs, _shape(arguments["output_type_shape"][0]))
        if place is not None:
            (dtype,) = arguments["input_type_shape"][place]
            weights += math.prod(inputs[place]) * _BYTES.get(dtype, 4)
    return Work(operations["float"], operations["integer"], weights)


def _profile(graph: Path, feed: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Fused as far as every CPU fuses; weights packed for one kernel would have no shape any more.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    session.run(None, dict(feed))
    written = Path(session.end_profiling())
    events: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    return events


def _shape(one: Mapping[str, Sequence[int]]) -> Shape:
    """The shape in {"float": [2, 3]}."""
    (shape,) = one.values()
    return tuple(shape)


def _product(inputs: Sequence[Shape], output: Shape) -> int:
    """(..., m, k) x (..., k, n), also with either side transposed."""
    left = inputs[0]
    if len(left) < 2:
        return 2 * math.prod(output) * left[0]
    rows = output[-2] if len(output) > 1 else 1
    return 2 * math.prod(output) * (left[-1] if left[-2] == rows else left[-2])


def _gemm(inputs: Sequence[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * (math.prod(inputs[0]) // output[0])


def _convolution(place: int) -> Callable[[Sequence[Shape], Shape], int]:
    return lambda inputs, output: 2 * math.prod(output) * math.prod(inputs[place][1:])


def _transposed_convolution(inputs: Sequence[Shape], _: Shape) -> int:
    return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _attention(inputs: Sequence[Shape], output: Shape) -> int:
    """Scores and mixture: q (b, s, h) or (b, heads, s, d) with keys and values of t tokens.

    Where the second input is a weight of two axes, it is the older Attention that projects its input as well.
    """
    query, key = inputs[0], inputs[1]
    if len(key) == 2:
        projected = 2 * math.prod(query[:-1]) * math.prod(key)
        return projected + 4 * math.prod(query[:-1]) * query[-2] * (key[1] // 3)
    return 2 * key[-2] * (math.prod(query) + math.prod(output))


_BYTES = {"float": 4, "float16": 2, "int8": 1, "uint8": 1, "double": 8}

# By operator: what it computes in, the place of its weights among the inputs, and its operations.
_COUNTERS: dict[str, tuple[str, int | None, Callable[[Sequence[Shape], Shape], int]]] = {
    "MatMul": ("float", 1, _product),
    "FusedMatMul": ("float", 1, _product),
    "MatMulNBits": ("float", 1, _product),
    "Gemm": ("float", 1, _gemm),
    "FusedGemm": ("float", 1, _gemm),
    "Conv": ("float", 1, _convolution(1)),
    "FusedConv": ("float", 1, _convolution(1)),
    "ConvTranspose": ("float", 1, _transposed_convolution),
    "Attention": ("float", None, _attention),
    "MultiHeadAttention": ("float", None, _attention),
    "MatMulInteger": ("integer", 1, _product),
    "MatMulIntegerToFloat": ("integer", 1, _product),
    "DynamicQuantizeMatMul": ("integer", 1, _product),
    "QLinearMatMul": ("integer", 3, _product),
    "QGemm": ("integer", 3, _gemm),
    "ConvInteger": ("integer", 1, _convolution(1)),
    "QLinearConv": ("integer", 3, _convolution(3)),
}
