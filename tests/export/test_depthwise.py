"""Depthwise kernels to 8 bits: patches are what a convolution reads, and errors are made up for."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sanderling_export.depthwise import Window, rounded, window
from sanderling_export.moments import Moments
from sanderling_export.static import quantize


@given(
    seed=st.integers(0, 10**6),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
@settings(max_examples=40, deadline=None)
def test_patches_are_what_a_convolution_reads(
    seed: int, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    random = np.random.default_rng(seed)
    images = random.normal(size=(2, 3, 7, 6)).astype(np.float32)
    weight = random.normal(size=(3, 1, *kernel)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=3, strides=strides, pads=pads)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, images.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": images})
    seen = Window(kernel, strides, pads).patches(images)
    found = np.einsum("cpt,ct->cp", seen, weight.reshape(3, -1))
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, 0).reshape(3, -1), atol=1e-4)


def test_a_rounding_error_is_made_up_for() -> None:
    """Neighbouring pixels are nearly equal: what one tap loses, another gains."""
    random = np.random.default_rng(0)
    images = np.cumsum(np.cumsum(random.normal(size=(4, 8, 24, 24)), axis=2), axis=3).astype(np.float32)
    weight = random.normal(size=(8, 9)).astype(np.float32)
    view = Window((3, 3), (1, 1), (1, 1, 1, 1))
    moments = Moments()
    for image in images:
        moments.add(view.patches(image[None]))
    integers, scales = rounded(weight, moments.covariance)
    assert np.abs(integers.astype(int)).max() <= 127
    nearest = np.clip(np.rint(weight / scales[:, None]), -127, 127)
    seen = view.patches(images) - moments.mean[:, None, :]

    def error(found: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.square(np.einsum("cpt,ct->cp", seen, weight - found * scales[:, None])).mean())

    assert error(integers) < 0.5 * error(nearest)


@pytest.mark.parametrize(("kernel", "dilations"), [((3,), (1,)), ((3, 3), (2, 1)), ((3, 3, 3), (1, 1, 1))])
def test_another_convolution_has_no_window(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> None:
    assert window(kernel, [1] * len(kernel), [0] * (2 * len(kernel)), dilations) is None


def test_a_graph_answers_in_float() -> None:
    """More than 256 values are told apart, which steps of 8 bits could not."""
    random = np.random.default_rng(0)
    tensors = {
        "depthwise": random.normal(size=(8, 1, 3, 3)),
        "pointwise": random.normal(size=(16, 8, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], "first", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "pointwise"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 12, 12])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    feeds = [{"x": random.normal(size=(1, 8, 12, 12)).astype(np.float32)} for _ in range(12)]
    made = quantize(model, feeds, keep=())
    onnx.checker.check_model(made.model)
    assert {node.op_type for node in made.model.graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv"}
    (answer,) = ort.InferenceSession(made.model.SerializeToString()).run(None, feeds[0])
    (exact,) = ort.InferenceSession(model.SerializeToString()).run(None, feeds[0])
    assert len(np.unique(answer)) > 256
    assert np.abs(answer - exact).max() < 0.1 * np.abs(exact).max()
