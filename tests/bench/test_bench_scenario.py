"""Scenarios hand over what they should, in the order they should, and cost next to nothing themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import BenchError
from sanderling_bench.measure import harness_seconds
from sanderling_bench.scenario import alternate, null_system, offline, single_stream


class Clock:
    """Moves by one each time it is read, and by what a system says it took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def same(answer: object) -> object:
    return answer


def test_single_stream_hands_inputs_in_order_and_around() -> None:
    seen: list[str] = []
    taken = single_stream(lambda item: seen.append(item) or item.upper(), ["a", "b", "c"], samples=7, keep=same)
    assert seen == ["a", "b", "c", "a", "b", "c", "a"]
    assert [sample.input for sample in taken] == [0, 1, 2, 0, 1, 2, 0]
    assert [sample.answer for sample in taken] == ["A", "B", "C", "A", "B", "C", "A"]


def test_single_stream_starts_where_it_is_told_and_does_not_count_the_warm_up() -> None:
    seen: list[str] = []
    taken = single_stream(seen.append, ["a", "b", "c"], samples=2, warmup=4, start=5, keep=same)
    assert seen == ["b", "c", "a", "b", "c", "a"]
    assert [sample.input for sample in taken] == [2, 0]


def test_only_the_call_is_timed() -> None:
    clock = Clock()

    def slow(item: int) -> int:
        clock.now += item
        return item

    def slow_to_keep(answer: int) -> int:
        clock.now += 1000.0
        return answer

    taken = single_stream(slow, [10, 20], samples=3, warmup=1, keep=slow_to_keep, clock=clock)
    assert [sample.seconds for sample in taken] == [11.0, 21.0, 11.0]
    assert offline(lambda items: slow(sum(items)), [10, 20], keep=slow_to_keep, clock=clock).seconds == 31.0


def test_offline_hands_all_inputs_in_one_call() -> None:
    calls: list[Sequence[str]] = []
    sample = offline(lambda items: calls.append(items) or len(items), ["a", "b", "c"], keep=same)
    assert calls == [["a", "b", "c"]]
    assert sample.answer == 3


@pytest.mark.parametrize(("inputs", "samples"), [([], 1), (["a"], 0)])
def test_a_scenario_without_work_is_refused(inputs: list[str], samples: int) -> None:
    with pytest.raises(BenchError, match="at least 1 input"):
        single_stream(null_system, inputs, samples=samples, keep=same)


def test_offline_without_inputs_is_refused() -> None:
    with pytest.raises(BenchError, match="at least 1 input"):
        offline(null_system, [], keep=same)


def test_alternation_rotates_who_comes_first() -> None:
    assert list(alternate(3, ["x", "y"])) == [(0, "x"), (0, "y"), (1, "y"), (1, "x"), (2, "x"), (2, "y")]


@given(st.integers(1, 12), st.lists(st.text(max_size=3), min_size=1, max_size=5, unique=True))
def test_alternation_gives_each_its_turn_in_each_round(rounds: int, names: list[str]) -> None:
    order = list(alternate(rounds, names))
    for number in range(rounds):
        assert sorted(name for n, name in order if n == number) == sorted(names)
    firsts = [order[number * len(names)][1] for number in range(rounds)]
    assert max(map(firsts.count, names)) - min(map(firsts.count, names)) <= 1


@pytest.mark.parametrize(("rounds", "names"), [(0, ["x"]), (1, [])])
def test_a_comparison_of_nothing_is_refused(rounds: int, names: list[str]) -> None:
    with pytest.raises(BenchError, match="at least 1 round"):
        list(alternate(rounds, names))


def test_the_null_system_measures_every_call_of_the_harness_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[int] = iter(range(10**6))
    monkeypatch.setitem(single_stream.__kwdefaults__, "clock", lambda: float(next(ticks)))
    # One reading of the clock before and one after each call, none for the warm-up.
    assert harness_seconds(["a", "b"], count=500) == (1.0,) * 500
    assert next(ticks) == 1000
