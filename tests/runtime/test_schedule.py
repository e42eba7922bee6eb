"""Batches: every input once, within the budget, little padding."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sanderling.schedule import batches

LENGTHS = st.lists(st.integers(0, 600), max_size=80)
BUDGETS = st.integers(1, 600)


@given(LENGTHS, BUDGETS)
def test_every_index_is_there_once(lengths: list[int], budget: int) -> None:
    found = [index for batch in batches(lengths, budget) for index in batch]
    assert sorted(found) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_the_budget_is_kept_with_padding_unless_an_input_is_alone(lengths: list[int], budget: int) -> None:
    for batch in batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_inputs_come_sorted_and_equal_ones_in_their_order(lengths: list[int], budget: int) -> None:
    found = [index for batch in batches(lengths, budget) for index in batch]
    assert found == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


@given(LENGTHS, BUDGETS)
def test_no_batch_could_have_taken_the_next_input(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, budget))
    for batch, following in pairwise(made):
        assert (len(batch) + 1) * lengths[following[0]] > budget


def test_by_hand() -> None:
    assert list(batches([], 10)) == []
    assert list(batches([5], 1)) == [[0]]
    assert list(batches([4, 1, 3, 2, 9], 6)) == [[1, 3], [2], [0], [4]]
    assert list(batches([0, 0, 0], 1)) == [[0, 1, 2]]
