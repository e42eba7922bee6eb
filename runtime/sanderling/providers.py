"""Execution providers: which there are on this machine, and what to install for those there are not.

Two kinds: those built into the installed ONNX Runtime, and plugins, packages of their own beside it that bring a
library to register. Builds of ONNX Runtime overwrite each other in one environment; plugins do not. Some providers come
either way.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from typing import Any

import onnxruntime
from msgspec import Struct

from sanderling.errors import ProviderError

CPU = "cpu"
RUNTIME_VERSION: str = onnxruntime.__version__


class Provider(Struct, frozen=True):
    """A provider that Sanderling knows: its short name, ONNX Runtime's, the package that brings it.

    `module` is the plugin's import name; empty for a provider that is part of a build of ONNX Runtime. `build` is the
    build that carries what else is a plugin, for machines on which the plugin finds no device; `build_for` says which.
    `memory` is ONNX Runtime's name of the memory that its nodes read and write.
    """

    name: str
    full_name: str
    package: str
    module: str = ""
    build: str = ""
    build_for: str = ""
    memory: str = "cpu"


class Device(Struct, frozen=True):
    """One device a provider can run on here."""

    provider: str
    kind: str
    vendor: str
    description: str


_KNOWN = {
    provider.name: provider
    for provider in (
        Provider(CPU, "CPUExecutionProvider", "onnxruntime"),
        Provider(
            "openvino",
            "OpenVINOExecutionProvider",
            "onnxruntime-ep-openvino",
            "onnxruntime_ep_openvino",
            "onnxruntime-openvino",
            "processors of other makers than Intel",
        ),
        Provider(
            "webgpu", "WebGpuExecutionProvider", "onnxruntime-ep-webgpu", "onnxruntime_ep_webgpu", memory="webgpu"
        ),
        Provider(
            "tensorrt-rtx",
            "NvTensorRTRTXExecutionProvider",
            "onnxruntime-ep-nv-tensorrt-rtx",
            "onnxruntime_ep_nv_tensorrt_rtx",
            memory="cuda",
        ),
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", memory="cuda"),
        Provider("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", memory="cuda"),
        Provider("directml", "DmlExecutionProvider", "onnxruntime-directml", memory="dml"),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime"),
        Provider("qnn", "QNNExecutionProvider", "onnxruntime-qnn"),
    )
}

_registered: set[str] = set()
_lock = threading.Lock()


def known() -> tuple[Provider, ...]:
    """Every provider that can be asked for, installed or not."""
    return tuple(_KNOWN.values())


def available() -> tuple[str, ...]:
    """Short names of the providers that can be used here."""
    return tuple(name for name, provider in _KNOWN.items() if is_built_in(provider) or _ep_devices(provider))


def devices() -> tuple[Device, ...]:
    """The devices of every provider that can be used here. Plugins are loaded to ask them."""
    found = []
    for provider in _KNOWN.values():
        plugin_devices = _ep_devices(provider)
        for device in plugin_devices:
            kind = str(device.device.type).rpartition(".")[2].lower()
            metadata = {**device.device.metadata, **device.ep_metadata}
            description = metadata.get("Description") or metadata.get("ov_device") or metadata.get("version", "")
            found.append(Device(provider.name, kind, device.device.vendor, description))
        if not plugin_devices and is_built_in(provider):
            cpu = provider.name == CPU
            found.append(
                Device(
                    provider.name, CPU if cpu else "default", "", "" if cpu else "part of this build of ONNX Runtime"
                )
            )
    return tuple(found)


def resolve(name: str) -> Provider:
    """The provider of this short name.

    Raises ProviderError: unknown, not installed (with the install line), or installed without a device to run on.
    """
    provider = _KNOWN.get(name)
    if provider is None:
        raise ProviderError(f"There is no provider {name!r}; known are {', '.join(_KNOWN)}.")
    if is_built_in(provider) or _ep_devices(provider):
        return provider
    here = ", ".join(available())
    if provider.module and importlib.util.find_spec(provider.module) is not None:
        raise ProviderError(
            f"The provider {name!r} is installed, but found no device on this machine that it can use; "
            f"usable here: {here}.{_build_line(provider)}"
        )
    raise ProviderError(f"The provider {name!r} is not installed; usable here: {here}. {install_line(provider)}")


def install_line(provider: Provider) -> str:
    """What to do to have a provider, in one sentence."""
    if provider.module:
        return f"Install it with: pip install {provider.package}.{_build_line(provider)}".removesuffix(".")
    if provider.package == "onnxruntime":
        return "It is part of onnxruntime on the platforms that have it; this is none of them."
    return f"Install the build that has it with: pip uninstall onnxruntime && pip install {provider.package}"


def _build_line(provider: Provider) -> str:
    if not provider.build:
        return ""
    return f" For {provider.build_for}: pip uninstall onnxruntime && pip install {provider.build}"


def short_name(full_name: str) -> str:
    """Our short name for ONNX Runtime's name of a provider, or that name itself."""
    return next((name for name, provider in _KNOWN.items() if provider.full_name == full_name), full_name)


def configure(options: onnxruntime.SessionOptions, provider: Provider) -> list[str]:
    """Set a session's options for `provider`; the provider names to hand to the session beside them."""
    if provider.name == CPU:
        return [provider.full_name]
    if plugin_devices := _ep_devices(provider):
        options.add_provider_for_devices(plugin_devices[:1], {})
        return []
    return [provider.full_name, _KNOWN[CPU].full_name]


def is_built_in(provider: Provider) -> bool:
    """Whether the installed build of ONNX Runtime carries it."""
    return provider.full_name in onnxruntime.get_available_providers()


def _ep_devices(provider: Provider) -> list[Any]:
    """The plugin's devices on this machine; none if it is not installed, or is not a plugin."""
    if not provider.module and provider.name != CPU:
        return []
    if provider.module and not _register(provider):
        return []
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider.full_name]


def _register(provider: Provider) -> bool:
    """Load the plugin's library into ONNX Runtime, once a process; False if its package is not installed."""
    with _lock:
        if provider.module in _registered:
            return True
        if importlib.util.find_spec(provider.module) is None:
            return False
        try:
            library = importlib.import_module(provider.module).get_library_path()
            onnxruntime.register_execution_provider_library(provider.module, library)
        except Exception as error:
            raise ProviderError(
                f"The package {provider.package} is installed, but its library cannot be loaded: {error}. "
                f"Reinstall it with: pip install --force-reinstall {provider.package}"
            ) from error
        _registered.add(provider.module)
        return True
