"""The form `packed`: the tokens of all texts in one row, gathered to a padded block for attention alone, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sanderling_export import graphs
from sanderling_export.tracing import IDS, MASK, TYPES, Array, Feeds, Kinds, Run, sweep, values_of

# What `packed` takes beside them: a token's place in its text, the token at each place of the block, and the way back.
POSITIONS, BLOCK, BACK = "position_ids", "block_ids", "token_ids"


def packed(model: onnx.ModelProto, run: Run) -> onnx.ModelProto | None:
    """The graph for the tokens of all texts in one row; None where texts meet elsewhere than in Attention."""
    changed = graphs.copied(model)
    attentions = [node for node in changed.graph.node if node.op_type == "Attention" and node.domain == ""]
    if not attentions:
        return None
    kinds = Kinds(changed)
    outputs = [value.name for value in changed.graph.output]
    lookups = [node for node in changed.graph.node if node.op_type == "Gather" and node.input[0] in kinds.constants]
    measured = [node.input[0] for node in changed.graph.node if node.op_type == "Shape"]
    known = values_of(changed, run, {*outputs, *measured, *(node.input[1] for node in lookups)})
    places = {name: start for name in {n.input[1] for n in lookups} if (start := _first_place(known, name)) is not None}
    if any(found[name].ndim != 3 or found[name].shape[:2] != found[IDS].shape for found in known for name in outputs):
        return None
    block = _Block(changed, kinds, known)
    biases = {name: block.bias(name) for node in attentions for name in node.input[3:4] if name}
    if None in biases.values():
        return None
    _rewire(changed, places, biases, outputs)
    sweep(changed)
    _declare(changed)
    return changed


def pack(texts: Sequence[Array], filler: int = 0) -> Feeds:
    """The inputs of `packed` for texts given by their ids, (tokens,) each; padding of the block is token `filler`."""
    longest = max(map(len, texts))
    block = np.full((len(texts), longest), filler, np.int64)
    mask = np.zeros_like(block)
    start = 0
    for row, ids in enumerate(texts):
        block[row, : len(ids)] = np.arange(start, start + len(ids))
        mask[row, : len(ids)] = 1
        start += len(ids)
    row_of_ids = np.concatenate(texts)[None]
    places = np.concatenate([np.arange(len(ids)) for ids in texts])[None]
    return {
        IDS: row_of_ids,
        TYPES: np.zeros_like(row_of_ids),
        POSITIONS: places,
        MASK: mask,
        BLOCK: block,
        BACK: np.flatnonzero(mask),
    }


class _Block:
    """Copies of what attention adds to its scores, made for the block and not for the row of tokens."""

    def __init__(self, model: onnx.ModelProto, kinds: Kinds, known: Sequence[Feeds]) -> None:
        self._model = model
        self._kinds = kinds
        self._known = known
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._copies: dict[str, str] = {}

    def bias(self, name: str) -> str | None:
        """The copy's name; None where it depends on the tokens themselves."""
        return self._copy(name) if self._is_common(name) else None

    def _is_common(self, name: str) -> bool:
        """Whether a value is the same for all tokens: of constants, shapes and the mask alone."""
        return name in self._kinds.shaped or name in self._kinds.masked

    def _copy(self, name: str) -> str | None:
        if name == MASK or name in self._kinds.constants:
            return name
        if name in self._copies:
            return self._copies[name]
        node = self._makers[name]
        made = onnx.NodeProto()
        made.CopyFrom(node)
        if node.op_type == "Shape" and not self._is_common(node.input[0]):
            inputs = [self._extents(node)]
            if inputs[0] != MASK:
                made = helper.make_node("Identity", [], [])
        else:
            inputs = [self._copy(read) for read in node.input]
        if None in inputs:
            return None
        made.name = f"{node.name}_block"
        made.input[:] = [read for read in inputs if read is not None]
        made.output[:] = [f"{output}_block" for output in node.output]
        self._copies.update(zip(node.output, made.output, strict=True))
        self._model.graph.node.append(made)
        return self._copies[name]

    def _extents(self, node: onnx.NodeProto) -> str | None:
        """What a Shape is of: the mask, which has the block's, or the extents themselves, the others being constant."""
        shapes = [found[node.input[0]].shape for found in self._known]
        if any(shape[:2] != found[IDS].shape for shape, found in zip(shapes, self._known, strict=True)):
            return None
        rest = {shape[2:] for shape in shapes}
        if rest == {()}:
            return MASK
        if len(rest) > 1 or any(a.name == "end" or (a.name == "start" and a.i) for a in node.attribute):
            return None
        name = f"{node.output[0]}_extents"
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(rest.pop(), np.int64), f"{name}_rest"))
        self._model.graph.node.extend(
            [
                helper.make_node("Shape", [MASK], [f"{name}_block"]),
                helper.make_node("Concat", [f"{name}_block", f"{name}_rest"], [name], axis=0),
            ]
        )
        return name


