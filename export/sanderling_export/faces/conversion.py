"""The rebuilt networks as ONNX graphs; a detector's decoding is joined to its network after that is quantized."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from sanderling_export import graphs
from sanderling_export.convert import OPSET

INPUT = "pixel_values"
# Between a detector's network and its decoding.
_BETWEEN = ("logits", "encodings")
_DECODED = ("scores", "boxes")
OUTPUTS = {
    "detector": _BETWEEN,
    "landmarks": ("landmarks",),
    "recognition": ("embedding",),
    "expression": ("logits",),
    "age_gender": ("age", "gender"),
}
_PREFIX = "decoding_"


def network(module: nn.Module, component: str, size: int) -> onnx.ModelProto:
    """A network as a graph of `pixel_values` (batch, 3, size, size), constants folded."""
    return _converted(module, (torch.zeros(2, 3, size, size),), (INPUT,), OUTPUTS[component])


def decoding(module: nn.Module, size: int) -> onnx.ModelProto:
    """A detector's decoder as a graph of its network's outputs."""
    with torch.inference_mode():
        raw = module(torch.zeros(2, 3, size, size))
    return _converted(module.decoder, raw, _BETWEEN, _DECODED)


def joined(net: onnx.ModelProto, decoder: onnx.ModelProto) -> onnx.ModelProto:
    """The network, in whatever precision, with its decoding behind it, in float: outputs `scores` and `boxes`."""
    after = onnx.ModelProto()
    after.CopyFrom(decoder)
    after.ir_version = net.ir_version
    made: onnx.ModelProto = onnx.compose.merge_models(
        net, after, io_map=[(name, name) for name in _BETWEEN], prefix2=_PREFIX
    )
    for output in made.graph.output:
        for node in made.graph.node:
            node.output[:] = [name.removeprefix(_PREFIX) if name == output.name else name for name in node.output]
        output.name = output.name.removeprefix(_PREFIX)
    return made


def _converted(
    module: nn.Module, example: tuple[torch.Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        torch.onnx.export(
            module,
            example,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in example),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return graphs.clean(path, Path(folder) / "clean.onnx")
