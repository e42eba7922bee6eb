"""Frames to text: what stands once, what is left out, when it was heard; windows that lose no frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.hearing import ctc
from sanderling.schema.answers import CtcOutput

TOKENS = ("", "a", "b", "", "?")
BLANK, DELIMITER = 0, 3


def head(**more: object) -> CtcOutput:
    return CtcOutput(
        "logits", TOKENS, BLANK, **{"hop": 320, "field": 400, "delimiter": DELIMITER, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def collapsed(*tokens: int) -> list[ctc.Run]:
    return ctc.collapsed(np.array(tokens, np.int64), np.linspace(0.5, 1, len(tokens), dtype=np.float32), BLANK)


def test_a_token_counts_once_where_it_stands_in_a_row() -> None:
    runs = collapsed(0, 1, 1, 0, 1, 3, 3, 2, 0, 0)
    assert [(run.token, run.first, run.last) for run in runs] == [(1, 1, 3), (1, 4, 5), (3, 5, 7), (2, 7, 8)]
    chances = np.linspace(0.5, 1, 10, dtype=np.float32)
    assert runs[0].probability == pytest.approx(chances[1:3].mean())
    assert ctc.text_of(runs, head()) == "aa b"


def test_nothing_is_said_in_blanks_alone() -> None:
    assert collapsed(0, 0, 0) == []
    assert collapsed() == []
    assert ctc.text_of([], head()) == ""
    assert ctc.words_of(collapsed(3, 0, 3), head()) == []


def test_words_are_between_delimiters() -> None:
    runs = collapsed(3, 1, 2, 3, 0, 3, 2, 3)
    assert [[run.token for run in word] for word in ctc.words_of(runs, head())] == [[1, 2], [2]]
    assert [len(word) for word in ctc.words_of(runs, head(delimiter=None))] == [1, 1, 1]


def test_a_text_is_finished_as_the_head_says() -> None:
    runs = collapsed(1, 3, 4)
    assert ctc.text_of(runs, head()) == "a ?"
    assert ctc.text_of(runs, head(clean_up_spaces=True)) == "a?"
    upper = CtcOutput("logits", ("", "Σ"), 0, 320, 400, lowercase=True)
    assert ctc.text_of(ctc.collapsed(np.array([1, 0, 1]), np.ones(3, np.float32), 0), upper) == "σς"


def test_the_best_token_and_its_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 7)).astype(np.float32)
    tokens, chances = ctc.best(logits)
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = wide / wide.sum(axis=1, keepdims=True)
    assert (tokens == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(chances, expected.max(axis=1), rtol=1e-6)


@given(
    samples=st.integers(400, 3_000_000),
    window=st.integers(3, 400),
    margin=st.integers(1, 150),
    hop=st.integers(1, 400),
    field=st.integers(1, 500),
)
@settings(max_examples=300, deadline=None)
def test_windows_have_every_frame_once(samples: int, window: int, margin: int, hop: int, field: int) -> None:
    margin = min(margin, (window - 1) // 2)
    known = head(window=window, margin=margin, hop=hop, field=field)
    frames = ctc.frames_of(samples, known)
    if frames == 0 or frames > 20_000:
        return
    place = last = 0
    for part in ctc.stretches(samples, known):
        made = ctc.frames_of(part.last - part.first, known)
        assert 0 <= part.begin < part.end <= made
        assert made <= max(window, frames if frames <= window else 0)
        assert part.first % hop == 0
        assert part.first // hop + part.begin == place  # the next frame, neither lost nor twice
        # What is kept has its margin on both sides, but where the sound itself ends.
        assert part.first == 0 or part.begin >= margin
        assert part.last == samples or made - part.end >= margin
        place, last = part.first // hop + part.end, part.last
    assert place == frames
    assert last == samples


def test_frames_are_those_of_the_convolutions() -> None:
    """Each layer makes (n - kernel) // stride + 1 of n; all of them together as `field` and `hop` say."""
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    for samples in itertools.chain(range(380, 1200), (16_000, 99_999)):
        left = samples
        for kernel, stride in zip(kernels, strides, strict=True):
            left = max(0, (left - kernel) // stride + 1)
        assert left == ctc.frames_of(samples, head())
