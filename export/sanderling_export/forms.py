"""Other ways to run a text encoder's weights: small graphs that read the weight file of the form `padded`.

`exact` takes texts of one length, and has no attention mask: what only masks is taken out of the graph. `packed` takes
the tokens of all texts in one row, so that no work goes into padding; for attention alone they are gathered to a padded
block, and back. Both are proven against `padded` on the graph at hand, and left out where they do not hold or do not
apply. What a value depends on is read from the graph, what it is worth from its own values on probes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from sanderling.manifest import Form, TokenOutput
from sanderling.plan import EXACT, PACKED, PADDED
from sanderling_export import graphs
from sanderling_export.description import Description
from sanderling_export.passes.probe import distance

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Run = Callable[[onnx.ModelProto, Sequence[str], Feeds], list[Array]]

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
# What `packed` takes beside them: a token's place in its text, the token at each place of the block, and the way back.
POSITIONS, BLOCK, BACK = "position_ids", "block_ids", "token_ids"

# The largest difference from `padded`, relative to the largest value.
_MAX_MOVED = 1e-5
# Operators that may leave one of their inputs as it is, where the other is a mask that masks nothing.
_MASKING = ("Add", "Sub", "Mul", "Where", "And", "Or", "Max", "Min")
# Extents of the probes. Lengths differ, so that what is equal in all does not depend on them.
_EXTENTS = ((2, 5), (3, 7))
_LENGTHS = (3, 7, 1, 5)
# Tokens of the longest text where the description names none.
_LONGEST = 512
_SEED = 0


def write(folder: Path, root: Path, known: Description) -> dict[str, Form]:
    """The forms of the graph saved in `folder`, by name: `padded`, and what holds of `exact` and `packed`.

    Those two are written beside it. Their paths start at `root`.
    """
    model = onnx.load(str(folder / graphs.GRAPH_NAME), load_external_data=False)
    prefix = folder.relative_to(root).as_posix()
    data = tuple(f"{prefix}/{name}" for name in (graphs.WEIGHTS_NAME,) if (folder / name).exists())
    optimized = graphs.is_fused(model)
    forms = {PADDED: Form(f"{prefix}/{graphs.GRAPH_NAME}", data, optimized)}
    # Of late interaction, tokens may be there that others do not see: only `padded` can be told.
    freely = isinstance(known.head, TokenOutput)
    if {IDS, MASK} <= {value.name for value in model.graph.input} and _has_a_token(known) and not freely:
        for name, derived in _derived(folder, model, known.text.max_tokens if known.text else _LONGEST):
            onnx.save(derived, str(folder / f"{name}.onnx"))
            forms[name] = Form(f"{prefix}/{name}.onnx", data, optimized, graphs.specs(derived.graph.input))
    return forms


def _derived(folder: Path, model: onnx.ModelProto, longest: int) -> Iterator[tuple[str, onnx.ModelProto]]:
    run = runner(folder)
    if (made := exact(model, run)) is not None and exact_holds(model, made, run):
        yield EXACT, made
    if (made := packed(model, run)) is not None and packed_holds(model, made, run) and _takes(made, run, longest):
        yield PACKED, made


def _takes(made: onnx.ModelProto, run: Run, longest: int) -> bool:
    """Whether `packed` runs on more tokens in all than one text may have: a table as long as a text would end there."""
    random = np.random.default_rng(_SEED)
    texts = [random.integers(4, 100, length) for length in (longest, longest, 1)]
    try:
        run(made, _outputs(made), pack(texts))
    except Exception as error:  # ONNX Runtime's own errors have no common type but this
        if "Non-zero status code" not in str(error):
            raise
        return False
    return True


def _has_a_token(known: Description) -> bool:
    """Whether every text has one: an empty text without any is padding alone, which needs a mask."""
    if known.tokenizer is None:
        return False
    return bool(Tokenizer.from_buffer(known.tokenizer).num_special_tokens_to_add(False))


def exact(model: onnx.ModelProto, run: Run) -> onnx.ModelProto | None:
    """The graph without its attention mask, for texts of one length; None where the mask does more than to mask."""
    changed = graphs.copied(model)
    nodes = changed.graph.node
    _measure_by_ids(changed)
    kinds = _Kinds(changed)
    masking = [n for n in nodes if n.op_type in _MASKING and any(i in kinds.masked for i in n.input)]
    biased = [n for n in nodes if n.op_type == "Attention" and len(n.input) > 3 and n.input[3]]
    known = _values(
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
    _sweep(changed)
    return None if MASK in {value.name for value in changed.graph.input} else changed


def packed(model: onnx.ModelProto, run: Run) -> onnx.ModelProto | None:
    """The graph for the tokens of all texts in one row; None where texts meet elsewhere than in Attention."""
    changed = graphs.copied(model)
    attentions = [node for node in changed.graph.node if node.op_type == "Attention" and node.domain == ""]
    if not attentions:
        return None
    kinds = _Kinds(changed)
    outputs = [value.name for value in changed.graph.output]
    lookups = [node for node in changed.graph.node if node.op_type == "Gather" and node.input[0] in kinds.constants]
    measured = [node.input[0] for node in changed.graph.node if node.op_type == "Shape"]
    known = _values(changed, run, {*outputs, *measured, *(node.input[1] for node in lookups)})
    places = {name: start for name in {n.input[1] for n in lookups} if (start := _first_place(known, name)) is not None}
    if any(found[name].ndim != 3 or found[name].shape[:2] != found[IDS].shape for found in known for name in outputs):
        return None
    block = _Block(changed, kinds, known)
    biases = {name: block.bias(name) for node in attentions for name in node.input[3:4] if name}
    if None in biases.values():
        return None
    _rewire(changed, places, biases, outputs)
    _sweep(changed)
    _declare(changed)
    return changed


def exact_holds(model: onnx.ModelProto, derived: onnx.ModelProto, run: Run) -> bool:
    """Whether texts of one length are answered as by `padded`."""
    names, random = _outputs(model), np.random.default_rng(_SEED)
    for extents in _EXTENTS:
        feeds = _full(random.integers(4, 100, extents))
        if distance(run(model, names, feeds), run(derived, names, feeds)) > _MAX_MOVED:
            return False
    return True


def packed_holds(model: onnx.ModelProto, derived: onnx.ModelProto, run: Run) -> bool:
    """Whether texts of several lengths are answered as alone by `padded`, whatever stands where the block is padded.

    Where ranges are found at run time, over all texts, they are compared with `padded` at one length.
    """
    names, random = _outputs(model), np.random.default_rng(_SEED)
    texts = [random.integers(4, 100, length) for length in _LENGTHS]
    answers = [run(derived, names, pack(texts, filler)) for filler in (0, sum(_LENGTHS) - 1)]
    rows = [[value[row, : len(text)] for value in found for row, text in enumerate(texts)] for found in answers]
    if distance(rows[0], rows[1]) > 0:
        return False
    if any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node):
        ids = random.integers(4, 100, _EXTENTS[0])
        return distance(run(model, names, _full(ids)), run(derived, names, pack(list(ids)))) <= _MAX_MOVED
    alone = [run(model, names, _full(text[None])) for text in texts]
    return distance([found[i][0] for i in range(len(names)) for found in alone], rows[0]) <= _MAX_MOVED


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


class _Kinds:
    """What each value depends on: constants and shapes alone, those and the mask, or the tokens."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = set(graphs.weights(model)) | {""}
        self.shaped = set(self.constants)
        self.masked = {MASK}
        for node in model.graph.node:
            if node.op_type in ("Shape", "Size", "Constant") or self.shaped.issuperset(node.input):
                self.shaped.update(node.output)
            elif all(name in self.shaped or name in self.masked for name in node.input):
                self.masked.update(node.output)


