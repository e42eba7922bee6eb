"""The form `exact`: texts of one length without an attention mask, for what only masks is taken out of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from sanderling_export import graphs
from sanderling_export.tracing import IDS, MASK, Array, Feeds, Kinds, Run, sweep, values_of

# Operators that may leave one of their inputs as it is, where the other is a mask that masks nothing.
_MASKING = ("Add", "Sub", "Mul", "Where", "And", "Or", "Max", "Min")


def exact(model: onnx.ModelProto, run: Run) -> onnx.ModelProto | None:
    """The graph without its attention mask, for texts of one length; None where the mask does more than to mask."""
    changed = graphs.copied(model)
    nodes = changed.graph.node
    _measure_by_ids(changed)
    kinds = Kinds(changed)
    masking = [n for n in nodes if n.op_type in _MASKING and any(i in kinds.masked for i in n.input)]
    biased = [n for n in nodes if n.op_type == "Attention" and len(n.input) > 3 and n.input[3]]
    known = values_of(
        changed, run, {name for n in masking for name in (*n.input, *n.output)} | {n.input[3] for n in biased}
    )
    instead: dict[str, str] = {}
    for node in masking:
        kept = [name for name in node.input if name not in kinds.masked and _same(known, name, node.output[0])]
        if kept and node.output[0] not in {value.name for value in changed.graph.output}:
            instead[node.output[0]] = instead.get(kept[0], kept[0])
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = instead.get(name, name)
    for node in biased:
        if node.input[3] in kinds.masked and all(_masks_nothing(values[node.input[3]]) for values in known):
            node.input[3] = ""
            while not node.input[-1]:
                node.input.pop()
    sweep(changed)
    return None if MASK in {value.name for value in changed.graph.input} else changed


def _measure_by_ids(model: onnx.ModelProto) -> None:
    """Let the ids stand in for the mask where its shape alone is asked for: it is theirs."""
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] == MASK:
            node.input[0] = IDS


def _same(known: Sequence[Feeds], a: str, b: str) -> bool:
    return all(a in found and b in found and np.array_equal(found[a], found[b]) for found in known)


def _masks_nothing(bias: Array) -> bool:
    return bool(bias.all() if bias.dtype == bool else not bias.any())
