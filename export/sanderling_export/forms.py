"""Other ways to run a text encoder's weights: small graphs that read the weight file of the form `padded`.

`exact` takes texts of one length, and has no attention mask: what only masks is taken out of the graph. `packed` takes
the tokens of all texts in one row, so that no work goes into padding; for attention alone they are gathered to a padded
block, and back. Both are proven against `padded` on the graph at hand, and left out where they do not hold or do not
apply. What a value depends on is read from the graph, what it is worth from its own values on probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Tokenizer

from sanderling.plan import EXACT, PACKED, PADDED
from sanderling.schema.variants import Form
from sanderling.schema.vectors import TokenOutput
from sanderling_export import graphs
from sanderling_export.description import Description
from sanderling_export.exact import exact
from sanderling_export.packed import pack, packed
from sanderling_export.passes.probe import distance
from sanderling_export.tracing import EXTENTS, IDS, MASK, SEED, Run, full, outputs, runner, tokens

# The largest difference from `padded`, relative to the largest value.
_MAX_MOVED = 1e-5
# Tokens of the texts that are packed to prove it.
_LENGTHS = (3, 7, 1, 5)
# Tokens of the longest text where the description names none.
_LONGEST = 512


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
    random = np.random.default_rng(SEED)
    texts = [tokens(made, random, length) for length in (longest, longest, 1)]
    try:
        run(made, outputs(made), pack(texts))
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


def exact_holds(model: onnx.ModelProto, derived: onnx.ModelProto, run: Run) -> bool:
    """Whether texts of one length are answered as by `padded`."""
    names, random = outputs(model), np.random.default_rng(SEED)
    for extents in EXTENTS:
        feeds = full(tokens(model, random, extents))
        if distance(run(model, names, feeds), run(derived, names, feeds)) > _MAX_MOVED:
            return False
    return True


def packed_holds(model: onnx.ModelProto, derived: onnx.ModelProto, run: Run) -> bool:
    """Whether texts of several lengths are answered as alone by `padded`, whatever stands where the block is padded.

    Where ranges are found at run time, over all texts, they are compared with `padded` at one length.
    """
    names, random = outputs(model), np.random.default_rng(SEED)
    texts = [tokens(model, random, length) for length in _LENGTHS]
    answers = [run(derived, names, pack(texts, filler)) for filler in (0, sum(_LENGTHS) - 1)]
    rows = [[value[row, : len(text)] for value in found for row, text in enumerate(texts)] for found in answers]
    if distance(rows[0], rows[1]) > 0:
        return False
    if any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node):
        ids = tokens(model, random, EXTENTS[0])
        return distance(run(model, names, full(ids)), run(derived, names, pack(list(ids)))) <= _MAX_MOVED
    alone = [run(model, names, full(text[None])) for text in texts]
    return distance([found[i][0] for i in range(len(names)) for found in alone], rows[0]) <= _MAX_MOVED
