"""int8-static for transformers: the split, the rounding that cannot saturate, and answers that no batch mate moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sanderling_export import graphs, matmuls, rounding, split
from sanderling_export.graphs import Feed

WIDTH, INNER = 32, 64


def block(draw: np.random.Generator) -> onnx.ModelProto:
    """MatMul -> Add -> Gelu -> MatMul -> Add, with three hidden channels that peak far above the others."""
    before = draw.normal(size=(WIDTH, INNER)).astype(np.float32) / 6
    before[:, [5, 20, 41]] *= 5
    constants = {
        "before": before,
        "bias": draw.normal(size=INNER).astype(np.float32) / 4,
        "after": draw.normal(size=(INNER, WIDTH)).astype(np.float32),
        "end": draw.normal(size=WIDTH).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "before"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Gelu", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "after"], ["last"]),
        helper.make_node("Add", ["end", "last"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens", WIDTH]) for name in "xy"]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "block", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def inputs(draw: np.random.Generator, count: int, tokens: int = 8) -> list[Feed]:
    return [{"x": draw.normal(size=(1, tokens, WIDTH)).astype(np.float32)} for _ in range(count)]


def answer(model: onnx.ModelProto, feed: Feed) -> np.ndarray:
    return np.asarray(graphs.session(model).run(None, dict(feed))[0])


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


def test_saturated_columns_add_up_to_the_channel(draw: np.random.Generator) -> None:
    model, feeds = block(draw), inputs(draw, 64)
    layers = split.find(model)
    assert [layer.tensor for layer in layers] == ["hidden"]
    hidden = np.concatenate([seen["hidden"] for seen in graphs.observe(model, ["hidden"], feeds)])
    peaks = hidden.reshape(-1, INNER).max(axis=0)
    assert (peaks > 2 * split.LIMIT).sum() >= 1
    changed = graphs.copied(model)
    added = split.split(changed, layers, {"hidden": peaks})
    assert added == sum(int(np.ceil(peak / split.LIMIT)) - 1 for peak in peaks if peak > split.LIMIT)
    columns = graphs.array(graphs.weights(changed)["before"]).shape[1]
    assert columns >= INNER + added
    assert (columns - INNER) % 16 == 0
    after = graphs.array(graphs.weights(changed)["after"])
    for old, new in zip(hidden, graphs.observe(changed, ["hidden"], feeds), strict=True):
        pieces = np.minimum(new["hidden"][0], split.LIMIT)
        # Near each step Gelu is off by 0.17 at most, and no channel is near two steps at once.
        summed = pieces[:, :INNER].copy()
        channels = np.flatnonzero(peaks > split.LIMIT)
        place = INNER
        for channel in channels:
            for _ in range(int(np.ceil(peaks[channel] / split.LIMIT)) - 1):
                summed[:, channel] += pieces[:, place]
                np.testing.assert_array_equal(after[place], after[channel])
                place += 1
        assert np.abs(summed - old).max() <= 0.35


def test_a_hidden_layer_that_something_else_reads_is_not_split(draw: np.random.Generator) -> None:
    model = block(draw)
    model.graph.node.append(helper.make_node("Neg", ["sum"], ["other"]))
    assert split.find(model) == []


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_pair_of_weights_saturates_sixteen_bits(rows: int, columns: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weight = (draw.standard_t(2, size=(rows, columns)) * draw.choice([0, 1e-3, 1, 50], size=columns)).astype(np.float32)
    x = draw.normal(size=(3 * rows, rows))
    values, scales = rounding.rounded(weight, x.T @ x)
    integers = values.astype(int)
    padded = np.concatenate([integers, np.zeros((rows % 2, columns), int)]).reshape(-1, 2, columns)
    assert np.maximum(padded, 0).sum(axis=1).max() * 255 < 2**15
    assert np.minimum(padded, 0).sum(axis=1).min() * 255 >= -(2**15)
    assert scales.shape == (columns,)
    assert (scales > 0).all()


def test_compensated_rounding_is_closer_than_rounding_each_weight(draw: np.random.Generator) -> None:
    mixing = draw.normal(size=(48, 48))
    x = draw.normal(size=(400, 48)) @ mixing
    weight = draw.normal(size=(48, 24)).astype(np.float32)
    values, scales = rounding.rounded(weight, x.T @ x)
    plain = np.rint(weight / scales) * scales
    assert relative(x @ (values * scales), x @ weight) < 0.8 * relative(x @ plain, x @ weight)


def test_inputs_that_never_vary_are_rounded_too() -> None:
    values, _ = rounding.rounded(np.ones((4, 2), np.float32), np.zeros((4, 4)))
    assert (values == 64).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_weights_rounded_in_pairs_never_saturate_and_are_near(rows: int, columns: int, size: float, seed: int) -> None:
    weight = (np.random.default_rng(seed).standard_t(2, size=(rows, columns)) * size).astype(np.float32)
    values, scales = rounding.paired(weight)
    whole = values.astype(np.int64)[: rows // 2 * 2].reshape(-1, 2, columns)
    assert np.abs(np.maximum(whole, 0).sum(axis=1)).max(initial=0) <= rounding.PAIR_LIMIT
    assert np.abs(np.minimum(whole, 0).sum(axis=1)).max(initial=0) <= rounding.PAIR_LIMIT
    # Half a step, and where two were rounded up beyond their limit one step of the second.
    assert (np.abs(values * scales - weight) <= 1.51 * scales).all()
    assert np.abs(values * scales - weight).mean() <= 0.51 * scales.mean()


def test_products_run_in_integers_and_hold(draw: np.random.Generator) -> None:
    model, feeds = block(draw), inputs(draw, 120)
    made = matmuls.quantize(model, feeds)
    assert made.products == 2
    assert made.columns > 0
    assert not any(node.op_type == "MatMul" for node in made.model.graph.node)
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in made.model.graph.node) == 2
    fresh = inputs(draw, 20)
    found = np.concatenate([answer(made.model, feed) for feed in fresh])
    assert relative(found, np.concatenate([answer(model, feed) for feed in fresh])) < 0.03


def test_this_processor_adds_the_integers_as_they_are(draw: np.random.Generator) -> None:
    """The quantized product is the one that exact integers give, with the largest inputs there are."""
    model = matmuls.quantize(block(draw), inputs(draw, 120)).model
    constants = graphs.weights(model)
    feed = {"x": np.full((1, 4, WIDTH), 1e3, np.float32) * np.sign(draw.normal(size=(1, 4, WIDTH))).astype(np.float32)}
    product = next(node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat")
    integers, scale, by_column, zero = (numpy_helper.to_array(constants[product.input[i]]) for i in (1, 2, 3, 4))
    source = next(node for node in model.graph.node if node.op_type == "QuantizeLinear").input[0]
    x = next(graphs.observe(model, [source], [feed]))[source][0]
    rounded = np.clip(np.rint(x / scale) + zero, 0, 255).astype(int) - int(zero)
    exact = (rounded @ integers.astype(int)) * scale * by_column + numpy_helper.to_array(constants[product.input[6]])
    found = next(graphs.observe(model, [product.output[0]], [feed]))[product.output[0]][0]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-3)


def test_neither_batch_mates_nor_padding_move_an_answer(draw: np.random.Generator) -> None:
    model = matmuls.quantize(block(draw), inputs(draw, 40)).model
    mine = inputs(draw, 1)[0]["x"]
    alone = answer(model, {"x": mine})
    mates = np.concatenate([mine, 50 * inputs(draw, 1)[0]["x"]])
    longer = np.concatenate([mine, 9 * inputs(draw, 1, 3)[0]["x"]], axis=1)
    np.testing.assert_allclose(answer(model, {"x": mates})[:1], alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(answer(model, {"x": longer})[:, :8], alone, rtol=1e-5, atol=1e-5)


def test_a_gate_of_its_own_value_is_one_node(draw: np.random.Generator) -> None:
    model = block(draw)
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Gelu")
    model.graph.node.remove(model.graph.node[place])
    made = [
        helper.make_node("Mul", ["factor", "sum"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["gate"]),
        helper.make_node("Mul", ["sum", "gate"], ["hidden"], "gated"),
    ]
    for node in reversed(made):
        model.graph.node.insert(place, node)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.702), "factor"))
    feeds = inputs(draw, 64)
    found = matmuls.quantize(model, feeds).model
    operators = [node.op_type for node in found.graph.node]
    assert operators.count("QuickGelu") == 1
    assert "Sigmoid" not in operators
    assert relative(answer(found, feeds[0]), answer(model, feeds[0])) < 0.03
