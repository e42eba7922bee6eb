"""What a model adds to the process's memory, measured, and a cap on it."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec.structs import replace

from sanderling.bundle import Bundle
from sanderling.counts import megabytes
from sanderling.errors import InputError, MemoryLimitError
from sanderling.plan import Plan

if TYPE_CHECKING:
    from types import TracebackType

    from sanderling.model import Model

M = TypeVar("M", bound="Model")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
# Seconds between two looks at what is resident: a run lasts for several.
_INTERVAL = 0.001
_ROUNDS = 3
# These are longer: as many tokens as a transcript may have, each of a length of its own.
_ROUNDS_OF_SOUNDS = 2


def parse_size(given: int | str) -> int:
    """A size in bytes from a whole number of them, or from "300MB" (10^6) or "300MiB" (2^20). Raises InputError."""
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise InputError(f'max_memory is {given!r}; a size above 0 was expected, as "300MB", "1.5GiB" or bytes.')
    return round(float(match[1]) * _UNITS[match[2].upper()])


def fitted(
    bundle: Bundle, plan: Plan, cap: int, assemble: Callable[[Bundle, Plan], M], names: Sequence[str] | None = None
) -> M:
    """A model that adds at most `cap` bytes to what the process has resident, also while it answers its largest inputs.

    `names` are the components that `assemble` loads (default: all).
    It is loaded in its smallest way first, one input at a time, and measured. The largest batches and the most workers
    that fit by that measure are then loaded and measured in turn, so that what is given back was seen to fit.
    Of models that hear, the largest input is as much sound as is heard side by side. The inputs and answers that the
    caller holds, the decoding of large images, and a long sound that is read come on top.

    Raises MemoryLimitError where even the smallest way does not fit.
    """
    *larger, smallest = _smaller(plan, hears(bundle))
    files = _file_bytes(bundle, plan.variant, names)
    if files > cap:
        raise _refused(bundle, plan, cap, names, f"its files alone have {megabytes(files)}")
    before = resident()
    model = assemble(bundle, smallest)
    loaded = resident() - before
    peak = _peak(model, before, smallest)
    if peak > cap:
        model.close()
        met = f"loaded it takes {megabytes(loaded)}, and {megabytes(peak)} while it answers one input"
        raise _refused(bundle, plan, cap, names, met)
    for candidate in larger:
        sessions = 2 if candidate.workers > 1 and candidate.threads > 1 else 1
        runs = candidate.workers * _inputs_a_run(model, candidate)
        if sessions * loaded + runs * (peak - loaded) > cap:
            continue
        model.close()
        model = assemble(bundle, candidate)
        if _peak(model, before, candidate) <= cap:
            return model
    if model.plan != smallest:
        model.close()
        model = assemble(bundle, smallest)
    return model


def resident() -> int:
    """Bytes of this process that are resident in memory."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        return _resident_darwin()
    return _resident_windows()


