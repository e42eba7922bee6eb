"""What a measurement was made on: processor and its class, cores granted, memory, system."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from sanderling import cores

# The instruction sets that decide how fast int8 and bf16 can be, with their names in Linux's /proc/cpuinfo
# (arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c), any one of which is enough.
_LINUX = {
    "AVX2": {"avx2"},
    "AVX512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "AMX": {"amx_int8", "amx_bf16"},
    "NEON": {"asimd", "neon"},
    "DOTPROD": {"asimddp"},
}
# The same in macOS's sysctl hw.optional. Apple's x86-64 machines have no AMX of Intel's.
_MACOS = {
    "AVX2": ("hw.optional.avx2_0",),
    "AVX512": ("hw.optional.avx512f",),
    "VNNI": ("hw.optional.avx512vnni",),
    "AMX": (),
    "NEON": ("hw.optional.neon", "hw.optional.AdvSIMD"),
    "DOTPROD": ("hw.optional.arm.FEAT_DotProd",),
}
# Arguments of Windows's IsProcessorFeaturePresent (winnt.h); it does not tell of VNNI or AMX.
_WINDOWS = {"AVX2": 40, "AVX512": 41, "NEON": 19, "DOTPROD": 43}
# NumPy's names, where the system itself does not tell.
_NUMPY = {"AVX2": "AVX2", "AVX512": "AVX512F", "VNNI": "AVX512VNNI", "NEON": "NEON", "DOTPROD": "ASIMDDP"}

FEATURES = tuple(_LINUX)


class Machine(Struct, frozen=True):
    """`features` maps each of `FEATURES` to whether the processor has it, or None where nothing here can tell.

    `cores` is what the process was granted (affinity and cgroup quota), `processors` what the system counts;
    `memory_bytes` is the physical memory, None where the system does not tell.
    """

    processor: str
    architecture: str
    features: dict[str, bool | None]
    cores: int
    processors: int
    memory_bytes: int | None
    system: str

    @property
    def processor_class(self) -> str:
        """The features it has, in one line; those nothing could tell of carry a question mark."""
        named = [f"{name}?" if has is None else name for name, has in self.features.items() if has is not False]
        return " ".join(named) or "none of " + ", ".join(FEATURES)


def this_machine() -> Machine:
    """The machine this process runs on."""
    return Machine(
        processor=_processor(),
        architecture=platform.machine(),
        features=_features(),
        cores=cores.granted(),
        processors=os.cpu_count() or 1,
        memory_bytes=_memory(),
        system=platform.platform(),
    )


def parse_cpuinfo(text: str) -> tuple[str | None, set[str]]:
    """The processor's name and its flags, from the text of Linux's /proc/cpuinfo (x86 `flags`, ARM `Features`)."""
    name: str | None = None
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "Model", "Hardware") and name is None and value:
            name = value
        elif key in ("flags", "Features") and not flags:
            flags = set(value.split())
    return name, flags


def _processor() -> str:
    name: str | None = None
    if sys.platform == "linux":
        name = parse_cpuinfo(_cpuinfo())[0]
    elif sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string")
    elif sys.platform == "win32":
        name = _registry_name()
    return name or platform.processor() or platform.machine() or "unknown"


def _features() -> dict[str, bool | None]:
    if sys.platform == "linux":
        flags = parse_cpuinfo(_cpuinfo())[1]
        if flags:
            return {name: bool(flags & wanted) for name, wanted in _LINUX.items()}
    if sys.platform == "darwin":
        return {name: any(_sysctl(key) == "1" for key in keys) for name, keys in _MACOS.items()}
    known: dict[str, bool | None] = dict.fromkeys(FEATURES)
    table = _numpy_features()
    known |= {name: table[key] for name, key in _NUMPY.items() if key in table}
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        known |= {name: bool(present(number)) for name, number in _WINDOWS.items()}
    return known


def _numpy_features() -> dict[str, bool]:
    # Not a public name of NumPy's, so it may be absent from a future release: then nothing is known.
    try:
        module = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:
        return {}
    return dict(getattr(module, "__cpu_features__", {}))


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


def _sysctl(key: str) -> str | None:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _registry_name() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except OSError:
        return None


def _memory() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)
