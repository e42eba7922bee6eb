"""torchvision beside a torch that it was not compiled for: what resizes and crops works, once it can be imported."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import torch

# Operators that torchvision registers shapes for without asking whether its compiled part was loaded.
_TAKEN_FOR_GRANTED = ("nms", "qnms")


def declare() -> None:
    """Where torchvision is installed and its compiled part does not load (one is for CPUs, the other is not), declare
    the operators without which importing it fails; timm, and transformers where torchvision is there, import it."""
    if importlib.util.find_spec("torchvision") is None or _loads():
        return
    for name in _TAKEN_FOR_GRANTED:
        with contextlib.suppress(RuntimeError):  # declared by an earlier call
            torch.library.define(f"torchvision::{name}", "(Tensor boxes) -> Tensor")


def _loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec is not None else None
    compiled = [file for folder in folders or () for file in sorted(Path(folder).glob("_C*")) if file.is_file()]
    try:
        for file in compiled:
            torch.ops.load_library(str(file))
    except OSError:
        return False
    return bool(compiled)
