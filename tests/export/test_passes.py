"""What the rewriting passes make of real architectures with random weights, and that every answer stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sanderling_export import convert, graphs, original, simplify
from sanderling_export.checkpoint import resolve
from sanderling_export.description import Options
from sanderling_export.passes import biases, narrow, probe

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TOWER = {**SMALL, "projection_dim": 16}


def unrewritten(folder: Path, scratch: Path) -> onnx.ModelProto:
    """The graph of a checkpoint as it is before the passes."""
    resolved = resolve(str(folder))
    return convert.unrewritten(resolved, original.load(resolved, Options()), scratch)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def moved(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    return probe.distance(probe.answers(ir.from_proto(before)), probe.answers(ir.from_proto(after)))


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet", "xlm-roberta"])
def test_encoders_of_texts(name: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    before = unrewritten(checkpoint(name), tmp_path)
    after, counts = simplify.simplify(before)
    assert counts == {"Gelu": 2, "Attention": 2, "biases": 2}
    assert {"Softmax", "Erf"}.isdisjoint(operators(after))
    # One mask, which the layers share, and no copy of its making.
    attentions = [node for node in after.graph.node if node.op_type == "Attention"]
    assert len({node.input[3] for node in attentions}) == 1
    assert len(after.graph.node) < 0.7 * len(before.graph.node)
    assert moved(before, after) <= 1e-5


@pytest.mark.parametrize("name", ["bert-classifier", "vit"])
def test_classifiers_compute_the_last_layer_for_the_token_that_is_read(
    name: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    before = unrewritten(checkpoint(name), tmp_path)
    after, counts = simplify.simplify(before)
    assert counts == {"Gelu": 2, "Attention": 2, "biases": 2, "narrow": 1}
    # Two products a layer went into its Attention, and none is computed twice.
    assert operators(after).count("MatMul") == operators(before).count("MatMul") - 4
    last = [node for node in after.graph.node if node.op_type == "Gelu"][-1]
    assert all(hidden.shape[1] == 1 for (hidden,) in probe.run(ir.from_proto(after), [last.output[0]]))
    assert moved(before, after) <= 1e-5


class First(nn.Module):
    """A transformers model's first output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(*inputs)[0]


def tower(kind: str, attention: str, folder: Path) -> onnx.ModelProto:
    """A tower of CLIP with random weights, exported by torch."""
    torch.manual_seed(3)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    model: Any
    inputs: tuple[torch.Tensor, ...]
    dynamic: tuple[dict[int, Any], ...]
    if kind == "text":
        config: Any = transformers.CLIPTextConfig(**TOWER, vocab_size=256, attn_implementation=attention)
        model = transformers.CLIPTextModelWithProjection(config)
        inputs = (torch.randint(5, 200, (2, 9)), torch.ones(2, 9, dtype=torch.int64))
        names, dynamic = ["input_ids", "attention_mask"], ({0: batch, 1: length}, {0: batch, 1: length})
    else:
        config = transformers.CLIPVisionConfig(**TOWER, image_size=64, patch_size=16, attn_implementation=attention)
        model = transformers.CLIPVisionModelWithProjection(config)
        inputs, names, dynamic = (torch.zeros(2, 3, 64, 64),), ["pixel_values"], ({0: batch},)
    path = folder / "tower.onnx"
    torch.onnx.export(
        First(model).eval(),
        inputs,
        str(path),
        input_names=names,
        output_names=["embeds"],
        dynamic_shapes=(dynamic,),
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return graphs.clean(path, folder / "clean.onnx")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("text", {"Attention": 2, "biases": 2}), ("vision", {"Attention": 2, "biases": 2, "narrow": 1})],
)
def test_towers_of_clip(kind: str, expected: dict[str, int], attention: str, tmp_path: Path) -> None:
    before = tower(kind, attention, tmp_path)
    after, counts = simplify.simplify(before)
    assert counts == expected
    assert "Softmax" not in operators(after)
    # Its own activation, x * sigmoid(1.702 x), is no Gelu.
    assert operators(after).count("Sigmoid") == 2
    assert moved(before, after) <= 1e-5


def test_a_convolutional_network_is_left_as_it_is(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    before = unrewritten(checkpoint("resnet"), tmp_path)
    after, counts = simplify.simplify(before)
    assert after is before
    assert counts == {}


def test_a_graph_that_takes_no_probe_is_left_as_it_is() -> None:
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "weight"], ["y"])],
        "channels that the input does not name",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", "channels", "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    after, counts = simplify.simplify(before)
    assert after is before
    assert counts == {}


def attending(*, shared_key: bool = False, read: str = "first", values: str = "hidden") -> ir.Model:
    """hidden -> one Attention with biases -> product -> residual, and a Gather of a token, as opset 23 has them."""
    draw = np.random.default_rng(5)
    weights = {name: draw.standard_normal((8, 8)).astype(np.float32) / 3 for name in ("wq", "wk", "wv", "wo")}
    vectors = {name: draw.standard_normal(8).astype(np.float32) for name in ("bq", "bk", "bv", "bo")}
    index = np.array({"first": 0, "last": -1, "two": [0, 1]}[read], np.int64)
    nodes = [
        *(helper.make_node("MatMul", ["hidden", f"w{x}"], [f"{x}0"]) for x in "qk"),
        helper.make_node("MatMul", [values, "wv"], ["v0"]),
        *(helper.make_node("Add", [f"{x}0", f"b{x}"], [x]) for x in "qkv"),
        helper.make_node("Attention", ["q", "k", "v"], ["mixed"], q_num_heads=2, kv_num_heads=2),
        helper.make_node("MatMul", ["mixed", "wo"], ["o0"]),
        helper.make_node("Add", ["o0", "bo"], ["o"]),
        helper.make_node("Add", ["o", "hidden"], ["sum"]),
        helper.make_node("Gather", ["sum", "index"], ["token"], axis=1),
    ]
    outputs = ["token", *(["k"] if shared_key else [])]
    graph = helper.make_graph(
        nodes,
        "attending",
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "length", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in {**weights, **vectors, "index": index}.items()],
    )
    made = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    ir.passes.common.ShapeInferencePass()(made)
    return made


def test_biases_leave_an_attention_and_its_answer_stays() -> None:
    model = attending()
    expected = probe.answers(model)
    assert biases.rewrite(model) == 1
    attention = next(node for node in model.graph if node.op_type == "Attention")
    assert [value.name for value in attention.inputs if value is not None] == ["q", "k0", "v0"]
    assert probe.distance(expected, probe.answers(model)) <= 1e-5
    assert biases.rewrite(model) == 0


def test_a_key_that_something_else_reads_keeps_its_bias() -> None:
    model = attending(shared_key=True)
    assert biases.rewrite(model) == 0


@pytest.mark.parametrize("read", ["first", "last"])
def test_one_token_is_computed_alone(read: str) -> None:
    model = attending(read=read)
    expected = probe.answers(model)
    assert narrow.rewrite(model) == 1
    ir.passes.common.RemoveUnusedNodesPass()(model)
    assert probe.distance(expected, probe.answers(model)) <= 1e-5
    after = next(node for node in model.graph if node.op_type == "Attention").outputs[0].name
    assert after is not None
    assert all(mixed.shape[1] == 1 for (mixed,) in probe.run(model, [after]))


def test_two_tokens_are_left_to_the_whole() -> None:
    assert narrow.rewrite(attending(read="two")) == 0
