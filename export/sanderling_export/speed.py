"""How fast a variant answers beside fp32, through the runtime, in rounds that alternate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sanderling.loading import load
from sanderling.model import Model

REFERENCE = "fp32"
# The 2nd and the 8th of nine ratios hold their median with 96%, whatever the ratios' distribution (binomial).
ROUNDS = 9
_LOW, _HIGH = 1, 7
_INPUTS = 64
# A round answers so many of the inputs as fp32 has the time for.
_ROUND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """Times fp32's speed: the median of the rounds, and the interval that holds it with 96%."""

    value: float
    low: float
    high: float
    inputs: int

    def __str__(self) -> str:
        rounds = f"{ROUNDS} alternated rounds of {self.inputs} inputs"
        return (
            f"{self.value:.2f} times fp32's speed where it was exported ({self.low:.2f} to {self.high:.2f}, {rounds})"
        )


def beside_fp32(
    root: Path, variants: Sequence[str], items: Sequence[object], component: str | None = None
) -> dict[str, Ratio]:
    """The speed of each variant but fp32 over `items`, many in a call, preprocessing included; empty without fp32, or
    with it alone. With `component` that one is loaded without the others.

    Each round times every variant in turn, so that what else the machine does meets all of them.
    """
    if REFERENCE not in variants or len(set(variants)) == 1 or not items:
        return {}
    step = max(1, len(items) // _INPUTS)
    chosen = list(items[::step][:_INPUTS])
    with ExitStack() as stack:
        models = {
            name: stack.enter_context(load(root, variant=name, provider="cpu", integrity="full", components=component))
            for name in variants
        }
        for model in models.values():
            _seconds(model, chosen[:4])
        once = _seconds(models[REFERENCE], chosen)
        chosen = chosen[: max(1, int(len(chosen) * min(1.0, _ROUND_SECONDS / max(once, 1e-9))))]
        times = np.array([[_seconds(model, chosen) for model in models.values()] for _ in range(ROUNDS)])
    by_name = dict(zip(models, times.T, strict=True))
    return {
        name: _ratio(by_name[REFERENCE] / taken, len(chosen)) for name, taken in by_name.items() if name != REFERENCE
    }


def _seconds(model: Model, items: Sequence[object]) -> float:
    begin = time.perf_counter()
    model.answer(list(items))
    return time.perf_counter() - begin


def _ratio(ratios: NDArray[np.float64], inputs: int) -> Ratio:
    ordered = np.sort(ratios)
    return Ratio(float(np.median(ordered)), float(ordered[_LOW]), float(ordered[_HIGH]), inputs)
