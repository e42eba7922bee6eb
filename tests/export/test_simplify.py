"""Rewriting passes: what they find in real exports, and that answers stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn

from sanderling_export import graphs, simplify
from sanderling_export.passes import probe


class Block(nn.Module):
    """One encoder layer as transformers writes it: projections, scaled attention with a mask, Gelu."""

    def __init__(self, heads: int, scale: str, bias: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.wide, self.narrow, self.norm = nn.Linear(32, 64), nn.Linear(64, 32), nn.LayerNorm(32)
        self.heads, self.scale, self.bias = heads, scale, bias

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1, self.heads, 32 // self.heads).transpose(1, 2)

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self.split(self.query(hidden)), self.split(self.key(hidden)), self.split(self.value(hidden))
        size = 32 // self.heads
        if self.scale == "scores":
            scores = q @ k.transpose(-1, -2) / size**0.5
        elif self.scale == "query":
            scores = (q * size**-0.5) @ k.transpose(-1, -2)
        else:
            scores = q @ k.transpose(-1, -2)
        if self.bias:
            steps = torch.arange(hidden.shape[1], device=hidden.device)
            scores = scores + (steps[None] - steps[:, None]).float()[None, None] / 10
        scores = scores + (1.0 - attention_mask[:, None, None].float()).expand(-1, 1, hidden.shape[1], -1) * -1e9
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(hidden.shape)
        mixed = self.norm(mixed + hidden)
        return mixed + self.narrow(nn.functional.gelu(self.wide(mixed)))


def exported(folder: Path, module: nn.Module) -> onnx.ModelProto:
    path = folder / "block.onnx"
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    torch.onnx.export(
        module.eval(),
        (torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.int64)),
        str(path),
        input_names=["hidden", "attention_mask"],
        output_names=["out"],
        dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}),
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return graphs.clean(path, folder / "clean.onnx")


@pytest.mark.parametrize("scale", ["scores", "query", "none"])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_and_gelu_are_found_and_answers_stay(tmp_path: Path, scale: str, bias: bool) -> None:
    torch.manual_seed(0)
    model = exported(tmp_path, Block(4, scale, bias))
    made, counts = simplify.simplify(model)
    assert counts == {"Gelu": 1, "Attention": 1}
    operators = [node.op_type for node in made.graph.node]
    assert "Softmax" not in operators
    assert "Erf" not in operators
    attention = next(node for node in made.graph.node if node.op_type == "Attention")
    attributes = {a.name: helper.get_attribute_value(a) for a in attention.attribute}
    assert attributes["q_num_heads"] == attributes["kv_num_heads"] == 4
    assert attributes["scale"] == pytest.approx(1.0 if scale == "none" else 8**-0.5)
    before, after = probe.answers(ir.from_proto(model)), probe.answers(ir.from_proto(made))
    assert probe.distance(before, after) <= 1e-5


def test_a_graph_without_the_patterns_is_left_as_it_is(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(32, 32)

        def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.line(hidden) * attention_mask[..., None]

    model = exported(tmp_path, Plain())
    made, counts = simplify.simplify(model)
    assert counts == {}
    assert made is model


def test_a_softmax_over_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    class Gate(nn.Module):
        def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return (hidden @ hidden.transpose(1, 2)).softmax(-1) @ hidden + attention_mask[..., None]

    _, counts = simplify.simplify(exported(tmp_path, Gate()))
    assert counts == {}


def test_a_pass_that_moves_the_answers_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> int:
        for name, value in model.graph.initializers.items():
            assert value.const_value is not None
            if name.endswith("weight"):
                value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.01))
        return 1

    monkeypatch.setattr(simplify, "_PASSES", (("Spoiled", spoil),))
    model = exported(tmp_path, Block(2, "scores", False))
    made, counts = simplify.simplify(model)
    assert counts == {}
    assert made is model


def test_distance_sees_shapes_and_infinities() -> None:
    ones = np.ones((2, 2), np.float32)
    assert probe.distance([ones], [ones]) == 0
    assert probe.distance([ones], [np.ones((2, 3), np.float32)]) == float("inf")
    assert probe.distance([ones], [ones * np.float32("inf")]) == float("inf")
    assert probe.distance([ones * 10], [ones * 11]) == pytest.approx(0.1)
