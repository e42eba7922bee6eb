"""Which processor this is, as far as it decides what a graph answers: its model, and the instructions it has.

Kernels differ by instruction set, and so do answers: 8-bit products are summed exactly with VNNI, and may saturate
without it. So what was found out on one processor says nothing about another.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

_CPUINFO = Path("/proc/cpuinfo")
# The first processor's entry; the file repeats it for each.
_CPUINFO_BYTES = 8192
# Instructions that ONNX Runtime and its providers choose kernels by: x86-64 first, Arm after it.
_RELEVANT = re.compile(
    r"sse4_?[12]|ssse3|avx.*|amx.*|fma3?|f16c|"
    r"neon|asimd.*|advsimd.*|fphp|fp16|dotprod|i8mm|bf16|sve.*|sme.*"
)
# PF_*_INSTRUCTIONS_AVAILABLE of winnt.h, for IsProcessorFeaturePresent.
_WINDOWS = {37: "sse4_1", 38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f", 43: "dotprod"}
_MACOS_X86 = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
_MACOS_ARM = ("AdvSIMD", "FEAT_DotProd", "FEAT_I8MM", "FEAT_BF16", "FEAT_FP16", "FEAT_SME", "FEAT_SME2")


class Processor(Struct, frozen=True):
    """A processor: `machine` as `platform` names it, `model` as the system does, sorted `features`, lower case."""

    machine: str
    model: str
    features: tuple[str, ...]

    @property
    def identity(self) -> str:
        """All of it in one line: what records in the cache are keyed by."""
        return f"{self.machine}; {self.model}; {' '.join(self.features)}"


@lru_cache(maxsize=1)
def processor() -> Processor:
    """The processor of this machine. What the system does not tell is left empty, never guessed."""
    if sys.platform == "linux":
        model, features = _linux()
    elif sys.platform == "darwin":
        model, features = _macos()
    elif sys.platform == "win32":
        model, features = _windows()
    else:
        model, features = platform.processor(), []
    relevant = {feature for name in features if _RELEVANT.fullmatch(feature := name.lower().replace(".", "_"))}
    return Processor(platform.machine(), model, tuple(sorted(relevant)))


def _linux() -> tuple[str, list[str]]:
    try:
        with _CPUINFO.open("rb") as file:
            text = file.read(_CPUINFO_BYTES).decode("utf-8", "replace")
    except OSError:
        return platform.processor(), []
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    kind = ("model name", "vendor_id", "cpu family", "model", "stepping")
    arm = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision")
    model = " ".join(fields[name] for name in (*kind, *arm) if fields.get(name))
    return model, (fields.get("flags") or fields.get("Features", "")).split()


def _macos() -> tuple[str, list[str]]:
    features = [word for name in _MACOS_X86 for word in _sysctl(name).decode("ascii", "replace").split()]
    features += [name.removeprefix("FEAT_") for name in _MACOS_ARM if any(_sysctl(f"hw.optional.arm.{name}"))]
    return _sysctl("machdep.cpu.brand_string").decode("utf-8", "replace"), features


def _sysctl(name: str) -> bytes:
    """The raw value of a setting of the kernel, without final zero bytes; empty where there is no such setting."""
    import ctypes

    call = ctypes.CDLL(None).sysctlbyname
    size = ctypes.c_size_t(0)
    if call(name.encode(), None, ctypes.byref(size), None, 0) or not size.value:
        return b""
    value = ctypes.create_string_buffer(size.value)
    failed = call(name.encode(), value, ctypes.byref(size), None, 0)
    return b"" if failed else value.raw[: size.value].rstrip(b"\0")


def _windows() -> tuple[str, list[str]]:
    model = os.environ.get("PROCESSOR_IDENTIFIER") or platform.processor()
    if sys.platform != "win32":  # for the type checker, which knows `windll` on Windows alone
        return model, []
    import ctypes

    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return model, [feature for number, feature in _WINDOWS.items() if present(number)]
