"""How long the graph alone takes, from host arrays to host arrays, and with its data left in the provider's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from sanderling.model import Model
from sanderling.session import Session

# Inputs that are run one by one; each keeps its copies in the provider's memory meanwhile.
_INPUTS = 8


def measure_residence(model: Model, inputs: Sequence[Any], rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of runs of single inputs: host to host, and resident. They alternate, after one of each that does not
    count. Both are empty for an engine that is no session of ONNX Runtime.
    """
    engine = model.engine
    if not isinstance(engine, Session):
        return (), ()
    host: list[float] = []
    resident: list[float] = []
    for prepared in model.front.prepare(list(inputs[:_INPUTS]), None):
        feeds, _ = model.front.feeds([prepared])
        bound = engine.bind(feeds)
        pair: tuple[tuple[Callable[[], object], list[float]], ...] = (
            (lambda feeds=feeds: engine.run(feeds), host),  # type: ignore[misc]
            (bound.run, resident),
        )
        for number in range(rounds + 1):
            for run, seconds in pair if number % 2 else reversed(pair):
                begin = perf_counter()
                run()
                taken = perf_counter() - begin
                if number:
                    seconds.append(taken)
    return tuple(host), tuple(resident)
