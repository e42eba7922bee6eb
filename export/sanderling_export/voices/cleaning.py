"""Graphs of voices with their constants folded."""

from __future__ import annotations

from pathlib import Path

import onnx

from sanderling_export import graphs

# Names that ONNX Runtime gives to what it makes of products of one row. It gives them again when it loads the graph,
# and then refuses what has them already.
_GIVEN = ("gemm_", "_new_shape")


def cleaned(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The graph with its constants folded. `scratch` is a path for files that are removed again."""
    onnx.save(model, str(scratch))
    target = scratch.with_name(f"{scratch.name}.clean")
    made = graphs.clean(scratch, target)
    scratch.unlink()
    target.unlink()
    for node in made.graph.node:
        node.input[:] = [_own(name) for name in node.input]
        node.output[:] = [_own(name) for name in node.output]
    for tensor in made.graph.initializer:
        tensor.name = _own(tensor.name)
    return made


def _own(name: str) -> str:
    begins, ends = _GIVEN
    return f"folded_{name}" if name.startswith(begins) or name.endswith(ends) else name
