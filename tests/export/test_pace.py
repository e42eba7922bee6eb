"""A rewritten graph is used where it is not slower, and the manifest's notes say what was measured."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sanderling_export import convert
from sanderling_export.pace import Pace, compare


def graph(activation: str) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y0"]), helper.make_node(activation, ["y0"], ["y"])],
        activation,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((16, 16), np.float32), "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_slower_in_every_round_is_slower() -> None:
    assert not Pace((0.5, 0.97, 0.99)).pays
    assert Pace((0.5, 1.02, 0.99)).pays
    assert Pace((0.9, 1.2, 1.1)).value == 1.1


def test_two_graphs_are_timed_in_rounds() -> None:
    pace = compare(graph("Relu"), graph("Tanh"))
    assert pace is not None
    assert len(pace.ratios) == 7
    assert min(pace.ratios) > 0


def test_graphs_that_take_no_made_up_inputs_are_not_timed() -> None:
    # Seven numbers, and what is made up has other counts.
    made = helper.make_graph(
        [helper.make_node("Reshape", ["input_ids", "seven"], ["y"])],
        "a narrow shape",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([7], np.int64), "seven")],
    )
    narrow = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert compare(narrow, narrow) is None


@pytest.mark.parametrize(("ratios", "used"), [((1.1, 1.3, 1.2), "after"), ((0.7, 0.9, 0.8), "before")])
def test_what_is_slower_is_not_used(ratios: tuple[float, ...], used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = graph("Relu"), graph("Tanh")
    monkeypatch.setattr(convert, "compare", lambda *_: Pace(ratios))
    found = convert._faster(before, after, {"Gelu": 2})
    assert found.model is {"before": before, "after": after}[used]
    assert found.notes == (
        ("rewritten (2 Gelu): 1.20 times the unrewritten graph's speed in fp32 where it was exported (one thread)",)
        if used == "after"
        else (
            "not rewritten: 2 Gelu would have given 0.80 times the unrewritten graph's speed in fp32 "
            "where it was exported (one thread)",
        )
    )


def test_a_graph_that_no_pass_changed_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: object) -> Pace:
        raise AssertionError("there is nothing to compare")

    monkeypatch.setattr(convert, "compare", unexpected)
    model = graph("Relu")
    assert convert._faster(model, model, {}) == convert.Converted(model)
