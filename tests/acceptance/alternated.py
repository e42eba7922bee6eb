"""Two ways of doing the same, timed in turn, so that what else the machine does meets both."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from checks import Row, at_least, at_most

# The 2nd and the 8th of nine ratios hold their median with 96%, whatever the ratios' distribution (binomial).
ROUNDS = 9


def share_of_time(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], bound: float, rounds: int
) -> Row:
    """The median over rounds of our time divided by theirs, at most `bound`; each way is run once unmeasured.

    Its spread is the least and the greatest, for ways that take minutes and have few rounds."""
    for way in (ours, theirs):
        way()
    pairs = np.array([(_seconds(ours), _seconds(theirs)) for _ in range(rounds)])
    ratios = pairs[:, 0] / pairs[:, 1]
    mine, other = np.median(pairs, axis=0)
    spread = f"{ratios.min():.2f} to {ratios.max():.2f}; {mine:.1f} and {other:.1f} s, {rounds} rounds"
    return at_most(what, float(np.median(ratios)), bound, digits=2, spread=spread)


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
