"""Scaled dot-product attention, written out by an exporter in some twenty nodes a layer, to one Attention (opset 23).

The way from Softmax is walked back to the projections and forth to the merged heads:

    q (b, s, h*d) -> Reshape -> Transpose ( -> * scale) \
    k (b, s, h*d) -> Reshape -> Transpose ( -> * scale) -> MatMul ( * or / scale) ( + mask) -> Softmax -> MatMul(v)
        -> Transpose -> Reshape (b, s, h*d)

Heads and scale are read from the graph's own values on two probes of different extents, since exporters compute both
from shapes at run time. What does not fit is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from sanderling_export.passes import probe

_SPLIT = (0, 2, 1, 3)
_SPLIT_TRANSPOSED = (0, 2, 3, 1)

Array = NDArray[Any]


@dataclass
class _Found:
    """One attention: its inputs, the shape tensor that splits the heads, the factors of the scale, its last node."""

    q: ir.Value
    k: ir.Value
    v: ir.Value
    added: list[ir.Value]
    split: ir.Value
    end: ir.Value
    factors: list[tuple[ir.Value, bool]] = field(default_factory=list)


def rewrite(model: ir.Model) -> int:
    """Replace every attention that is recognised; their count."""
    found = [each for node in model.graph if node.op_type == "Softmax" and (each := _match(node)) is not None]
    if not found:
        return 0
    names = {each.split.name for each in found} | {value.name for each in found for value, _ in each.factors}
    wanted = [name for name in sorted(filter(None, names)) if not _is_constant(model, name)]
    probes = [dict(zip(wanted, values, strict=True)) for values in probe.run(model, wanted)]
    sums: dict[tuple[ir.Value, ...], ir.Value] = {}
    return sum(_replace(model, each, probes, sums) for each in found)


def _replace(
    model: ir.Model, found: _Found, probes: list[dict[str, Array]], sums: dict[tuple[ir.Value, ...], ir.Value]
) -> bool:
    splits = [_value(found.split, known) for known in probes]
    scale = _scale(found, probes)
    if scale is None or any(split.shape != (4,) for split in splits):
        return False
    heads = _head_count(found.q, splits[0])
    if not (splits[0][2:] == splits[1][2:]).all() or heads < 1:
        return False
    last = found.end.producer()
    assert last is not None
    inputs = [found.q, found.k, found.v]
    if found.added:
        inputs.append(_sum(model, found.added, sums))
    attributes = {"q_num_heads": heads, "kv_num_heads": heads, "scale": scale}
    made = ir.node("Attention", inputs, attributes)
    made.outputs[0].name = f"{found.end.name}_attention"
    made.outputs[0].type = found.end.type
    model.graph.insert_after(last, made)
    found.end.replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
    return True


def _head_count(query: ir.Value, split: Array) -> int:
    """The heads that a split makes; where it leaves them open, as many as the width has room for; 0 if unknown."""
    count, size = int(split[2]), int(split[3])
    if count > 0 or size < 1:
        return count
    width = query.shape[-1] if query.shape is not None else None
    return width // size if isinstance(width, int) else 0


def _sum(model: ir.Model, added: list[ir.Value], sums: dict[tuple[ir.Value, ...], ir.Value]) -> ir.Value:
    """Masks and biases as one value, which all layers that add the same share."""
    if len(added) == 1:
        return added[0]
    key = tuple(added)
    if key not in sums:
        total = added[0]
        for other in added[1:]:
            node = ir.node("Add", [total, other])
            producers = [p for p in (total.producer(), other.producer()) if p is not None]
            model.graph.insert_after(max(producers, key=list(model.graph).index), node)
            total = node.outputs[0]
        sums[key] = total
    return sums[key]


def _scale(found: _Found, probes: list[dict[str, Array]]) -> float | None:
    scales = []
    for known in probes:
        product = 1.0
        for value, divides in found.factors:
            factor = _value(value, known)
            if factor.size != 1:
                return None
            product = product / float(factor.item()) if divides else product * float(factor.item())
        scales.append(product)
    return scales[0] if scales[0] == scales[1] else None


def _value(value: ir.Value, known: dict[str, Array]) -> Array:
    if value.const_value is not None:
        constant: Array = value.const_value.numpy()
        return constant
    assert value.name is not None
    return known[value.name]


def _is_constant(model: ir.Model, name: str) -> bool:
    return name in model.graph.initializers


def _match(softmax: ir.Node) -> _Found | None:
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return None
    after = _only_use(softmax.outputs[0])
    v = _heads(after.inputs[1], _SPLIT) if _is(after, "MatMul") and after else None
    merged = _only_use(after.outputs[0]) if v is not None and after is not None else None
    if merged is None or v is None or not _is(merged, "Transpose") or _perm(merged) != _SPLIT:
        return None
    end = _only_use(merged.outputs[0])
    if end is None or not _is(end, "Reshape"):
        return None
    factors: list[tuple[ir.Value, bool]] = []
    added: list[ir.Value] = []
    scores = _without_added(softmax.inputs[0], added)
    product = _without_factors(scores, factors)
    matmul = product.producer() if product is not None else None
    if matmul is None or not _is(matmul, "MatMul"):
        return None
    q = _heads(_without_factors(matmul.inputs[0], factors), _SPLIT)
    k = _keys(matmul.inputs[1], factors)
    if q is None or k is None:
        return None
    return _Found(q[0], k, v[0], added, q[1], end.outputs[0], factors)


def _keys(value: ir.Value | None, factors: list[tuple[ir.Value, bool]]) -> ir.Value | None:
    bare = _without_factors(value, factors)
    direct = _heads(bare, _SPLIT_TRANSPOSED)
    if direct is not None:
        return direct[0]
    rows = _before_transposition(bare)
    split = _heads(_without_factors(rows, factors), _SPLIT) if rows is not None else None
    return split[0] if split is not None else None


def _before_transposition(value: ir.Value | None) -> ir.Value | None:
    """What is before a Transpose of the last two axes, or before one of three axes that reshapes lead to and from."""
    node = value.producer() if value is not None else None
    if node is not None and _is(node, "Transpose") and _perm(node) == (0, 1, 3, 2):
        return node.inputs[0]
    if node is None or not _is(node, "Reshape") or node.inputs[0] is None:
        return None
    transpose = node.inputs[0].producer()
    if transpose is None or not _is(transpose, "Transpose") or _perm(transpose) != (0, 2, 1):
        return None
    flattened = transpose.inputs[0].producer() if transpose.inputs[0] is not None else None
    return flattened.inputs[0] if flattened is not None and _is(flattened, "Reshape") else None


def _heads(value: ir.Value | None, perm: tuple[int, ...]) -> tuple[ir.Value, ir.Value] | None:
    """What is before Transpose(Reshape(x, shape)): x and shape."""
    transpose = value.producer() if value is not None else None
    if transpose is None or not _is(transpose, "Transpose") or _perm(transpose) != perm:
        return None
    source = transpose.inputs[0]
    reshape = source.producer() if source is not None else None
    if reshape is None or not _is(reshape, "Reshape"):
        return None
    x, shape = reshape.inputs[:2]
    return (x, shape) if x is not None and shape is not None else None


def _without_added(value: ir.Value | None, added: list[ir.Value]) -> ir.Value | None:
    """The scores before masks and position biases were added, which are put into `added`."""
    while (node := value.producer() if value is not None else None) is not None and _is(node, "Add"):
        first, second = node.inputs
        if first is None or second is None:
            return value
        scores, other = (first, second) if _leads_to_matmul(first) else (second, first)
        added.append(other)
        value = scores
    return value


def _leads_to_matmul(value: ir.Value | None) -> bool:
    bare = _without_factors(_without_added(value, []), [])
    node = bare.producer() if bare is not None else None
    return node is not None and _is(node, "MatMul")


def _without_factors(value: ir.Value | None, factors: list[tuple[ir.Value, bool]]) -> ir.Value | None:
    """The value before multiplications and divisions by scalars, which are added to `factors`."""
    while value is not None and (node := value.producer()) is not None and node.op_type in ("Mul", "Div"):
        first, second = node.inputs
        if first is None or second is None:
            return value
        if _is_scalar(second):
            factors.append((second, node.op_type == "Div"))
            value = first
        elif node.op_type == "Mul" and _is_scalar(first):
            factors.append((first, False))
            value = second
        else:
            return value
    return value


def _is_scalar(value: ir.Value) -> bool:
    """Whether a value has one element: a constant, or computed by scalar functions from shapes."""
    if value.const_value is not None:
        return bool(value.const_value.size == 1)
    return value.shape is not None and all(dim == 1 for dim in value.shape)


def _only_use(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _is(node: ir.Node | None, op_type: str) -> bool:
    return node is not None and node.op_type == op_type and node.domain == ""


def _perm(node: ir.Node) -> tuple[int, ...]:
    attribute = node.attributes.get("perm")
    return tuple(attribute.as_ints()) if attribute is not None else ()
