"""The memory that a plan takes, measured in a process of its own: `python -m sanderling.footprint BUNDLE PLAN NAME`.

PLAN is JSON, NAME that of a component, or empty. The child answers a workload one input at a time and all at once, and
prints what it took as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from sanderling.errors import TuneError
from sanderling.plan import Plan

# Inputs of the child: enough for batches of all shapes that the plan makes.
_ALONE, _BULK = 8, 128
# Of models that write, whose answers take long: enough for a batch of answers that are written side by side.
_ALONE_WRITTEN, _BULK_WRITTEN = 2, 8


class Footprint(Struct, frozen=True):
    """The most memory resident in the process, in bytes, and the seconds of one input among many."""

    memory: int
    seconds: float


def footprint(path: Path, plan: Plan, timeout: float, component: str | None = None) -> Footprint:
    """What a plan takes, in a fresh process. Raises TuneError if that fails, or takes longer than `timeout` seconds."""
    command = [
        sys.executable,
        "-m",
        "sanderling.footprint",
        str(path),
        msgspec.json.encode(plan).decode(),
        component or "",
    ]
    # The child finds this package where this process did.
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, env=environment, check=False)
        return msgspec.json.decode(done.stdout, type=Footprint)
    except subprocess.TimeoutExpired:
        raise TuneError(f"Its memory could not be measured within {timeout:.0f} seconds; give more --time.") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise TuneError(f"Its memory could not be measured in a process of its own: {error}.") from error


def main() -> None:
    """The child."""
    from sanderling.bundle import open_bundle
    from sanderling.golden import read_golden
    from sanderling.loading import assemble
    from sanderling.tuning.whole_answers import ask, writes
    from sanderling.tuning.workload import workload

    path, raw, name = sys.argv[1:]
    component = name or None
    bundle = open_bundle(path)
    few, many = (_ALONE_WRITTEN, _BULK_WRITTEN) if writes(bundle) else (_ALONE, _BULK)
    items = workload(bundle, read_golden(bundle), many, component)
    with assemble(bundle, msgspec.json.decode(raw, type=Plan), components=component) as model:
        for item in items[:few]:
            ask(model, [item])
        ask(model, items)
        started = time.perf_counter()
        ask(model, items)
        seconds = (time.perf_counter() - started) / len(items)
    sys.stdout.buffer.write(msgspec.json.encode(Footprint(peak_memory(), seconds)))


def peak_memory() -> int:
    """The most memory this process had resident, in bytes."""
    if sys.platform == "win32":
        return _windows_peak()
    if sys.platform == "linux":
        # Not ru_maxrss: on Linux it starts at the size of the process that spawned this one.
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _windows_peak() -> int:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS (psapi.h)."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("faults", ctypes.c_uint32),
            ("peak", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    if sys.platform == "win32":  # for the type checker, which knows `windll` on Windows alone
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return int(counters.peak)


if __name__ == "__main__":
    main()
