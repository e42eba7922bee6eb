"""Long sounds in windows: where they are cut, and what of a window is heard again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sanderling.hearing.windows import quiet_cuts, unfinished

TIMES = 100  # the first token of time


@pytest.mark.parametrize(
    ("tokens", "place"),
    [
        ([], None),
        ([1, 2], None),
        ([100, 1, 2, 150], None),  # one segment, ended
        ([100, 1, 150, 150, 2, 190], None),  # two, the last one ended by a single time
        ([100, 1, 150, 150, 2], 3),  # the second one is not
        ([100, 1, 150, 150], 3),  # it has no words
        ([100, 1, 150, 152, 2, 160, 161, 3, 4], 6),
        ([100, 1, 2], None),  # never ended, and nothing before it to keep
    ],
)
def test_an_unfinished_transcript_is_heard_again_from_its_last_pair_of_times(
    tokens: list[int], place: int | None
) -> None:
    assert unfinished(tokens, TIMES) == place


def test_windows_are_the_whole_sound_cut_where_it_is_quiet() -> None:
    rate, most = 1000, 10_000
    sound = np.random.default_rng(3).normal(0, 0.2, 25_000).astype(np.float32)
    sound[7_000:7_400] = sound[16_000:16_400] = 0
    windows = quiet_cuts(sound, rate, most)
    assert [windows[0].first, *(one.last for one in windows)][-1] == len(sound)
    assert all(a.last == b.first for a, b in itertools.pairwise(windows))
    assert all(one.last - one.first <= most for one in windows)
    assert 7_000 <= windows[0].last <= 7_400
    assert 16_000 <= windows[1].last <= 16_400
