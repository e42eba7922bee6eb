"""Modules of torch as graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from sanderling_export.generation.decoders import OPSET, stated


def traced(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Mapping[str, Mapping[int, str]],
    made: Mapping[str, tuple[int | str, ...]],
    scratch: Path,
) -> onnx.ModelProto:
    """The graph of a module as it runs on `example`.

    `inputs` names what it takes, in order, with the axes that are free; `made` what it gives, with the shape of each.
    A scratch file goes to `scratch`.
    """
    path = scratch / ".part.traced.onnx"
    free = {name: {at: one for at, one in enumerate(shape) if isinstance(one, str)} for name, shape in made.items()}
    torch.onnx.export(
        module.eval(),
        example,
        str(path),
        input_names=list(inputs),
        output_names=list(made),
        dynamic_axes={name: dict(axes) for name, axes in {**inputs, **free}.items() if axes},
        opset_version=OPSET,
        dynamo=False,
    )
    found = stated(onnx.load(str(path)), dict(made))
    path.unlink()
    return found
