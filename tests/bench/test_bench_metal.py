"""Operations are those that can be counted by hand; shares are of peaks measured in the same run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from sanderling.bundle import open_bundle
from sanderling_bench import flops, table
from sanderling_bench.inputs import inputs_for
from sanderling_bench.measure import Plan, measure
from sanderling_bench.metal import measure_metal
from sanderling_bench.record import Call, Metal, Samples
from sanderling_bench.summary import summarize


def saved(
    folder: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], weights: dict[str, np.ndarray[Any, Any]]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    for value in graph.output:
        value.ClearField("type")
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "graph.onnx")
    return folder / "graph.onnx"


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_products_and_attention_of_every_length(tmp_path: Path) -> None:
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
        helper.make_node("Attention", ["q", "k", "v"], ["mixed"], q_num_heads=2, kv_num_heads=2),
        helper.make_node("Gemm", ["first", "head"], ["y"], transB=1),
    ]
    nodes.insert(4, helper.make_node("Gather", ["mixed", "zero"], ["first"], axis=1))
    weights = {f"w{name}": floats(8, 8) for name in "qkv"} | {"head": floats(3, 8), "zero": np.array(0, np.int64)}
    graph = saved(tmp_path, nodes, {"x": (TensorProto.FLOAT, ["batch", "length", 8])}, weights)
    feeds = [{"x": floats(batch, length, 8)} for batch, length in ((1, 4), (2, 5), (1, 4))]
    found = flops.count(graph, feeds)
    for work, (batch, length) in zip(found, ((1, 4), (2, 5), (1, 4)), strict=True):
        projections = 3 * 2 * batch * length * 8 * 8
        scores_and_mixture = 2 * 2 * batch * length * length * 8
        assert work.float_operations == projections + scores_and_mixture + 2 * batch * 8 * 3
        assert work.integer_operations == 0
        assert work.weight_bytes == 4 * (3 * 8 * 8 + 3 * 8)


def test_a_convolution_in_groups(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = saved(tmp_path, [node], {"x": (TensorProto.FLOAT, ["batch", 4, 6, 5])}, {"w": floats(8, 2, 3, 3)})
    (work,) = flops.count(graph, [{"x": floats(3, 4, 6, 5)}])
    assert work.float_operations == 2 * (3 * 8 * 6 * 5) * (2 * 3 * 3)


def test_products_in_integers(tmp_path: Path) -> None:
    weight = np.ones((6, 7), np.int8)
    scales = {"one": np.array(1, np.float32), "zero": np.array(0, np.uint8), "scales": np.ones(7, np.float32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x8"]),
        helper.make_node("MatMulIntegerToFloat", ["x8", "w", "one", "scales"], ["y"], domain="com.microsoft"),
    ]
    graph = saved(tmp_path, nodes, {"x": (TensorProto.FLOAT, ["batch", 6])}, {"w": weight, **scales})
    (work,) = flops.count(graph, [{"x": floats(5, 6)}])
    assert (work.float_operations, work.integer_operations, work.weight_bytes) == (0, 2 * 5 * 6 * 7, 42)


@pytest.mark.parametrize(("operator", "shapes"), [("MatMulNBits", [[5, 64], [7, 2, 16]]), ("FusedMatMul", [[64, 5]])])
def test_sides_that_are_packed_or_transposed(operator: str, shapes: list[list[int]]) -> None:
    inputs = [{"float": shape} for shape in (*shapes, [64, 7])]
    arguments = {"op_name": operator, "input_type_shape": inputs, "output_type_shape": [{"float": [5, 7]}]}
    assert flops.work([{"name": "n_kernel_time", "args": arguments}]).float_operations == 2 * 5 * 64 * 7
    assert flops.work([{"name": "n_fence_before", "args": arguments}]).float_operations == 0


def test_peaks_of_this_machine() -> None:
    metal = measure_metal(1, rounds=1)
    assert metal.threads == 1
    # From a slow virtual machine to the largest server's core.
    assert 1e8 < metal.float_operations < 1e14
    assert 1e8 < metal.integer_operations < 1e15
    assert 1e8 < metal.memory_bytes < 1e13


def test_shares_are_the_time_at_the_peak_over_the_time_taken() -> None:
    calls = tuple(Call(0, index, seconds) for index, seconds in enumerate((2.0, 4.0)))
    samples = Samples(
        single_stream=calls,
        offline=(Call(0, 0, 5.0),),
        float_operations=(100, 200),
        integer_operations=(200, 400),
        weight_bytes=10,
    )
    found = summarize({"a": samples}, {"a": 1}, 2, "fp32", metal=Metal(1, 100.0, 400.0, 20.0))["a"].metal
    assert found is not None
    assert (found.float_operations, found.integer_operations) == (150, 300)
    # 1 + 0.5 of 2 seconds, 2 + 1 of 4; 4.5 of 5; 0.5 of 2 and of 4.
    assert found.single_stream == pytest.approx(0.75)
    assert found.offline == pytest.approx(0.9)
    assert found.weights == pytest.approx((0.25 + 0.125) / 2)


def test_the_bench_prints_the_distance(embedding_bundle: Path) -> None:
    bundle = open_bundle(embedding_bundle)
    made = measure(bundle, inputs_for(bundle), Plan(rounds=1, samples=2, cold_starts=0, threads=1))
    assert made.metal is not None
    assert len(made.samples["fp32"].float_operations) == made.settings.inputs
    stream = io.StringIO()
    Console(file=stream, width=80).print(table.render(made))
    shown = stream.getvalue()
    assert "Distance to the metal" in shown
    assert "Peaks in this run, 1 thread:" in shown
    assert max(map(len, shown.splitlines())) <= 80
