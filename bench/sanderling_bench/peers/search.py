"""The settings of a contestant, found on this machine by its own knobs: successive halving over all combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from sanderling.errors import BenchError

S = TypeVar("S")

# Of the candidates of a stage, the share that goes on to the next, and how much more each of those is measured.
KEEP = 3
GROW = 2
# Fewer than this are compared to the end.
FINALISTS = 4
FINAL_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Trial(Generic[S]):
    """One combination of settings and its seconds for an input, of the last stage that it reached."""

    settings: S
    seconds: float
    stage: int


def fastest(
    candidates: Sequence[S], measure: Callable[[S, int], float], size: int
) -> tuple[Trial[S], tuple[Trial[S], ...]]:
    """The fastest candidate, and all trials with the best first.

    `measure(candidate, size)` gives the seconds for one input over `size` of them. Every candidate is measured on
    `size` inputs; the best third on twice as many, and so on; the last few alternate for three rounds and are judged
    by their medians. One candidate alone is not measured at all (its seconds are 0).
    """
    if not candidates:
        raise BenchError("A search for settings was given none to try; list at least one.")
    if len(candidates) == 1:
        only = Trial(candidates[0], 0.0, 0)
        return only, (only,)
    left = list(candidates)
    done: list[Trial[S]] = []
    stage = 0
    while len(left) > FINALISTS:
        trials = sorted((Trial(one, measure(one, size), stage) for one in left), key=lambda trial: trial.seconds)
        kept = max(FINALISTS, len(trials) // KEEP) if len(trials) > FINALISTS * KEEP else FINALISTS
        done = trials[kept:] + done
        left = [trial.settings for trial in trials[:kept]]
        size *= GROW
        stage += 1
    seconds: list[list[float]] = [[] for _ in left]
    for number in range(FINAL_ROUNDS):
        for index in range(len(left)):
            turn = (number + index) % len(left)
            seconds[turn].append(measure(left[turn], size))
    final = [Trial(one, median(taken), stage) for one, taken in zip(left, seconds, strict=True)]
    final.sort(key=lambda trial: trial.seconds)
    return final[0], (*final, *done)
