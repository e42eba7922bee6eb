"""The biases of keys and values, taken out of an Attention without a change of its answer.

A key's bias adds the same to all scores of a query, which Softmax takes away again: it is dropped. A value's bias comes
out as it went in, since weights sum to 1, and so joins the bias behind the product that follows the attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]


def rewrite(model: ir.Model) -> int:
    """Take the biases out of every Attention where both can go; their count."""
    return sum(_rewrite(model, node) for node in list(model.graph) if node.op_type == "Attention")


def _rewrite(model: ir.Model, attention: ir.Node) -> bool:
    keys, values = _biased(attention.inputs[1]), _biased(attention.inputs[2])
    after = _weighted(attention.outputs[0])
    if keys is None or values is None or after is None:
        return False
    weight, bias, add, place = after
    raw_keys, _ = keys
    raw_values, added = values
    if added.shape != (weight.shape[0],) or bias.shape != (weight.shape[1],):
        return False
    joined = bias + (added.astype(np.float64) @ weight.astype(np.float64)).astype(np.float32)
    name = f"{add.outputs[0].name}_bias"
    made = ir.Value(name=name, const_value=ir.tensor(joined.astype(np.float32), name=name))
    model.graph.register_initializer(made)
    add.replace_input_with(place, made)
    attention.replace_input_with(1, raw_keys)
    attention.replace_input_with(2, raw_values)
    return True


def _biased(value: ir.Value | None) -> tuple[ir.Value, Array] | None:
    """What is before x + constant of one axis, read by nothing else, and the constant."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != "Add" or _only_reader(value) is None:
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        constant = _array(other)
        if x is not None and _array(x) is None and constant is not None and constant.ndim == 1:
            return x, constant
    return None


def _weighted(value: ir.Value) -> tuple[Array, Array, ir.Node, int] | None:
    """Weight, bias, the Add and the bias's place in it, of MatMul -> Add behind a value that nothing else reads."""
    product = _only_reader(value)
    if product is None or product.op_type != "MatMul" or product.inputs[0] is not value:
        return None
    weight = _array(product.inputs[1])
    add = _only_reader(product.outputs[0])
    if weight is None or weight.ndim != 2 or add is None or add.op_type != "Add":
        return None
    for place, other in enumerate(add.inputs):
        bias = _array(other)
        if bias is not None and bias.ndim == 1:
            return weight, bias, add, place
    return None


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _array(value: ir.Value | None) -> Array | None:
    if value is None or value.const_value is None:
        return None
    array: Array = value.const_value.numpy()
    return array
