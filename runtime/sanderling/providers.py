"""Execution providers: which there are, under which names, and what to install for those there are not."""

from __future__ import annotations

import onnxruntime

from sanderling.errors import ProviderError

# Short names, as users say them, to ONNX Runtime's, with the package that brings each.
_KNOWN = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "qnn": ("QNNExecutionProvider", "onnxruntime-qnn"),
}


def available() -> tuple[str, ...]:
    """Short names of the providers this ONNX Runtime carries, fastest kind first as it lists them."""
    carried = onnxruntime.get_available_providers()
    short = {full: name for name, (full, _) in _KNOWN.items()}
    return tuple(short[full] for full in carried if full in short)


def resolve(name: str) -> str:
    """ONNX Runtime's name of a provider that is there.

    Raises ProviderError: unknown, or not carried by the ONNX Runtime that is installed (with the install line).
    """
    if name not in _KNOWN:
        raise ProviderError(f"There is no provider {name!r}; known are {', '.join(_KNOWN)}.")
    full, package = _KNOWN[name]
    if full not in onnxruntime.get_available_providers():
        hint = (
            f"Install it with: pip uninstall onnxruntime && pip install {package}"
            if package != "onnxruntime"
            else "The onnxruntime built for this platform does not carry it."
        )
        raise ProviderError(
            f"The provider {name!r} is not in the ONNX Runtime installed here, which has "
            f"{', '.join(available())}. {hint}"
        )
    return full
