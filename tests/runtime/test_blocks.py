"""Feeds of the forms: tokens where they belong, and back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sanderling.preprocess.blocks import EXACT_INPUTS, PACKED_INPUTS, exact, packed
from sanderling.preprocess.text import Encoded
from sanderling.results import TextReport


def encoded(length: int, start: int) -> Encoded:
    ids = np.arange(start, start + length, dtype=np.int64)
    return Encoded(ids, ids % 2, TextReport(length))


def batch(lengths: list[int]) -> list[Encoded]:
    return [encoded(length, 100 * index) for index, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_a_packed_block_holds_each_text_in_its_row(lengths: list[int]) -> None:
    texts = batch(lengths)
    feeds = packed(texts, PACKED_INPUTS)
    assert all(array.dtype == np.int64 for array in feeds.values())
    assert feeds["input_ids"].shape == feeds["position_ids"].shape == (1, sum(lengths))
    block = feeds["input_ids"][0][feeds["block_ids"]]
    for row, text in enumerate(texts):
        assert feeds["attention_mask"][row].tolist() == [1] * text.length + [0] * (max(lengths) - text.length)
        assert block[row, : text.length].tolist() == text.ids.tolist()
    # There and back again is the row of tokens.
    assert block.reshape(-1)[feeds["token_ids"]].tolist() == feeds["input_ids"][0].tolist()
    assert feeds["position_ids"][0].tolist() == [place for length in lengths for place in range(length)]
    assert feeds["token_type_ids"][0].tolist() == [kind for text in texts for kind in text.type_ids]


def test_exact_feeds_are_the_ids_themselves() -> None:
    texts = batch([3, 3])
    feeds = exact(texts, EXACT_INPUTS)
    assert feeds["input_ids"].tolist() == [[0, 1, 2], [100, 101, 102]]
    assert list(exact(texts, ["input_ids"])) == ["input_ids"]
    alone = exact(texts[:1], EXACT_INPUTS)["input_ids"]
    assert np.shares_memory(alone, texts[0].ids)
