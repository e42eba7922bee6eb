"""Sound as it comes to words that stay: windows between pauses, heard again and again until their words are agreed on.

Neither threads nor clocks are known here: the same samples in the same steps are the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.hearing.agreement import Agreement, SaidWord
from sanderling.hearing.gate import SpeechGate
from sanderling.hearing.live_words import LiveUpdate, LiveWord, Stretches
from sanderling.hearing.windows import quietest

# Where words are cut apart, loudness is looked at so many seconds around their border, in steps of so many.
_AROUND, _STEP = 0.1, 0.02
# Two hypotheses agree on what the first of them had heard so many seconds beyond, in short windows a share of one: what
# follows a word decides which word it is.
_BEYOND, _BEYOND_SHARE = 1.0, 1 / 8
# A decision that waits for others to be made waits at most for this share of a window.
_MOST_WAITED = 1 / 3


class Hypothesis(Struct, frozen=True):
    """What was heard in a window behind the words that were final before: words in samples from the window's first.

    `doubtful` ones repeat themselves or were improbable, so that nothing is agreed on with them; `silent`: probably
    nobody speaks; `unfinished`: there was more than as many tokens as were allowed.
    """

    words: tuple[SaidWord, ...]
    doubtful: bool = False
    silent: bool = False
    unfinished: bool = False


class Hears(Protocol):
    """A model that hears windows."""

    language: str | None

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        """The words behind those of the tokens `said`, of a window of sound; `before` are tokens said before it.

        It is the `last` time that this window is heard.
        """
        ...


class Borders(Struct, frozen=True):
    """Of windows, in samples: the most of one, what is between two decisions, a step of the sound; and the most tokens
    that a window goes on from."""

    rate: int
    most: int
    every: int
    step: int
    tokens: int


class Totals(Struct):
    """Counts over the whole stream, in samples where they are of sound."""

    silent: int = 0
    unfinished: int = 0
    dropped: int = 0
    cuts: int = 0
    words: int = 0


class LiveWindows:
    """The words of one stream. `carry` gives each window the tokens of the words before it, at most so many."""

    def __init__(self, hears: Hears, gate: SpeechGate, borders: Borders, carry: int = 0) -> None:
        self._hears = hears
        self._gate = gate
        self._borders = borders
        self._carry = carry
        self._agreement = Agreement()
        self._sound = np.zeros(0, np.float32)
        self._before: list[int] = []
        # Samples of the stream: where the kept sound begins, its end, the end of what is settled; of an open window its
        # beginning, where speech was met, the last decision, and the last one that counted.
        self._kept = self.until = self._settled = 0
        self._begin: int | None = None
        self._met = self._decided = self._agreed = 0
        self._silent: list[tuple[int, int]] = []
        self._unfinished: list[tuple[int, int]] = []
        self._dropped: list[tuple[int, int]] = []
        self.totals = Totals()

    @property
    def open(self) -> bool:
        """Whether somebody speaks."""
        return self._begin is not None

    @property
    def earliest(self) -> int:
        """The first sample that a word may still begin at."""
        return self._settled if self._begin is None else self._begin

    def push(self, samples: NDArray[np.float32], *, hurry: bool = False) -> list[LiveUpdate]:
        """Take in a step of sound; in a `hurry`, as more of it waits, fewer decisions are made."""
        self._sound = np.concatenate([self._sound, samples])
        self.until += len(samples)
        found: list[LiveUpdate] = []
        for turn in self._gate.push(samples):
            if turn.kind == "begins":
                self._opened(turn.place)
            else:
                found += self._closed(turn.place)
        if self._begin is None:
            self._forget(max(self._settled, self.until - self._margin))
        else:
            found += self._listened(hurry)
        return found

    def gap(self, count: int) -> list[LiveUpdate]:
        """So many samples are lost: what was heard before them is final, and the stream goes on behind them."""
        found = self.end()
        first, self.until = self.until, self.until + count
        self._settled = self._kept = self.until
        self.totals.dropped += count
        self._dropped.append((first, self.until))
        self._gate.restart(self.until)
        return found

    def end(self) -> list[LiveUpdate]:
        """The stream is over: all that was heard is final."""
        found: list[LiveUpdate] = []
        for turn in self._gate.end():
            if turn.kind == "begins":
                self._opened(min(turn.place, self.until))
            else:
                found += self._closed(turn.place)
        if self._begin is not None:
            found += self._closed(self.until)
        self._leave(self._settled, self.until)
        self._settled = self.until
        self._forget(self.until)
        if self._silent or self._unfinished or self._dropped:
            found.append(self._update((), True))
        return found

    @property
    def _margin(self) -> int:
        """Samples that are kept where nobody speaks: a stretch of speech begins before it is met."""
        settings = self._gate.settings
        return int(settings.pad * self._borders.rate) + settings.frame + self._borders.step

    def _window(self, last: int) -> NDArray[np.float32]:
        assert self._begin is not None
        return self._sound[self._begin - self._kept : last - self._kept]

    def _forget(self, before: int) -> None:
        if before > self._kept:
            self._sound = self._sound[before - self._kept :].copy()
            self._kept = before

    def _leave(self, first: int, last: int) -> None:
        """Nothing is heard of a stretch, in which nobody spoke."""
        if last > first:
            self._silent.append((first, last))
            self.totals.silent += last - first

    def _opened(self, place: int) -> None:
        pad = int(self._gate.settings.pad * self._borders.rate)
        self._begin = max(place - pad, self._settled, self._kept)
        self._met = self._decided = self._agreed = place
        self._leave(self._settled, self._begin)
        self._settled = self._begin

    def _closed(self, place: int) -> list[LiveUpdate]:
        """Somebody stopped speaking at a sample, some time ago."""
        assert self._begin is not None
        settings, rate = self._gate.settings, self._borders.rate
        last = max(self._begin, min(self.until, place + int(settings.pad * rate)))
        begin = self._begin
        if place - self._met < settings.min_speech * rate and not self._agreement.said:
            self._agreement.ended(())
            self._begin, self._settled = None, last
            self._leave(begin, last)
            return []
        found = self._heard_out(last)
        self._begin = None
        self._forget(last)
        return [self._update(found, True)]

    def _heard_out(self, last: int) -> tuple[SaidWord, ...]:
        """The rest of the words of the window up to a sample, which are final."""
        assert self._begin is not None
        heard = self._hears(self._window(last), self._agreement.tokens, self._before, last=True)
        stretch = (self._begin, last)
        if heard.unfinished:
            self._unfinished.append(stretch)
            self.totals.unfinished += last - self._begin
        if heard.silent and not self._agreement.said:
            self._leave(*stretch)
        said = list(self._agreement.said)
        found = self._agreement.ended(self._placed(heard.words, last))
        self._remember([*said, *found])
        self._settled = last
        return found

    def _listened(self, hurry: bool) -> list[LiveUpdate]:
        """What a decision gives, where one is due."""
        assert self._begin is not None
        borders = self._borders
        waited = self.until - self._decided
        full = self.until - self._begin + borders.step > borders.most
        patience = max(borders.every, int(borders.most * _MOST_WAITED)) if hurry else borders.every
        if waited < patience and not full:
            return []
        settled = self._agreed - int(min(_BEYOND * borders.rate, borders.most * _BEYOND_SHARE))
        self._decided = self.until
        heard = self._hears(self._window(self.until), self._agreement.tokens, self._before, last=False)
        final: tuple[SaidWord, ...] = ()
        if not heard.doubtful:
            final = self._agreement.heard(self._placed(heard.words, self.until), settled)
            self._agreed = self.until
        self._shorten()
        if self.until - self._begin + borders.step > borders.most:
            final += self._cut_through()
        return [self._update(final, False)]

    def _shorten(self) -> None:
        """End a long window between two final words, at the quietest place among the later ones."""
        assert self._begin is not None
        borders, said = self._borders, self._agreement.said
        long = self.until - self._begin > borders.most // 2
        if not said or not (long or len(self._agreement.tokens) > borders.tokens):
            return
        cut = max(self._begin, min(self.until, self._quiet_border([word.last for word in said[len(said) // 2 :]])))
        gone = self._agreement.cut(cut)
        if cut == self._begin or not gone:
            return
        self._remember(gone)
        self._begin = self._settled = cut
        self._forget(cut)

    def _quiet_border(self, places: Sequence[int]) -> int:
        rate = self._borders.rate
        step, around = max(1, int(_STEP * rate)), int(_AROUND * rate)
        best, least = places[-1], np.inf
        for place in places:
            for middle in range(place - around, place + around + 1, step):
                part = self._sound[max(0, middle - step - self._kept) : max(0, middle + step - self._kept)]
                power = float(np.square(part, dtype=np.float64).mean()) if len(part) else np.inf
                if power < least:
                    best, least = middle, power
        return best

    def _cut_through(self) -> tuple[SaidWord, ...]:
        """End a full window at a quiet place, as nothing of late was agreed on; its words up to there are final."""
        assert self._begin is not None
        cut = self._begin + max(1, quietest(self._window(self.until), self._borders.rate))
        cut = min(cut, self.until)
        self.totals.cuts += 1
        found = self._heard_out(cut)
        self._begin = cut
        self._forget(cut)
        return found

    def _remember(self, words: Sequence[SaidWord]) -> None:
        if self._carry:
            self._before = [*self._before, *(token for word in words for token in word.tokens)][-self._carry :]

    def _placed(self, words: Sequence[SaidWord], last: int) -> list[SaidWord]:
        """Words on the clock of the stream, none before the one before it."""
        assert self._begin is not None
        least = self._agreement.said[-1].last if self._agreement.said else self._begin
        found = []
        for word in words:
            first = min(last, max(least, self._begin + word.first))
            least = min(last, max(first, self._begin + word.last))
            found.append(SaidWord(word.text, word.tokens, first, least, word.probability))
        return found

    def _update(self, final: Sequence[SaidWord], ended: bool) -> LiveUpdate:
        rate = self._borders.rate
        partial = self._agreement.partial
        self.totals.words += len(final)
        silent, unfinished, dropped = (
            _seconds(one, rate) for one in (self._silent, self._unfinished, self._dropped)
        )  # fmt: skip
        for one in (self._silent, self._unfinished, self._dropped):
            one.clear()
        return LiveUpdate(
            tuple(_live(word, rate) for word in final), tuple(_live(word, rate) for word in partial),
            "".join(word.text for word in final), "".join(word.text for word in partial),
            self.until / rate, ended, self._hears.language, silent, unfinished, dropped,
        )  # fmt: skip


def _live(word: SaidWord, rate: int) -> LiveWord:
    return LiveWord(word.first / rate, word.last / rate, word.text.strip(), word.probability)


def _seconds(stretches: Sequence[tuple[int, int]], rate: int) -> Stretches:
    return tuple((first / rate, last / rate) for first, last in stretches)
