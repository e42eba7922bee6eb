"""Ranges from values: min-max holds all, percentile and entropy cut the rare, and masked positions are never seen."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sanderling.errors import ExportError
from sanderling_export import graphs, matmuls, smooth
from sanderling_export.graphs import Feed
from sanderling_export.ranges import Method, Ranges

METHODS: tuple[Method, ...] = get_args(Method)
WIDTH = 16


def found(method: Method, *values: np.ndarray, percentile: float = 99.9) -> tuple[float, float]:
    ends = min(float(value.min()) for value in values), max(float(value.max()) for value in values)
    ranges = Ranges(method, percentile, {"x": ends})
    for value in values:
        ranges.add({"x": value.astype(np.float32)})
    return ranges.found()["x"]


def test_one_spike_in_a_hundred_thousand_widens_min_max_alone() -> None:
    draw = np.random.default_rng(0)
    parts = [draw.normal(size=20_000) for _ in range(5)]
    parts[3][7] = 500.0
    assert found("min-max", *parts)[1] == 500.0
    low, high = found("percentile", *parts)
    assert -6 < low < -2.5
    assert 2.5 < high < 6
    assert found("entropy", *parts)[1] < 250


@given(st.sampled_from(METHODS), st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_range_holds_zero_and_nothing_that_was_not_seen(method: Method, values: list[float]) -> None:
    array = np.array(values, np.float32)
    low, high = found(method, array)
    assert min(0.0, float(array.min())) <= low <= 0 <= high <= max(0.0, float(array.max()))


def test_percentile_cuts_as_much_as_it_says() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 200_000)
    low, high = found("percentile", values, percentile=90.0)
    assert abs(low + 0.9) < 0.01
    assert abs(high - 0.9) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_not_finite_are_told(method: Method) -> None:
    with pytest.raises(ExportError, match=r"'x' is not finite on a calibration sample.*--data"):
        found(method, np.array([1.0, np.inf]))


def masked() -> tuple[onnx.ModelProto, list[Feed]]:
    """A product whose input is a hundred times larger where the attention mask is 0."""
    draw = np.random.default_rng(2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["column"]),
        helper.make_node("Mul", ["product", "column"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(draw.normal(size=(WIDTH, 8)).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([-1], np.int64), "last"),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", WIDTH]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", 8]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "masked", ends[:2], ends[2:], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    feeds: list[Feed] = []
    for _ in range(40):
        x = draw.normal(size=(1, 12, WIDTH)).astype(np.float32)
        x[:, 9:] *= 100
        feeds.append({"x": x, "attention_mask": np.array([[1] * 9 + [0] * 3])})
    return model, feeds


def scales(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith(("_scale", "_zero", "_int8"))
    }


@pytest.mark.parametrize("method", METHODS)
def test_masked_positions_move_no_range(method: Method) -> None:
    model, feeds = masked()
    cut: list[Feed] = [{name: value[:, :9] for name, value in feed.items()} for feed in feeds]
    hidden, without = (scales(matmuls.quantize(model, f, method=method).model) for f in (feeds, cut))
    assert hidden.keys() == without.keys()
    for name, value in hidden.items():
        np.testing.assert_array_equal(value, without[name], err_msg=name)
    everything: list[Feed] = [{**feed, "attention_mask": np.ones((1, 12), np.int64)} for feed in feeds]
    moved = scales(matmuls.quantize(model, everything, method=method).model)
    assert any((value != without[name]).any() for name, value in moved.items())


def test_masked_positions_smooth_nothing() -> None:
    model, feeds = masked()
    cut: list[Feed] = [{name: value[:, :9] for name, value in feed.items()} for feed in feeds]
    changed = [graphs.copied(model), graphs.copied(model)]
    for one, some in zip(changed, (feeds, cut), strict=True):
        smooth.smooth(one, some)
    weights = [graphs.array(graphs.weights(one)["w"]) for one in changed]
    np.testing.assert_array_equal(*weights)
