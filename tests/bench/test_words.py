"""Errors of transcripts, in words and characters."""

from __future__ import annotations

import pytest

from sanderling.errors import EvalError

pytest.importorskip("jiwer")

from sanderling_bench.words import character_errors, normalized, word_errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The tide -- comes IN! ", "the tide comes in"),
        ("[laughs] It's (really) low.", "it s low"),
        ("Ebbe & Flut", "ebbe flut"),
        ("ﬁne １２", "fine 12"),
        ("潮、鳥。", "潮 鳥"),
    ],
)
def test_what_is_not_said_is_not_compared(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_errors_are_counted_by_kind() -> None:
    found = word_errors(["the tide come in and out", "low"], ["The tide comes in.", "Very low!"])
    assert (found.substituted, found.deleted, found.inserted, found.total) == (1, 1, 2, 6)
    assert found.wrong == 4
    assert found.rate == pytest.approx(4 / 6)
    assert word_errors(["A b, c."], ["a b c"]).wrong == 0
    letters = character_errors(["tied"], ["tide"])
    assert (letters.total, letters.wrong) == (4, 2)


def test_silence_has_no_rate() -> None:
    with pytest.raises(EvalError, match="has no words"):
        word_errors(["a"], ["..."])
