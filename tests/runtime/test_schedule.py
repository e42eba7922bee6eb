"""Batches: every input once, within the budget, little padding, as each form takes them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.plan import FORMS
from sanderling.schedule import batches, rounded

LENGTHS = st.lists(st.integers(0, 600), max_size=80)
FEW_LENGTHS = st.lists(st.integers(0, 6), max_size=80)
BUDGETS = st.integers(1, 600)
MULTIPLES = st.integers(1, 64)


@given(LENGTHS, BUDGETS, st.sampled_from(FORMS), MULTIPLES)
def test_every_index_is_there_once(lengths: list[int], budget: int, form: str, multiple: int) -> None:
    found = [index for batch in batches(lengths, budget, form, multiple) for index in batch]
    assert sorted(found) == list(range(len(lengths)))


@given(LENGTHS | FEW_LENGTHS, BUDGETS, st.sampled_from(FORMS), MULTIPLES)
def test_inputs_come_sorted_and_equal_ones_in_their_order(
    lengths: list[int], budget: int, form: str, multiple: int
) -> None:
    found = [index for batch in batches(lengths, budget, form, multiple) for index in batch]
    assert found == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


@given(LENGTHS | FEW_LENGTHS, BUDGETS, MULTIPLES)
def test_the_budget_is_kept_with_padding_unless_an_input_is_alone(
    lengths: list[int], budget: int, multiple: int
) -> None:
    for batch in batches(lengths, budget, "padded", multiple):
        longest = rounded(max(lengths[i] for i in batch), multiple)
        assert longest % multiple == 0
        assert len(batch) == 1 or len(batch) * longest <= budget


@given(FEW_LENGTHS | LENGTHS, BUDGETS)
def test_exact_batches_have_one_length(lengths: list[int], budget: int) -> None:
    for batch in batches(lengths, budget, "exact"):
        assert len({lengths[i] for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget


@given(LENGTHS | FEW_LENGTHS, BUDGETS)
def test_packed_batches_count_their_own_tokens(lengths: list[int], budget: int) -> None:
    for batch in batches(lengths, budget, "packed"):
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= budget


@given(LENGTHS | FEW_LENGTHS, BUDGETS, st.sampled_from(FORMS), MULTIPLES)
def test_no_batch_could_have_taken_the_next_input(lengths: list[int], budget: int, form: str, multiple: int) -> None:
    made = list(batches(lengths, budget, form, multiple))
    for batch, following in pairwise(made):
        longer = lengths[following[0]]
        if form == "packed":
            assert sum(lengths[i] for i in batch) + longer > budget
        elif form == "exact":
            assert longer != lengths[batch[0]] or (len(batch) + 1) * longer > budget
        else:
            assert (len(batch) + 1) * rounded(longer, multiple) > budget


@given(LENGTHS, st.sampled_from(FORMS))
def test_a_budget_of_one_puts_each_input_alone(lengths: list[int], form: str) -> None:
    alone = [length + 1 for length in lengths]
    assert all(len(batch) == 1 for batch in batches(alone, 1, form))


@pytest.mark.parametrize(
    ("lengths", "budget", "form", "multiple", "expected"),
    [
        ([], 10, "padded", 1, []),
        ([5], 1, "padded", 1, [[0]]),
        ([4, 1, 3, 2, 9], 6, "padded", 1, [[1, 3], [2], [0], [4]]),
        ([4, 1, 3, 2, 9], 8, "padded", 4, [[1, 3], [2, 0], [4]]),
        ([3, 1, 3, 2, 3], 6, "exact", 1, [[1], [3], [0, 2], [4]]),
        ([4, 1, 3, 2, 9], 6, "packed", 1, [[1, 3, 2], [0], [4]]),
    ],
)
def test_by_hand(lengths: list[int], budget: int, form: str, multiple: int, expected: list[list[int]]) -> None:
    assert list(batches(lengths, budget, form, multiple)) == expected
