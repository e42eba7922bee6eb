"""Where only one token's answer is read (a classifier's first, say), the last layer is computed for that token alone.

    x (b, s, h) -> ... -> Gather(axis=1, index of one token)

is walked back to the values that the token is made of: row by row through normalizations, sums, activations and
products with constant weights, and through the queries of an Attention, whose keys and values stay whole. Where a
value is read by something else as well, the token is sliced out of it. Of a layer's products this leaves those of its
keys and values: a sixth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

# What treats each token by itself, given one input; any others are constants.
_BY_TOKEN = {
    "Abs", "Cast", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "Identity", "LeakyRelu", "Neg", "Relu", "Sigmoid",
    "Softplus", "Sqrt", "Tanh",
}  # fmt: skip
_BETWEEN = {"Add", "Sub", "Mul", "Div"}
_TOKENS = 1


def rewrite(model: ir.Model) -> int:
    """Narrow what leads to each Gather of one token through an Attention; their count."""
    return sum(_rewrite(model, node) for node in list(model.graph) if node.op_type == "Gather" and node.domain == "")


def _rewrite(model: ir.Model, gather: ir.Node) -> bool:
    source, index = gather.inputs[0], _token(gather)
    if index is None or source is None or _rank(source) != 3:
        return False
    narrowed = _walk(model, gather)
    if not any(node.op_type == "Attention" for node in narrowed):
        return False
    making = _Making(model, gather, index)
    for node in reversed(narrowed):
        making.repeat(node, narrowed[node])
    gather.replace_input_with(0, making.of(source))
    gather.replace_input_with(1, making.constant("first", np.array(0, np.int64)))
    return True


def _token(gather: ir.Node) -> int | None:
    """The one token that a Gather reads; None where it reads something else."""
    index = gather.inputs[1]
    if gather.attributes.get_int("axis", 0) != _TOKENS or index is None or index.const_value is None:
        return None
    value = index.const_value.numpy()
    return int(value) if value.ndim == 0 else None


def _walk(model: ir.Model, gather: ir.Node) -> dict[ir.Node, list[int]]:
    """The nodes that have to compute the one token only, last first, with the places of their inputs by token."""
    narrowed: dict[ir.Node, list[int]] = {}
    readers = {(gather, 0)}
    before = list(model.graph)[: list(model.graph).index(gather)]
    for node in reversed(before):
        uses = [(use.node, use.idx) for output in node.outputs for use in output.uses()]
        # Who reads a node's answer stands behind it, so whether all want the one token is known by now.
        if not uses or any(use not in readers for use in uses) or node.outputs[0].is_graph_output():
            continue
        places = _places(node)
        if places is not None:
            narrowed[node] = places
            readers |= {(node, place) for place in places}
    return narrowed


def _places(node: ir.Node) -> list[int] | None:
    """Which inputs of the node have a row for each token that only that token's answer needs; None: cannot be said."""
    if node.domain != "" or len(node.outputs) != 1 or _rank(node.outputs[0]) != 3:
        return None
    first, *others = node.inputs
    constant = all(other is None or other.const_value is not None for other in others)
    if node.op_type in _BY_TOKEN:
        return [0] if constant else None
    if node.op_type == "LayerNormalization":
        return [0] if constant and node.attributes.get_int("axis", -1) in (-1, 2) else None
    if node.op_type == "MatMul":
        return [0] if constant and _rank(first) == 3 and _rank(others[0]) == 2 else None
    if node.op_type == "Attention":
        plain = len(node.inputs) <= 4 and not node.attributes.get_int("is_causal", 0)
        return [0] if plain and _rank(first) == 3 else None
    if node.op_type in _BETWEEN:
        places = [place for place, value in enumerate(node.inputs) if _rank(value) == 3 and not _is_one(value)]
        known = all(_rank(value) in (0, 1, 3) for value in node.inputs)
        return places if known and places else None
    return None


class _Making:
    """The narrowed nodes, made before the Gather in the order of the graph."""

    def __init__(self, model: ir.Model, gather: ir.Node, index: int) -> None:
        self._model = model
        self._gather = gather
        self._index = index
        self._known: dict[tuple[ir.Value, int], ir.Value] = {}

    def repeat(self, node: ir.Node, places: list[int]) -> None:
        """The node again, for the one token."""
        inputs = list(node.inputs)
        for place in places:
            inputs[place] = self.of(inputs[place])
        mask = inputs[3] if node.op_type == "Attention" and len(inputs) > 3 else None
        if mask is not None and not _is_one(mask, -2):
            inputs[3] = self.of(mask, -2)
        attributes = list(node.attributes.values())
        self._known[node.outputs[0], _TOKENS] = self._node(node.op_type, inputs, node.outputs[0], attributes)

    def of(self, value: ir.Value | None, axis: int = _TOKENS) -> ir.Value:
        """The value of the one token: as made before, or sliced out."""
        assert value is not None
        if (value, axis) not in self._known:
            end = np.iinfo(np.int64).max if self._index == -1 else self._index + 1
            bounds = [
                self.constant("start", np.array([self._index], np.int64)),
                self.constant("end", np.array([end], np.int64)),
                self.constant(f"axis{axis}", np.array([axis], np.int64)),
            ]
            self._known[value, axis] = self._node("Slice", [value, *bounds], value, [])
        return self._known[value, axis]

    def constant(self, name: str, array: NDArray[np.int64]) -> ir.Value:
        """An initializer of that name, shared by all that ask for it."""
        full = f"{self._gather.outputs[0].name}_{name}"
        if full not in self._model.graph.initializers:
            self._model.graph.register_initializer(ir.Value(name=full, const_value=ir.tensor(array, name=full)))
        return self._model.graph.initializers[full]

    def _node(self, op_type: str, inputs: list[Any], value: ir.Value, attributes: list[ir.Attr]) -> ir.Value:
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1)
        node.outputs[0].name = f"{value.name}_of_one_token_{len(self._known)}"
        node.outputs[0].type = value.type
        self._model.graph.insert_before(self._gather, node)
        return node.outputs[0]


def _is_one(value: ir.Value | None, axis: int = _TOKENS) -> bool:
    """Whether the extent of an axis is known to be 1, so that it is the same for all tokens."""
    assert value is not None
    shape = value.const_value.shape if value.const_value is not None else value.shape
    return shape is not None and shape[axis] == 1


def _rank(value: ir.Value | None) -> int | None:
    """How many axes a value has; None where that is not known."""
    if value is None:
        return None
    if value.const_value is not None:
        return len(value.const_value.shape)
    return len(value.shape) if value.shape is not None else None
