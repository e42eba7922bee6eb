"""What may follow in a transcript, and where a long sound is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.decode.speech import SpeechRules
from sanderling.generation.results import GenerationTiming
from sanderling.hearing.transcripts import SpeechSegment, Transcript
from sanderling.hearing.windows import quiet_cuts
from sanderling.results import AudioReport
from sanderling.schema.generation import SpeechTokens

END, NO_TIMES, TIMES, SIZE = 10, 14, 15, 26
TOKENS = SpeechTokens(
    no_timestamps=NO_TIMES, timestamps=TIMES, first_timestamp=3, suppressed=(2, 12), suppressed_first=(1, END)
)
EVEN = np.zeros((1, SIZE), np.float32)


def possible(sequence: list[int], *, timed: bool, scores: np.ndarray | None = None) -> list[int]:
    """The tokens that may follow, of which none is more probable than another unless `scores` say so."""
    rules = SpeechRules(TOKENS, END, SIZE, timed=timed)
    found = rules(EVEN if scores is None else scores, [sequence])
    return np.flatnonzero(np.isfinite(found[0])).tolist()


def test_what_is_suppressed_never_follows() -> None:
    assert possible([3], timed=False) == [one for one in range(SIZE) if one not in (2, 12)]
    assert possible([], timed=False) == [one for one in range(SIZE) if one not in (1, 2, END, 12)]


def test_a_transcript_with_times_begins_with_an_early_one() -> None:
    assert possible([], timed=True) == [TIMES, TIMES + 1, TIMES + 2, TIMES + 3]


def words(favoured: int) -> np.ndarray:
    """Scores by which a word is more probable than all times together."""
    found = EVEN.copy()
    found[0, favoured] = 9.0
    return found


def test_times_come_in_pairs() -> None:
    assert max(possible([TIMES], timed=True)) < TIMES  # words follow the first time
    following = possible([TIMES, 3, TIMES + 4], timed=True, scores=words(END))
    assert following == [END, 11, 13, *range(TIMES + 4, SIZE)]  # the end, or the same time or a later one again
    assert max(possible([TIMES, 3, TIMES + 4, TIMES + 4], timed=True)) < TIMES


def test_no_time_goes_back() -> None:
    following = possible([TIMES + 2, 3], timed=True, scores=words(4))
    assert [one for one in following if one >= TIMES] == list(range(TIMES + 3, SIZE))
    assert 4 in following


def test_a_time_follows_where_times_together_are_more_probable() -> None:
    scores = EVEN.copy()
    scores[0, 4] = 1.0  # the most probable token by itself
    assert min(possible([TIMES, 3], timed=True, scores=scores)) >= TIMES


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_something_may_always_follow(seed: int) -> None:
    random = np.random.default_rng(seed)
    rules = SpeechRules(TOKENS, END, SIZE, timed=bool(seed % 2))
    sequence: list[int] = []
    for _ in range(20):
        found = rules(random.normal(0, 3, (1, SIZE)).astype(np.float32), [sequence])
        assert np.isfinite(found).any()
        sequence.append(int(found[0].argmax()))
        if sequence[-1] == END:
            break
    times = [token for token in sequence if token >= TIMES]
    assert times == sorted(times) or seed % 2 == 0


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 20_000), most=st.integers(400, 3000), seed=st.integers(0, 100))
def test_windows_are_the_whole_of_a_sound(length: int, most: int, seed: int) -> None:
    sound = np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)
    windows = quiet_cuts(sound, 8000, most)
    assert windows[0].first == 0
    assert windows[-1].last == length
    assert all(before.last == after.first for before, after in itertools.pairwise(windows))
    assert all(0 < one.last - one.first <= most for one in windows)


def test_a_sound_is_cut_where_it_is_quiet() -> None:
    sound = np.random.default_rng(0).normal(0, 0.2, 16_000).astype(np.float32)
    sound[7200:8800] = 0
    first, _ = quiet_cuts(sound, 8000, 10_000)
    assert 7200 < first.last < 8800


def test_subtitles_are_made_of_segments() -> None:
    segments = (SpeechSegment(0.0, 1.5, "low tide"), SpeechSegment(1.5, 2.0, "high tide"))
    report = AudioReport(16_000, 1, 32_000, "pcm 16 bit")
    found = Transcript("low tide high tide", segments, "en", 0.9, report, "fp32", GenerationTiming(0.0, 0.1, 0.5))
    assert found.srt().splitlines()[1:3] == ["00:00:00,000 --> 00:00:01,500", "low tide"]
    assert found.webvtt().startswith("WEBVTT\n")
    assert '"text":"high tide"' in found.json()
    assert found.real_time_factor == pytest.approx(0.25)
    assert found.complete
