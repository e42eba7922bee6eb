"""When words were said, and where somebody speaks: paths, words, stretches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.hearing.alignment import path, smoothed, token_frames, words
from sanderling.hearing.voice_activity import VoiceStream, between, chances_of, spoken, voiced
from sanderling.hearing.windows import Window
from sanderling.schema.sounds import VoiceActivity

VOICE = VoiceActivity(frame=100, context=10, size=4, min_silence=0.05, min_speech=0.03, pad=0.02)
RATE = 8000


def cheapest(costs: np.ndarray[Any, Any]) -> float:
    """The cost of the cheapest way, place by place."""
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in itertools.product(range(costs.shape[0]), range(costs.shape[1])):
        total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_path_is_the_cheapest(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).normal(size=(rows, columns))
    down, across = path(costs)
    assert (down[0], across[0], down[-1], across[-1]) == (0, 0, rows - 1, columns - 1)
    steps = set(zip(np.diff(down).tolist(), np.diff(across).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert costs[down, across].sum() == pytest.approx(cheapest(costs))


def test_a_median_is_over_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 20))
    found = smoothed(values)
    assert found.shape == values.shape
    assert found[1, 2, 10] == np.median(values[1, 2, 7:14])


def test_tokens_begin_where_their_attention_does() -> None:
    weights = np.full((2, 4, 40), 0.01, np.float32)
    for token, frames in enumerate((slice(0, 8), slice(8, 17), slice(17, 25), slice(25, 33))):
        weights[:, token, frames] = 1.0
    found = token_frames(weights, 33, slice(0, 4))
    assert np.abs(found - [0, 8, 17, 25]).max() <= 1


PIECES = {1: " the", 2: " ti", 3: "de", 4: ",", 5: ' "', 6: "sea", 7: "\ufffd", 8: "海", 9: "鳥", 10: "."}


def text_of(tokens: Sequence[int]) -> str:
    # Two halves of a character are one where they are read together.
    return "".join(PIECES[token] for token in tokens).replace("\ufffd\ufffd", "岸")


def test_words_are_what_stands_between_blanks() -> None:
    found = words([1, 2, 3, 4, 5, 6, 10], text_of, True)
    assert [one.text for one in found] == [" the", " tide,", ' "sea.']
    assert [(one.first, one.last) for one in found] == [(0, 1), (1, 4), (4, 7)]


def test_where_there_are_no_blanks_characters_are_words() -> None:
    found = words([8, 7, 7, 9, 10], text_of, False)
    assert [one.text for one in found] == ["海", "岸", "鳥."]
    assert [(one.first, one.last) for one in found] == [(0, 1), (1, 3), (3, 5)]


class Loud:
    """A detector that says how loud a frame is, and keeps count of frames in its state."""

    def run(self, feeds: dict[str, Any], cancellation: Any = None) -> dict[str, Any]:
        frames = feeds["input"]
        assert frames.shape[1] == VOICE.context + VOICE.frame
        state = feeds["h"] + len(frames)
        return {"speech_probs": np.abs(frames[:, VOICE.context :]).max(axis=1), "hn": state, "cn": feeds["c"]}


def test_chances_do_not_depend_on_how_samples_come() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 1234).astype(np.float32)
    whole = chances_of(Loud(), VOICE, sound)  # type: ignore[arg-type]
    assert len(whole) == 13
    stream = VoiceStream(Loud(), VOICE)  # type: ignore[arg-type]
    parts = [stream.push(sound[at : at + 77]) for at in range(0, len(sound), 77)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.end()]), whole)


def test_stretches_begin_and_end_with_speech() -> None:
    chances = np.array([0, 0, 0.9, 0.9, 0.4, 0.9, 0, 0, 0, 0, 0, 0, 0.9, 0, 0, 0, 0, 0, 0.8, 0.8, 0.8], np.float32)
    found = spoken(chances, VOICE, RATE, 2100)
    # A pause above the lower bound ends nothing; one frame alone is too short; the last one is open at its end.
    assert found == [Window(200 - 160, 600 + 160), Window(1800 - 160, 2100)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), max_size=200), st.integers(500, 5000))
def test_windows_of_speech_are_in_order_and_within(chances: list[float], most: int) -> None:
    length = max(1, 100 * len(chances) - 37)
    sound = np.zeros(length, np.float32)
    stretches = spoken(np.array(chances, np.float32), VOICE, RATE, length)
    windows = voiced(sound, stretches, RATE, most)
    edges = [edge for one in windows for edge in (one.first, one.last)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= length for edge in edges)
    assert all(0 < one.last - one.first <= most for one in windows)
    heard = sum(one.last - one.first for one in windows)
    assert heard + sum(one.last - one.first for one in between(windows, length)) == length
    assert all(
        any(w.first <= s.first and s.last <= w.last for w in windows) or s.last - s.first > most for s in stretches
    )