class Watch:
    """While the block runs, `peak` follows the most bytes that were resident."""

    def __init__(self) -> None:
        self.peak = resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sanderling-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.peak = max(self.peak, resident())

    def _look(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.peak = max(self.peak, resident())


def hears(bundle: Bundle) -> bool:
    """Whether a bundle's model takes sounds."""
    return bundle.manifest.preprocessing.audio is not None


def _smaller(plan: Plan, hears: bool) -> Iterator[Plan]:
    """The plan, then smaller ones: first in smaller batches, then with one worker; at last one input at a time."""
    for workers in dict.fromkeys((plan.workers, 1)):
        if hears:
            # Windows side by side, or one: nothing that is heard depends on budgets of other inputs.
            budget = plan.image_budget
            while budget > 1:
                yield replace(plan, workers=workers, image_budget=budget)
                budget //= 2
            yield replace(plan, workers=workers, token_budget=1, image_budget=1, row_budget=1)
            continue
        budgets = {name: getattr(plan, name) for name in ("token_budget", "image_budget", "row_budget")}
        yield replace(plan, workers=workers)
        while max(budgets.values()) > 1:
            budgets = {name: max(1, budget // 2) for name, budget in budgets.items()}
            yield replace(plan, workers=workers, **budgets)


def _peak(model: Model, before: int, plan: Plan) -> int:
    """Bytes more than `before` that are resident while the model answers as many of its largest inputs as fill it.

    It does so a few times, with the golden samples between: what shapes leave behind in the allocator counts, too.
    """
    if model.modality == "audio":
        return _peak_of_sounds(model, before, plan)
    count = plan.workers * _inputs_a_run(model, plan)
    largest, samples = _largest_inputs(model)
    with Watch() as watch:
        for _ in range(_ROUNDS):
            model.answer([largest[index % len(largest)] for index in range(count)])
            model.answer(samples)
    return watch.peak - before


def _peak_of_sounds(model: Model, before: int, plan: Plan) -> int:
    """As `_peak`, of a model that hears: nothing about it depends on the inputs, but on how long they are."""
    from sanderling.hearing.memory import hear_most

    with Watch() as watch:
        for _ in range(_ROUNDS_OF_SOUNDS):
            hear_most(model, plan)
    return watch.peak - before


def _inputs_a_run(model: Model, plan: Plan) -> int:
    if model.modality == "audio":
        from sanderling.hearing.memory import side_by_side

        return side_by_side(model, plan)
    text = model.bundle.manifest.preprocessing.text
    if model.modality == "text" and text is not None:
        return max(1, plan.token_budget // text.max_tokens)
    return plan.image_budget if model.modality == "image" else plan.row_budget


def _largest_inputs(model: Model) -> tuple[list[Any], list[Any]]:
    """The largest inputs and the golden samples: a text that fills the model's limit; of anything else the samples."""
    from sanderling.golden import inputs_of, read_golden

    text = model.bundle.manifest.preprocessing.text
    inputs = inputs_of(model.bundle, read_golden(model.bundle), model.takes)
    if text is not None and "text" in model.takes and isinstance(inputs[0], str):
        full = ["a " * text.max_tokens]
        # Of a model that takes images as well, one and the other in turn.
        return [*full, *(item for item in inputs if not isinstance(item, str))], inputs
    return inputs, inputs


def _file_bytes(bundle: Bundle, variant: str, names: Sequence[str] | None) -> int:
    parts = bundle.manifest.components
    forms = [next(iter(parts[name].variants[variant].forms.values())) for name in names or parts]
    return sum(bundle.manifest.files[name].size for name in {n for form in forms for n in (form.graph, *form.data)})


def _refused(bundle: Bundle, plan: Plan, cap: int, names: Sequence[str] | None, met: str) -> MemoryLimitError:
    variants = bundle.manifest.variants
    sizes = ", ".join(f"{name} {megabytes(_file_bytes(bundle, name, names))}" for name in variants)
    return MemoryLimitError(
        f"{bundle.path} does not fit max_memory of {megabytes(cap)} with the variant {plan.variant}: {met}. "
        f"Allow more, or load a smaller variant; the files have: {sizes}."
    )


def _resident_darwin() -> int:
    import ctypes

    # struct rusage_info_v2 of <sys/resource.h>: a UUID of 16 bytes, six 64-bit counters, then ri_resident_size.
    buffer = (ctypes.c_uint64 * 32)()
    if ctypes.CDLL(None).proc_pid_rusage(os.getpid(), 2, ctypes.byref(buffer)) != 0:
        raise OSError("proc_pid_rusage failed")
    return int(buffer[8])


def _resident_windows() -> int:
    import ctypes

    # PROCESS_MEMORY_COUNTERS of <psapi.h>: two 32-bit fields, PeakWorkingSetSize, WorkingSetSize, and six more.
    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            *((f"size_{index}", ctypes.c_size_t) for index in range(8)),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel = ctypes.CDLL("kernel32")
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        raise OSError("GetProcessMemoryInfo failed")
    return int(counters.size_1)
