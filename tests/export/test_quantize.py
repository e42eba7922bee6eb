"""The passes before and behind ONNX Runtime's quantization: each keeps what it promises to keep."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sanderling_export import convolutions, graphs, smooth, static, tables
from sanderling_export.quantize import default_precision, quantize

DRAW = np.random.default_rng(1)


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    return np.asarray(graphs.session(model).run(None, feeds)[0])


def text_like() -> onnx.ModelProto:
    """ids -> rows of a table -> two matrices that share an input with outliers in three channels."""
    table = DRAW.normal(size=(4096, 64)).astype(np.float32) * DRAW.uniform(0.01, 3, (4096, 1)).astype(np.float32)
    table[:, [3, 17, 40]] *= 30
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "a"], ["left"]),
        helper.make_node("MatMul", ["rows", "b"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["out"]),
    ]
    weights = {"table": table, **{n: DRAW.normal(size=(64, 32)).astype(np.float32) for n in "ab"}}
    graph = helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "tokens", 32])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def ids(count: int) -> list[dict[str, np.ndarray]]:
    return [{"ids": DRAW.integers(0, 4096, (1, 12))} for _ in range(count)]


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_smoothing_changes_no_answer_and_shrinks_outliers() -> None:
    model, feeds = text_like(), ids(8)
    expected = run(model, **feeds[0])
    before = next(graphs.observe(model, ["rows"], feeds))["rows"]
    assert smooth.smooth(model, feeds) == 1
    np.testing.assert_allclose(run(model, **feeds[0]), expected, rtol=1e-4, atol=1e-3)
    after = next(graphs.observe(model, ["rows_smoothed"], feeds))["rows_smoothed"]
    assert np.abs(after).max() < np.abs(before).max() / 3


def test_tables_keep_each_row_to_eight_bits() -> None:
    model, feed = text_like(), ids(1)[0]
    rows = next(graphs.observe(model, ["rows"], [feed]))["rows"]
    size = model.ByteSize()
    assert tables.quantize_tables(model) == 1
    found = next(graphs.observe(model, ["rows"], [feed]))["rows"]
    peak = np.abs(rows).max(axis=-1, keepdims=True)
    assert (np.abs(found - rows) <= peak / 254 * 1.001).all()
    assert model.ByteSize() < size * 0.3


def test_a_table_that_is_also_multiplied_is_left_alone() -> None:
    model = text_like()
    model.graph.node.append(helper.make_node("MatMul", ["out", "table"], ["x"]))
    assert tables.quantize_tables(model) == 0


def test_dynamic_is_closer_with_smoothing_than_without() -> None:
    model, feeds = text_like(), ids(16)
    quantized, notes = quantize(model, "int8-dynamic", feeds)
    assert any("1 inputs smoothed" in note for note in notes)
    expected = run(model, **feeds[0])
    assert relative(run(quantized, **feeds[0]), expected) < 0.03


@pytest.fixture(scope="module")
def convolutional() -> onnx.ModelProto:
    """A small network like a MobileNet: a plain, a depthwise with channels of very different scale, a pointwise."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2, 1),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(16, 64, 1),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(64, 128, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 10),
    ).eval()
    with torch.no_grad():
        layers[0].weight *= 3
        layers[2].weight *= torch.logspace(-1, 1, 16)[:, None, None, None]
        layers[4].weight *= 3
    buffer = io.BytesIO()
    torch.onnx.export(
        layers,
        (torch.zeros(1, 3, 32, 32),),
        buffer,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamo=False,
        opset_version=17,
    )
    return onnx.load_from_string(buffer.getvalue())


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    y, x = np.mgrid[0:32, 0:32] / 32
    made = []
    for _ in range(count):
        waves = [np.sin(x * DRAW.uniform(1, 20) + y * DRAW.uniform(1, 20)) for _ in range(3)]
        made.append({"pixel_values": np.stack(waves)[None].astype(np.float32)})
    return made


