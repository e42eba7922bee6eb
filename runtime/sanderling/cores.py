"""The cores this process was granted, and one budget of them for all sessions of the process."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from sanderling.cancellation import Cancellation

_MEMBERSHIP = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")

_TOPOLOGY = Path("/sys/devices/system/cpu")

# Seconds between two looks of who waits for cores at whether its call is to end.
_PATIENCE = 0.02


def granted() -> int:
    """Cores this process may use at once, at least 1.

    The least of: the CPU affinity mask, the cgroup's quota (v2 `cpu.max` or v1 `cfs_quota_us`, of this process's group
    and every group above it, rounded up), and the physical cores among them: two threads on one core's two hyperthreads
    share its arithmetic units, and gain nothing here.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas(), _physical() or count]))


class Budget:
    """Cores shared by all runs of a process, first come, first served, so that sessions do not fight over them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        # Taken directly where nobody has to be woken: a condition's own methods take longer than the lock.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def use(self, cores: int, cancellation: Cancellation | None = None) -> _Use:
        """Hold `cores` of the budget (at most all of it) while the block runs; wait until they are free.

        Entering raises CancelledError or DeadlineError where `cancellation` ends the waiting.
        """
        return _Use(self, min(cores, self.total), cancellation)

    def _take(self, cores: int, cancellation: Cancellation | None) -> None:
        with self._lock:
            # Mostly nobody waits and enough are free.
            if self._waiting or self._free < cores:
                self._wait(cores, cancellation)
            self._free -= cores
            if self._waiting and self._free:
                self._changed.notify_all()

    def _give(self, cores: int) -> None:
        with self._lock:
            self._free += cores
            if self._waiting:
                self._changed.notify_all()

    def _wait(self, cores: int, cancellation: Cancellation | None) -> None:
        """With the lock held, until it is the caller's turn and as many cores are free."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or self._free < cores:
                if cancellation is not None:
                    cancellation.check()
                # Whoever waits with a cancellation looks at it again after a moment: it has no way to wake a queue.
                self._changed.wait(None if cancellation is None else _PATIENCE)
        except BaseException:
            self._waiting.remove(ticket)
            self._changed.notify_all()
            raise
        self._waiting.popleft()


class _Use:
    """A block that holds cores; a class, since a generator would cost every short call some microseconds more."""

    __slots__ = ("_budget", "_cancellation", "_cores")

    def __init__(self, budget: Budget, cores: int, cancellation: Cancellation | None) -> None:
        self._budget = budget
        self._cores = cores
        self._cancellation = cancellation

    def __enter__(self) -> None:
        self._budget._take(self._cores, self._cancellation)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._give(self._cores)


@lru_cache(maxsize=1)
def budget() -> Budget:
    """The budget of this process, as large as what it was granted when it was first asked for."""
    return Budget(granted())


def _physical() -> int | None:
    """Physical cores among those this process may run on; None where the system does not say."""
    if sys.platform == "linux":
        cores = {_core(cpu) for cpu in os.sched_getaffinity(0)}
        return None if None in cores else len(cores)
    if sys.platform == "darwin":
        return _sysctl("hw.physicalcpu")
    return None


def _core(cpu: int) -> str | None:
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text("ascii").strip()
    except OSError:
        return None


def _sysctl(name: str) -> int | None:
    import ctypes

    value = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return None if failed else value.value or None


def _quotas() -> list[int]:
    found = []
    for group, root in _groups():
        while True:
            quota = _quota(root / group)
            if quota is not None:
                found.append(max(1, -int(-quota // 1)))
            if group == Path() or not group.parts:
                break
            group = group.parent
    return found


def _groups() -> list[tuple[Path, Path]]:
    """This process's groups as (path below the root, root), for cgroup v2 and v1's cpu controller."""
    try:
        lines = _MEMBERSHIP.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, _, membership = line.partition(":")
        controllers, colon, path = membership.partition(":")
        if not colon:
            continue
        relative = Path(path.lstrip("/"))
        if not controllers:
            groups.append((relative, _ROOT))
        elif "cpu" in controllers.split(","):
            groups.append((relative, _ROOT / "cpu"))
    return groups


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text("ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text("ascii").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
