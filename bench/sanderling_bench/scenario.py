"""How work is handed to a system. A system is any callable; a scenario knows nothing else about it.

`single_stream` hands one input after another, each as soon as the last is answered; `offline` hands all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter
from typing import Generic, TypeVar

from sanderling.errors import BenchError

I = TypeVar("I")  # noqa: E741 - an input
A = TypeVar("A")
S = TypeVar("S")

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sample(Generic[A]):
    """One timed call: `input` is the index of the input it was given, `seconds` the time until it returned."""

    input: int
    seconds: float
    answer: A


def null_system(_: object) -> None:
    """Answers nothing, at once: what a scenario measures of it is the harness itself."""


def single_stream(
    system: Callable[[I], A],
    inputs: Sequence[I],
    *,
    samples: int,
    warmup: int = 0,
    start: int = 0,
    keep: Callable[[A], S],
    clock: Clock = perf_counter,
) -> list[Sample[S]]:
    """Hand `samples` inputs to the system one after another, in order from index `start`, around as often as needed.

    The inputs just before `start` make `warmup` calls that are not counted. `keep` picks from each answer what the
    sample holds; it runs outside the timed span.
    """
    _require(inputs, samples)
    for index in range(start - warmup, start):
        system(inputs[index % len(inputs)])
    taken = []
    for number in range(start, start + samples):
        index = number % len(inputs)
        given = inputs[index]
        begin = clock()
        answer = system(given)
        end = clock()
        taken.append(Sample(index, end - begin, keep(answer)))
    return taken


def offline(
    system: Callable[[Sequence[I]], A],
    inputs: Sequence[I],
    *,
    keep: Callable[[A], S],
    clock: Clock = perf_counter,
) -> Sample[S]:
    """Hand all inputs to the system in one call. `keep` is as in `single_stream`."""
    _require(inputs, 1)
    begin = clock()
    answer = system(inputs)
    end = clock()
    return Sample(0, end - begin, keep(answer))


def alternate(rounds: int, contenders: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The order of a comparison: every contender once a round, each round beginning with the next of them.

    So a machine that grows slower slows all alike, and no contender always follows the same other.
    """
    if rounds < 1 or not contenders:
        raise BenchError(f"A comparison needs at least 1 round and 1 contender; met {rounds} and {len(contenders)}.")
    for number in range(rounds):
        first = number % len(contenders)
        for name in islice(cycle(contenders), first, first + len(contenders)):
            yield number, name


def _require(inputs: Sequence[object], samples: int) -> None:
    if not inputs or samples < 1:
        raise BenchError(f"A scenario needs at least 1 input and 1 sample; met {len(inputs)} and {samples}.")
