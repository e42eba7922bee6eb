"""How a variant is made, as a recipe says it: layers that are kept, blocks, the split."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sanderling.errors import ExportError
from sanderling.verification import cosines
from sanderling_export import graphs, rounding
from sanderling_export.graphs import Feed
from sanderling_export.quantize import quantize
from sanderling_export.recipe import Precision
from sanderling_export.settings import Settings, of_graph

WIDTH = 32
QUANTIZED: list[Precision] = ["int8-dynamic", "int8-static", "int8-weight-only", "int4-weight-only"]


def network(seed: int = 3) -> onnx.ModelProto:
    """Two products that share an input, then one of their difference; weights with outliers, so that rounding costs."""
    draw = np.random.default_rng(seed)
    names = ("left", "right", "last")
    values = {name: draw.standard_t(3, size=(WIDTH, WIDTH)).astype(np.float32) for name in names}
    nodes = [
        helper.make_node("MatMul", ["x", "left"], ["a"], "left_product"),
        helper.make_node("MatMul", ["x", "right"], ["b"], "right_product"),
        helper.make_node("Sub", ["a", "b"], ["c"], "difference"),
        helper.make_node("MatMul", ["c", "last"], ["y"], "last_product"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "tokens", WIDTH]) for name in "xy"]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def inputs(count: int = 24, seed: int = 5) -> list[Feed]:
    draw = np.random.default_rng(seed)
    return [{"x": draw.normal(size=(1, 6, WIDTH)).astype(np.float32)} for _ in range(count)]


def answers(model: onnx.ModelProto, feeds: list[Feed]) -> np.ndarray:
    session = graphs.session(model)
    return np.concatenate([session.run(None, dict(feed))[0].reshape(-1, WIDTH) for feed in feeds])


def drift(model: onnx.ModelProto, feeds: list[Feed]) -> float:
    return 1.0 - float(cosines(answers(model, feeds), answers(network(), feeds)).mean())


def floats(model: onnx.ModelProto) -> set[str]:
    constants = graphs.weights(model)
    return {node.input[1] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants}


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_layer_that_is_kept_stays_in_float_and_costs_nothing(precision: Precision) -> None:
    feeds, seen = inputs(), inputs(seed=9)
    whole, _ = quantize(network(), precision, feeds)
    made, notes = quantize(network(), precision, feeds, Settings(keep=("last_product",)))
    assert floats(whole) == set()
    assert floats(made) == {"last"}
    assert 0 < drift(made, seen) < drift(whole, seen)
    assert f"{precision}: kept in fp32: last_product" in notes


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_product_with_a_bias_that_is_kept_stays_in_float(precision: Precision) -> None:
    """Gemm, which ONNX Runtime's quantizer gives another name before it looks whether it is to be kept."""
    draw = np.random.default_rng(4)
    weights = [
        numpy_helper.from_array(draw.normal(size=size).astype(np.float32), name)
        for name, size in (("first", (WIDTH, WIDTH)), ("last", (WIDTH, WIDTH)), ("bias", (WIDTH,)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "first_product"),
        helper.make_node("Gemm", ["a", "last", "bias"], ["y"], "last_product", transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    feeds: list[Feed] = [{"x": draw.normal(size=(1, WIDTH)).astype(np.float32)} for _ in range(24)]
    made, notes = quantize(model, precision, feeds, Settings(keep=("last_product",)))
    assert f"{precision}: kept in fp32: last_product" in notes
    left = graphs.weights(made)
    kept = [node for node in made.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in left]
    assert len(kept) == 1
    # As it was, or the other way round.
    expected = graphs.array(graphs.weights(model)["last"])
    np.testing.assert_array_equal(
        np.sort(graphs.array(left[kept[0].input[1]]), axis=None), np.sort(expected, axis=None)
    )


@pytest.mark.parametrize("precision", QUANTIZED)
def test_products_of_one_input_are_kept_together(precision: Precision) -> None:
    made, notes = quantize(network(), precision, inputs(), Settings(keep=("right_product",)))
    assert floats(made) == {"left", "right"}
    assert f"{precision}: kept in fp32: left_product, right_product" in notes


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static", "int4-weight-only"])
def test_a_layer_may_be_kept_in_eight_bits(precision: Precision) -> None:
    settings = Settings(keep=("last_product",), keep_as="int8-weight-only")
    made, _ = quantize(network(), precision, inputs(), settings)
    kept = [node for node in made.graph.node if node.op_type == "MatMulNBits"]
    bits = [attribute.i for node in kept for attribute in node.attribute if attribute.name == "bits"]
    assert floats(made) == set()
    assert bits.count(8) == 1
    whole, _ = quantize(network(), precision, inputs())
    assert drift(made, inputs(seed=9)) < drift(whole, inputs(seed=9))


def test_all_layers_kept_is_the_graph_itself() -> None:
    keep = ("left_product", "right_product", "last_product")
    for precision in ("int8-dynamic", "int8-static"):
        made, _ = quantize(network(), precision, inputs(), Settings(keep=keep))
        np.testing.assert_allclose(answers(made, inputs()), answers(network(), inputs()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_layer_that_is_not_there_is_named(precision: Precision) -> None:
    with pytest.raises(ExportError, match=r"keep 'first_product', but this graph has no such node.*last_product"):
        quantize(network(), precision, inputs(), Settings(keep=("first_product",)))


def test_of_a_model_of_several_graphs_a_node_is_named_with_its_graph() -> None:
    asked = Settings(keep=("encoder:/layers.0/MatMul", "decoder:product"), block=64)
    assert of_graph(asked, "encoder", ("encoder", "decoder")) == Settings(keep=("/layers.0/MatMul",), block=64)
    assert of_graph(asked, "decoder", ("encoder", "decoder")).keep == ("product",)
    assert of_graph(Settings(), "encoder", ("encoder", "decoder")) == Settings()
    for wrong in ("/layers.0/MatMul", "tower:product"):
        with pytest.raises(ExportError, match=f"keep has '{wrong}'.*one of decoder:, encoder:"):
            of_graph(Settings(keep=(wrong,)), "encoder", ("encoder", "decoder"))


def test_smaller_blocks_are_nearer() -> None:
    near, far = (quantize(network(), "int4-weight-only", (), Settings(block=block))[0] for block in (16, 128))
    assert drift(near, inputs()) < drift(far, inputs())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 150), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_what_is_remembered_is_what_was_rounded(rows: int, columns: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(rows, columns)).astype(np.float32)
    seen = draw.normal(size=(2 * rows, rows))
    memory = rounding.Memory()
    first, again = (memory(weight, seen.T @ seen) for _ in range(2))
    assert first[0] is again[0]
    found, scales = rounding.rounded(weight, seen.T @ seen)
    np.testing.assert_array_equal(first[0], found)
    np.testing.assert_array_equal(first[1], scales)
    other = memory(weight, np.eye(rows))
    assert other[0] is not first[0]
