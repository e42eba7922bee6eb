"""Issue 3: within one core, the threads that nobody asked for are as good as the best that could be asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks import Context, NotCheckableError, Row, at_least, built, registry

from sanderling_bench.process import run_child
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import median, ratio_of_medians

CHILD = Path(__file__).with_name("confined.py")
CGROUP = Path("/sys/fs/cgroup")
PERIOD = "100000"
ROUNDS = 7
# Cores that the child is made to believe in; 0 leaves it to what it finds.
FOUND, COUNTS = 0, (1, 2, 4)


@registry.check(3, "one-core-affinity")
def affinity(context: Context) -> list[Row]:
    if not hasattr(os, "sched_setaffinity"):
        raise NotCheckableError("This system has no affinity of processes.")
    return [_row(context, "affinity to one core", "affinity")]


@registry.check(3, "one-core-quota")
def quota(context: Context) -> list[Row]:
    with _group() as group:
        return [_row(context, "a cgroup's quota of one core", str(group))]


def _row(context: Context, what: str, where: str) -> Row:
    bundle = str(built("all-minilm-l6-v2"))
    rates: dict[str, list[float]] = {str(count): [] for count in (FOUND, *COUNTS)}
    for _, count in alternate(ROUNDS, list(rates)):
        printed, _ = run_child([sys.executable, str(CHILD), bundle, count, where])
        rates[count].append(float(printed))
        context.say(f"{what}, {count if int(count) else 'no'} cores given: {rates[count][-1]:.0f} texts/s")
    best = max(map(str, COUNTS), key=lambda count: median(rates[count]))
    ratio = ratio_of_medians(rates[str(FOUND)], rates[best])
    spread = f"95% {ratio.low:.3f} to {ratio.high:.3f}, {ratio.pairs} rounds; the best of {COUNTS} is {best}"
    return at_least(f"MiniLM under {what}: throughput, of the best count of cores", ratio.value, 0.9, spread=spread)


@contextmanager
def _group() -> Iterator[Path]:
    """A cgroup with a quota of one core, of version 1 or 2. Raises NotCheckableError where none can be made."""
    legacy = (CGROUP / "cpu" / "cpu.cfs_quota_us").exists()
    group = (CGROUP / "cpu" if legacy else CGROUP) / f"sanderling-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotCheckableError(f"No cgroup can be made here: {error.strerror}.") from error
    try:
        try:
            if legacy:
                (group / "cpu.cfs_period_us").write_text(PERIOD)
                (group / "cpu.cfs_quota_us").write_text(PERIOD)
            else:
                (group / "cpu.max").write_text(f"{PERIOD} {PERIOD}")
        except OSError as error:
            raise NotCheckableError(f"The cgroup takes no quota here: {error.strerror}.") from error
        yield group
    finally:
        group.rmdir()