def _rewire(
    model: onnx.ModelProto, places: Mapping[str, int], biases: Mapping[str, str | None], outputs: Sequence[str]
) -> None:
    """Positions from an input, attention by way of the block, outputs as a block."""
    constants = model.graph.initializer
    constants.append(numpy_helper.from_array(np.zeros(1, np.int64), "packed_row"))
    constants.append(numpy_helper.from_array(np.array([1, -1, 0], np.int64), "packed_shape"))
    copies = [node for node in model.graph.node if node.output[0].endswith(("_block", "_extents"))]
    others = [node for node in model.graph.node if not any(node is copy for copy in copies)]
    made: list[onnx.NodeProto] = []
    positions = {}
    for name, start in places.items():
        positions[name] = POSITIONS
        if start:
            positions[name] = f"{name}_positions"
            constants.append(numpy_helper.from_array(np.array(start, np.int64), f"{name}_first"))
            made.append(helper.make_node("Add", [POSITIONS, f"{name}_first"], [positions[name]]))
    made += _sorted(copies)
    for node in others:
        if node.op_type == "Gather" and node.input[1] in positions:
            node.input[1] = positions[node.input[1]]
        if node.op_type != "Attention":
            made.append(node)
            continue
        for index, name in enumerate(node.input[:3]):
            node.input[index] = _to_block(made, name, f"{node.output[0]}_{index}_block")
        if len(node.input) > 3 and node.input[3]:
            node.input[3] = biases[node.input[3]] or ""
        row = node.output[0]
        node.output[0] = f"{row}_attended"
        made += [
            node,
            helper.make_node("Reshape", [node.output[0], "packed_shape"], [f"{row}_places"]),
            helper.make_node("Gather", [f"{row}_places", BACK], [row], axis=1),
        ]
    for name in outputs:
        for node in made:
            node.output[:] = [f"{name}_row" if output == name else output for output in node.output]
            node.input[:] = [f"{name}_row" if read == name else read for read in node.input]
        _to_block(made, f"{name}_row", name)
    del model.graph.node[:]
    model.graph.node.extend(made)


def _to_block(made: list[onnx.NodeProto], row: str, block: str) -> str:
    """(1, tokens, d) to (texts, longest, d)."""
    made.append(helper.make_node("Gather", [row, BLOCK], [f"{block}_gathered"], axis=1))
    made.append(helper.make_node("Squeeze", [f"{block}_gathered", "packed_row"], [block]))
    return block


def _sorted(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in an order in which each is made before it is read."""
    pending, found, made = list(nodes), [], set[str]()
    outputs = {name for node in nodes for name in node.output}
    while pending:
        ready = [node for node in pending if not any(name in outputs and name not in made for name in node.input)]
        found += ready
        made.update(name for node in ready for name in node.output)
        pending = [node for node in pending if not any(node is other for other in ready)]
    return found


def _declare(model: onnx.ModelProto) -> None:
    """The inputs of `packed`, in a fixed order."""
    read = {name for node in model.graph.node for name in node.input}
    row, block = [1, "tokens"], ["texts", "longest"]
    shapes = {IDS: row, TYPES: row, POSITIONS: row, MASK: block, BLOCK: block, BACK: ["tokens"]}
    del model.graph.input[:]
    model.graph.input.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)
        for name, shape in shapes.items()
        if name in read
    )
    for value in model.graph.output:
        for dimension, name in zip(value.type.tensor_type.shape.dim, block, strict=False):
            dimension.dim_param = name


def _first_place(known: Sequence[Feeds], name: str) -> int | None:
    """Where positions start, if a value is the place of each token in its text, and that number; else None."""
    starts = set()
    for found in known:
        value = found.get(name)
        if value is None or value.dtype.kind != "i" or value.shape[-1:] != found[IDS].shape[1:]:
            return None
        start = int(value.reshape(-1)[0])
        if not np.array_equal(value, np.broadcast_to(np.arange(start, start + value.shape[-1]), value.shape)):
            return None
        starts.add(start)
    return starts.pop() if len(starts) == 1 else None
