"""Two ways of doing the same, timed in turn, so that what else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from checks import Row, at_least

# The 2nd and the 8th of nine ratios hold their median with 96%, whatever the ratios' distribution (binomial).
ROUNDS = 9


def times_as_fast(what: str, ours: Callable[[], object], theirs: Callable[[], object], bound: float) -> Row:
    """The median over rounds of their time divided by ours, at least `bound`; each way is run once unmeasured."""
    for way in (ours, theirs):
        way()
    ratios = np.sort([_seconds(theirs) / _seconds(ours) for _ in range(ROUNDS)])
    spread = f"96% {ratios[1]:.2f} to {ratios[-2]:.2f}, {ROUNDS} rounds"
    return at_least(what, float(np.median(ratios)), bound, digits=2, spread=spread)


def _seconds(way: Callable[[], object]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin
