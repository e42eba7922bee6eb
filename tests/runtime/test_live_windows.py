"""Words that stay: however the sound comes, each of its samples is heard, and none twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scripted_speech import BORDERS, GATE, MOST, RATE, STEP, WORD, Scripted, Voiced, final, numbered, sound_of

from sanderling.hearing.agreement import Agreement, SaidWord
from sanderling.hearing.gate import LoudnessStream, SpeechGate, Turn
from sanderling.hearing.live_windows import Hypothesis, LiveWindows
from sanderling.hearing.live_words import Delays, LiveUpdate, LiveWord, bare


def windows(hears: Scripted, *, gated: bool = True, carry: int = 0) -> LiveWindows:
    return LiveWindows(hears, SpeechGate(Voiced if gated else None, GATE, RATE), BORDERS, carry)


def streamed(
    live: LiveWindows, sound: NDArray[np.float32], step: int = STEP, hurry: Sequence[bool] = (False,)
) -> list[LiveUpdate]:
    found: list[LiveUpdate] = []
    for place, first in enumerate(range(0, len(sound), step)):
        found += live.push(sound[first : first + step], hurry=hurry[place % len(hurry)])
    return found + live.end()


numbers = st.lists(st.integers(0, 3), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(numbers, st.booleans(), st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 600))
def test_every_word_is_final_once_and_in_order(
    pattern: list[int], gated: bool, hurry: list[bool], changing: int
) -> None:
    spoken = numbered(pattern)
    hears = Scripted(changing)
    live = windows(hears, gated=gated)
    updates = streamed(live, sound_of(spoken), hurry=hurry)
    assert final(updates) == [one for one in spoken if one]
    assert hears.longest <= MOST
    assert live.totals.words == len(final(updates))
    words = [word for update in updates for word in update.final]
    for word in words:  # by the clock of the whole stream
        place = (int(word.text) - 1) * WORD
        assert word.start == pytest.approx(place / RATE, abs=0.11)
        assert word.end == pytest.approx((place + WORD) / RATE, abs=0.11)
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert "".join(update.text for update in updates).split() == [word.text for word in words]


@settings(max_examples=100, deadline=None)
@given(numbers, st.integers(1, 5))
def test_silence_is_told_and_all_else_is_heard(pattern: list[int], times: int) -> None:
    spoken = numbered(pattern) * times
    sound = sound_of(spoken)
    live = windows(Scripted())
    silent = [stretch for update in streamed(live, sound) for stretch in update.silent]
    edges = [edge for stretch in silent for edge in stretch]
    assert edges == sorted(edges)
    assert all(not np.any(sound[round(first * RATE) : round(last * RATE)]) for first, last in silent)
    assert live.totals.silent == round(sum(last - first for first, last in silent) * RATE)
    assert live.until == len(sound)


def test_nothing_is_kept_of_endless_silence_or_endless_speech() -> None:
    hears = Scripted()
    live = windows(hears)
    for _ in range(2000):
        assert live.push(np.zeros(STEP, np.float32)) == []
    assert hears.calls == 0
    assert len(live._sound) <= 2 * live._margin
    (last,) = live.end()
    assert last.silent == ((0.0, 100.0),)
    live = windows(Scripted(), gated=False)
    for number in range(1, 900):
        live.push(sound_of([number]))
        assert len(live._sound) <= MOST
        assert len(live._agreement.said) + len(live._agreement.partial) < 40
    assert final(live.end())[-1] == 899


def test_speech_without_a_pause_is_cut_between_words() -> None:
    live = windows(Scripted(changing=100_000))  # nothing is ever agreed on
    updates = streamed(live, sound_of(range(1, 100)))
    assert final(updates) == list(range(1, 100))
    assert live.totals.cuts >= 3


def test_there_is_an_update_at_every_decision() -> None:
    updates = streamed(windows(Scripted()), sound_of([*range(1, 25), 0, 0, 0, 0, 0]))
    assert [update.until for update in updates[:5]] == [0.4, 0.8, 1.2, 1.6, 2.0]
    assert [update.ended for update in updates] == [False] * 6 + [True, True]
    assert updates[0].partial_text.split()[0] == "1"
    assert final(updates[:1]) == []
    assert final(updates[1:2]) == []  # the first hypothesis had heard little behind its words
    assert final(updates[2:3]) == [1, 2, 3, 4]  # what two of them agree on


def test_words_are_the_same_however_the_sound_comes() -> None:
    sound = sound_of(numbered([1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1] * 4))
    whole = streamed(windows(Scripted()), sound)
    assert final(streamed(windows(Scripted()), sound, step=10)) == final(whole)


def test_a_gap_ends_what_was_said_before_it_and_the_clock_goes_on() -> None:
    live = windows(Scripted())
    before = live.push(sound_of([1, 2, 3]))
    (lost,) = live.gap(5000)
    assert final([*before, lost]) == [1, 2, 3]
    after = [*live.push(sound_of([9])), *live.end()]
    assert after[0].dropped == ((0.3, 5.3),)
    (word,) = [word for update in after for word in update.final]
    assert (word.text, word.start) == ("9", pytest.approx(5.3, abs=0.02))
    assert live.totals.dropped == 5000


def test_a_click_is_no_speech() -> None:
    hears = Scripted()
    live = windows(hears)
    sound = np.zeros(2000, np.float32)
    sound[1000:1020] = 0.5
    (told,) = streamed(live, sound)
    assert hears.calls == 0
    assert sum(last - first for first, last in told.silent) == pytest.approx(2.0)


class Told(Scripted):
    """Hears, and keeps what it was told of the words before."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[int]] = []

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        self.told.append(list(before))
        return super().__call__(sound, said, before, last=last)


def test_what_was_said_before_is_carried_where_it_is_asked_for() -> None:
    hears = Told()
    streamed(windows(hears, carry=3), sound_of([1, 2, 3, 4, 0, 0, 0, 0, 0, 5]))
    assert hears.told[-1] == [2, 3, 4]
    assert hears.told[0] == []
    hears = Told()
    streamed(windows(hears), sound_of([1, 2, 3, 4, 0, 0, 0, 0, 0, 5]))
    assert hears.told[-1] == []


class Doubtful(Scripted):
    """Repeats itself."""

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        found = super().__call__(sound, said, before, last=last)
        return found if last else Hypothesis(found.words[:1] * 20, doubtful=True)


def test_nothing_is_agreed_on_with_a_doubtful_hypothesis() -> None:
    updates = streamed(windows(Doubtful()), sound_of([*range(1, 20), 0, 0, 0, 0]))
    assert final(updates) == list(range(1, 20))
    assert all(not update.partial for update in updates)


class Unfinished(Scripted):
    """Has no room for the last words, or hears nobody."""

    silent = False

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        found = super().__call__(sound, said, before, last=last)
        return Hypothesis(() if self.silent else found.words[:1], silent=self.silent, unfinished=not self.silent)


def test_what_was_not_written_down_is_told() -> None:
    live = windows(Unfinished())
    updates = streamed(live, sound_of([1, 2, 3]))
    assert updates[-1].unfinished == ((0.0, 0.3),)
    assert live.totals.unfinished == 300
    nobody = Unfinished()
    nobody.silent = True
    (told,) = streamed(windows(nobody), sound_of([1, 2, 3]))
    assert told.silent == ((0.0, 0.3),)


def said(*texts: str) -> list[SaidWord]:
    return [SaidWord(f" {text}", (place,), place, place + 1) for place, text in enumerate(texts)]


def test_the_last_word_of_a_hypothesis_is_never_agreed_on() -> None:
    agreement = Agreement()
    assert agreement.heard(said("The", "tide", "is"), 9) == ()
    assert [word.text for word in agreement.heard(said("the", "tide,", "is", "low"), 9)] == [" the", " tide,"]
    assert [word.text for word in agreement.partial] == [" is", " low"]
    assert agreement.tokens == [0, 1]
    assert [word.text for word in agreement.cut(1)] == [" the"]
    assert [word.text for word in agreement.ended(said("is", "low"))] == [" is", " low"]
    assert agreement.said == []


def test_what_was_heard_too_little_beyond_is_not_agreed_on() -> None:
    agreement = Agreement()
    agreement.heard(said("the", "tide", "is", "low"), 0)
    assert [word.text for word in agreement.heard(said("the", "tide", "is", "low"), 2)] == [" the", " tide"]
    assert agreement.heard(said("is", "low"), 2) == ()


def test_a_word_is_the_same_with_other_marks() -> None:
    assert bare(" Tide,") == bare("tide")
    assert bare("—") == "—"
    assert bare("海") != bare("鳥")


def test_delays_are_counted_in_bounded_memory() -> None:
    delays = Delays()
    assert delays.quantile(0.5) is None
    delays.add(LiveWord(0, 0, "a", 1.0, delay) for delay in np.linspace(0, 1, 1001).tolist())
    assert delays.quantile(0.5) == pytest.approx(0.5, abs=0.03)
    assert delays.quantile(0.9) == pytest.approx(0.9, abs=0.03)
    delays.add([LiveWord(0, 0, "a", 1.0, 1e9)] * 2000)
    assert delays.quantile(0.9) == pytest.approx(60, abs=0.1)


def test_turns_do_not_depend_on_how_samples_come() -> None:
    sound = sound_of(numbered([0, 1, 1, 0, 1, 0, 0, 0, 0, 1]))
    whole = SpeechGate(Voiced, GATE, RATE)
    turns = whole.push(sound) + whole.end()
    assert turns == [Turn("begins", 100), Turn("ends", 500), Turn("begins", 900)]
    parts = SpeechGate(Voiced, GATE, RATE)
    found = [turn for first in range(0, len(sound), 7) for turn in parts.push(sound[first : first + 7])]
    assert found + parts.end() == turns


def test_loudness_tells_speech_from_what_is_quiet() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 10 ** (-55 / 20), 16_000 * 4).astype(np.float32)
    voice = random.normal(0, 10 ** (-25 / 20), 16_000).astype(np.float32)
    stream = LoudnessStream(512, 16_000)
    before = stream.push(noise)
    assert before[-40:].sum() <= 1  # it has learned how loud the room is
    assert stream.push(voice).mean() > 0.95
    assert stream.push(np.zeros(16_000, np.float32)).sum() <= 1
    assert len(stream.end()) == 1
    loud = LoudnessStream(512, 16_000)  # a room that is always loud: all of it is heard
    assert loud.push(random.normal(0, 10 ** (-25 / 20), 16_000 * 60).astype(np.float32)).mean() == 1.0