class _Block:
    """Copies of what attention adds to its scores, made for the block and not for the row of tokens."""

    def __init__(self, model: onnx.ModelProto, kinds: _Kinds, known: Sequence[Feeds]) -> None:
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


def _measure_by_ids(model: onnx.ModelProto) -> None:
    """Let the ids stand in for the mask where its shape alone is asked for: it is theirs."""
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] == MASK:
            node.input[0] = IDS


def _sweep(model: onnx.ModelProto) -> None:
    """Drop nodes, initializers and inputs that lead to no output."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    inputs = [value for value in model.graph.input if value.name in needed]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    graphs.prune(model)


def runner(folder: Path) -> Run:
    """Runs a graph as it stands, unoptimized, with any of its values as outputs; its weights are in `folder`."""
    sessions: dict[bytes, ort.InferenceSession] = {}

    def run(graph: onnx.ModelProto, names: Sequence[str], feeds: Feeds) -> list[Array]:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(graph)
        known = {value.name for value in exposed.graph.output}
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        key = exposed.SerializeToString(deterministic=True)
        if key not in sessions:
            sessions.clear()
            sessions[key] = _session(folder, key)
        taken = {value.name for value in sessions[key].get_inputs()}
        values: list[Array] = sessions[key].run(list(names), {n: v for n, v in feeds.items() if n in taken})
        return values

    return run


def _session(folder: Path, graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    # Beside its weights, where ONNX Runtime looks for them.
    with tempfile.NamedTemporaryFile(suffix=".onnx", dir=folder, delete=False) as file:
        file.write(graph)
    path = Path(file.name)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        path.unlink()


def _values(model: onnx.ModelProto, run: Run, names: Iterable[str]) -> list[dict[str, Array]]:
    """The named values, and the ids, on each probe: texts of one length, of random tokens."""
    random = np.random.default_rng(_SEED)
    constants = graphs.weights(model)
    inputs = {value.name for value in model.graph.input}
    wanted = sorted(name for name in set(names) if name and name not in inputs and name not in constants)
    small = {n: numpy_helper.to_array(constants[n]) for n in names if n in constants and not constants[n].external_data}
    found = []
    for extents in _EXTENTS:
        feeds = _full(random.integers(4, 100, extents))
        values = run(model, wanted, feeds) if wanted else []
        found.append({**small, **feeds, **dict(zip(wanted, values, strict=True))})
    return found


def _full(ids: Array) -> Feeds:
    return {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}


def _outputs(model: onnx.ModelProto) -> list[str]:
    return [value.name for value in model.graph.output]


def _same(known: Sequence[Feeds], a: str, b: str) -> bool:
    return all(a in found and b in found and np.array_equal(found[a], found[b]) for found in known)


def _masks_nothing(bias: Array) -> bool:
    return bool(bias.all() if bias.dtype == bool else not bias.any())


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
