"""The door to the training stack: what is missing is said before anything is imported."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from sanderling.errors import MissingExtraError

_PACKAGES = (
    "torch",
    "transformers",
    "sentence_transformers",
    "optimum",
    "optimum.exporters.onnx",
    "onnx",
    "onnxscript",
    "safetensors",
    "huggingface_hub",
)


_OF_NUMBERS = ("sklearn", "skl2onnx", "skops", "onnx", "safetensors")


def load_tabular(module: str) -> Any:
    """The module of this name in `sanderling_export.tabular`, which needs no torch. Raises MissingExtraError."""
    for package in _OF_NUMBERS:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("Export", "export", "scikit-learn" if package == "sklearn" else package)
    return importlib.import_module(f"sanderling_export.tabular.{module}")


def load_pipeline() -> Any:
    """The module `sanderling_export.pipeline`. Raises MissingExtraError naming the first package that is missing."""
    for package in _PACKAGES:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            missing = "optimum-onnx" if package == "optimum.exporters.onnx" else package
            raise MissingExtraError("Export", "export", missing)
    return importlib.import_module("sanderling_export.pipeline")
