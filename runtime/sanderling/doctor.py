"""What on this machine keeps models from running as fast, or as surely, as they could; and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from sanderling import cache, cores, providers
from sanderling.errors import ProviderError, StorageError

# Builds of ONNX Runtime that install into one folder and overwrite each other.
_BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-webgpu",
)
_GOVERNORS = Path("/sys/devices/system/cpu")


class Finding(Struct, frozen=True):
    """One thing looked at: whether it is well, what was met, and what to do if it is not."""

    what: str
    well: bool
    met: str
    advice: str = ""


def examine() -> tuple[Finding, ...]:
    """Look at everything, in the order of how much it matters."""
    checks: tuple[Callable[[], Finding], ...] = (
        _builds,
        *(lambda provider=provider: _plugin(provider) for provider in providers.known() if provider.module),
        _quota,
        _governor,
        _cache,
        _telemetry,
    )
    return tuple(check() for check in checks)


def _builds() -> Finding:
    found = {name: version(name) for name in _BUILDS if _installed(name)}
    met = ", ".join(f"{name} {number}" for name, number in found.items())
    if len(found) > 1:
        others = " ".join(found)
        return Finding(
            "builds of ONNX Runtime",
            False,
            f"{met}: they overwrite each other, and which one runs is chance",
            f"pip uninstall -y {others} && pip install onnxruntime (or the one build you need)",
        )
    return Finding("builds of ONNX Runtime", True, met or providers.RUNTIME_VERSION)


def _plugin(provider: providers.Provider) -> Finding:
    what = f"provider {provider.name}"
    if find_spec(provider.module) is None and not providers.is_built_in(provider):
        return Finding(what, True, "not installed")
    try:
        providers.resolve(provider.name)
    except ProviderError as error:
        return Finding(what, False, str(error), f"update its driver, or pip uninstall {provider.package}")
    return Finding(what, True, "usable")


def _quota() -> Finding:
    granted, there = cores.granted(), os.cpu_count() or 1
    met = f"{granted} of {there} processors granted"
    threads = os.environ.get("OMP_NUM_THREADS") or os.environ.get("OPENBLAS_NUM_THREADS")
    if threads and threads.isdigit() and int(threads) > granted:
        return Finding(
            "cores",
            False,
            f"{met}, but OMP_NUM_THREADS or OPENBLAS_NUM_THREADS asks for {threads}",
            f"set them to {granted}, so that numpy's threads do not take time from the model's",
        )
    return Finding("cores", True, met)


def _governor() -> Finding:
    slow = []
    for path in sorted(_GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor")):
        try:
            governor = path.read_text("ascii").strip()
        except OSError:
            continue
        if governor == "powersave":
            slow.append(path.parent.parent.name)
    if slow:
        return Finding(
            "power",
            False,
            f"the powersave governor on {len(slow)} processors ({slow[0]} ...)",
            "choose performance or schedutil, e.g. with: cpupower frequency-set -g schedutil",
        )
    return Finding("power", True, "no slow governor found")


def _cache() -> Finding:
    try:
        folder = cache.folder()
    except StorageError as error:
        return Finding("cache", False, str(error), "set SANDERLING_CACHE to a folder that can be written")
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK):
        return Finding(
            "cache",
            False,
            f"{folder} cannot be written: plans and verdicts are not kept, and each start hashes its files again",
            "set SANDERLING_CACHE to a folder that can be written",
        )
    return Finding("cache", True, str(folder))


def _telemetry() -> Finding:
    if os.environ.get("ORT_DISABLE_TELEMETRY", "1") in ("", "0"):
        return Finding(
            "telemetry",
            False,
            "ORT_DISABLE_TELEMETRY is off: ONNX Runtime may write and upload usage data",
            "unset it, or set it to 1",
        )
    return Finding("telemetry", True, "off")


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
