"""A graph in the making: nodes, weights, and whole graphs of single steps put into it. All numbers are float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 18, "ai.onnx.ml": 3}
INPUT = "rows"
OUTPUT = "answer"
_IR_VERSION = 9


class Nodes:
    """Adds nodes one after another; every tensor gets a name of its own."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and give that output's name."""
        output = self._name(operator.lower())
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, values: Any, dtype: Any = np.float64) -> str:
        """A weight of the graph."""
        name = self._name("weight")
        self._weights.append(numpy_helper.from_array(np.array(values, dtype=dtype, order="C"), name))
        return name

    def columns(self, tensor: str, places: list[int] | NDArray[np.int64]) -> str:
        """Some columns of a tensor (n, width), in this order."""
        return self.add("Gather", tensor, self.constant(places, np.int64), axis=1)

    def concat(self, tensors: list[str]) -> str:
        """Tensors side by side."""
        return tensors[0] if len(tensors) == 1 else self.add("Concat", *tensors, axis=1)

    def cast(self, tensor: str, kind: int) -> str:
        """The tensor in another type."""
        return self.add("Cast", tensor, to=kind)

    def inline(self, model: onnx.ModelProto, tensor: str) -> str:
        """Put in a graph of one input, which reads `tensor`; its last output, as float64, is what it gives."""
        prefix = self._name("step") + "_"
        names = {model.graph.input[0].name: tensor}
        wanted = model.graph.output[-1].name

        def named(name: str) -> str:
            return names.setdefault(name, prefix + name) if name else ""

        for weight in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(weight)
            copy.name = named(weight.name)
            self._weights.append(copy)
        for node in model.graph.node:
            added = onnx.NodeProto()
            added.CopyFrom(node)
            added.name = ""
            del added.input[:], added.output[:]
            added.input.extend(named(name) for name in node.input)
            added.output.extend(named(name) for name in node.output)
            self._nodes.append(added)
        return self.cast(named(wanted), TensorProto.DOUBLE)

    def model(self, output: str, shape: tuple[int, int], taps: tuple[str, ...] = ()) -> onnx.ModelProto:
        """The graph that gives `output`, and `taps` beside it; `shape` is the widths of its input and output."""
        final = helper.make_node("Identity", [output], [OUTPUT])
        nodes = _needed([*self._nodes, final], {OUTPUT, *taps})
        read = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "tabular",
            [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["batch", shape[0]])],
            [
                helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, ["batch", shape[1]]),
                *(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in taps),
            ],
            [weight for weight in self._weights if weight.name in read],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="sanderling")

    def _name(self, hint: str) -> str:
        self._count += 1
        return f"{hint}_{self._count}"


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that lead to what is wanted: labels as texts, and other answers nobody asks for, are left out."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]