def test_static_holds_and_shrinks(convolutional: onnx.ModelProto) -> None:
    assert default_precision(convolutional) == "int8-static"
    quantized, notes = quantize(convolutional, "int8-static", pictures(64))
    fresh = pictures(32)
    expected = np.concatenate([run(convolutional, **f) for f in fresh])
    found = np.concatenate([run(quantized, **f) for f in fresh])
    cosine = (expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.mean() > 0.99
    assert "calibrated on 64 samples" in notes[0]
    kinds = {tensor.data_type for tensor in quantized.graph.initializer}
    assert TensorProto.INT8 in kinds


def test_sums_keep_their_floats_where_that_is_asked() -> None:
    rng = np.random.default_rng(3)
    kernel = numpy_helper.from_array(rng.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8, "kernel")
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["positive"], "activation"),
        helper.make_node("Conv", ["positive", "kernel"], ["added"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "added"], ["y"], "sum"),
    ]
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[1, 8, 6, 6])
    model = helper.make_model(
        helper.make_graph(nodes, "sums", [value("x")], [value("y")], [kernel]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    feeds = [{"x": rng.normal(size=(1, 8, 6, 6)).astype(np.float32)} for _ in range(8)]

    def read_by_the_sum(*, sums: bool) -> set[str]:
        made = static.quantize(model, feeds, keep=(), sums=sums).model
        makers = {name: node.op_type for node in made.graph.node for name in node.output}
        (node,) = [node for node in made.graph.node if node.op_type == "Add"]
        return {makers.get(node.input[0], "input")}

    assert read_by_the_sum(sums=True) == {"DequantizeLinear"}
    assert read_by_the_sum(sums=False) == {"input"}


def test_no_weight_can_saturate_sixteen_bits(convolutional: onnx.ModelProto) -> None:
    quantized = static.quantize(convolutional, pictures(16), keep=()).model
    constants = graphs.weights(quantized)
    checked = 0
    for tensor in constants.values():
        if tensor.data_type != TensorProto.INT8 or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor).astype(int)
        checked += 1
        if values.ndim == 4 and values.shape[1] == 1:
            continue  # depthwise kernels accumulate wider and keep all eight bits
        rows = values.reshape(len(values), -1)
        pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
        # 255 * 128 fits 16 bits, and so does 255 * 64 * 2.
        assert np.maximum(pairs, 0).sum(axis=2).max() <= 128
        assert np.minimum(pairs, 0).sum(axis=2).min() >= -128
    assert checked == 5


def test_pointwise_weights_are_the_integers_that_were_chosen(convolutional: onnx.ModelProto) -> None:
    model, feeds = graphs.named(convolutional), pictures(16)
    layers = convolutions.find(model)
    grids = convolutions.grids(model, layers, feeds)
    constants = graphs.weights(static.quantize(convolutional, feeds, keep=()).model)
    chosen = [layer for layer in layers if layer.pointwise]
    assert len(chosen) == 3
    for layer in chosen:
        grid, integers = grids[layer.node], numpy_helper.to_array(constants[f"{layer.weight}_quantized"])
        assert grid.scales is not None
        shape = [-1 if axis == layer.axis else 1 for axis in range(integers.ndim)]
        np.testing.assert_allclose(integers * grid.scales.reshape(shape), grid.values, rtol=1e-5, atol=1e-7)


def test_bias_correction_restores_channel_means(convolutional: onnx.ModelProto) -> None:
    model = graphs.named(convolutional)
    layers = convolutions.find(model)
    feeds = pictures(64)
    means = graphs.channel_means(model, [layer.input for layer in layers], feeds)
    pointwise = next(layer for layer in layers if graphs.weights(model)[layer.weight].dims[:2] == [64, 16])
    node = next(n for n in model.graph.node if n.name == pointwise.node)

    def channel_means(graph: onnx.ModelProto) -> np.ndarray:
        seen = [v[node.output[0]].mean(axis=(0, 2, 3)) for v in graphs.observe(graph, node.output, feeds)]
        return np.mean(seen, axis=0)

    expected = channel_means(model)
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    grid = convolutions.grids(model, layers, feeds)[pointwise.node]
    convolutions.correct_bias(exact, pointwise, grid, means)
    graphs.replace(graphs.weights(exact)[pointwise.weight], grid.values)
    np.testing.assert_allclose(channel_means(exact), expected, atol=1e-4)


def test_every_layer_of_the_quantized_graph_keeps_its_channel_means(convolutional: onnx.ModelProto) -> None:
    feeds = pictures(40)
    model = graphs.named(convolutional)
    before = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    made = static.quantize(convolutional, feeds, keep=()).model
    # A Clip that the rounding does by itself is gone, and its convolution has its output's name.
    after = {node.name: node for node in made.graph.node if node.op_type == "Conv"}
    expected = graphs.channel_means(model, before.values(), feeds)
    found = graphs.channel_means(made, [node.output[0] for node in after.values()], feeds)
    constants = graphs.weights(made)
    assert before.keys() == after.keys()
    for name, node in after.items():
        (maker,) = [one for one in made.graph.node if node.input[2] in one.output]
        step = graphs.array(constants[maker.input[1]])
        # A bias has steps; of half of one it may be off, and the means by what float32 leaves.
        assert (np.abs(found[node.output[0]] - expected[before[name]]) <= 0.5 * step + 1e-4).all()
