"""How many cores this process was granted: affinity and cgroup quota together."""

from __future__ import annotations

import os
from pathlib import Path


def granted() -> int:
    """Cores this process may use at once, at least 1.

    The least of: the CPU affinity mask, the cgroup's quota (v2 `cpu.max` or v1 `cfs_quota_us`, of this process's group
    and every group above it, rounded up), and what the system counts.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


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
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        relative = Path(path.lstrip("/"))
        if not controllers:
            groups.append((relative, Path("/sys/fs/cgroup")))
        elif "cpu" in controllers.split(","):
            groups.append((relative, Path("/sys/fs/cgroup/cpu")))
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
