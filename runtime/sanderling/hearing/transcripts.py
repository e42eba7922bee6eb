"""What models that hear answer: text, and when it was said."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from sanderling import subtitles
from sanderling.generation.results import GenerationTiming
from sanderling.results import AudioReport, Batch


class Character(Struct, frozen=True):
    """One character, or what else a token says, heard from `start` to `end` (seconds), and its `probability`."""

    start: float
    end: float
    text: str
    probability: float


class Word(Struct, frozen=True):
    """A word with the punctuation at it, said from `start` to `end` (seconds), and its mean `probability`.

    `characters` are there where they were asked for, of models that write them one by one.
    """

    start: float
    end: float
    text: str
    probability: float
    characters: tuple[Character, ...] = ()


class SpeechSegment(Struct, frozen=True):
    """A part of a transcript, said from `start` to `end` (seconds).

    `tokens` are the text's. `log_prob` is the mean logarithm of the probabilities of its window's tokens, `no_speech`
    how probable it is that nobody spoke in that window (None where that was not asked), `temperature` what its tokens
    were drawn by (0: the most probable each time). `words` are there where they were asked for.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    log_prob: float | None = None
    no_speech: float | None = None
    temperature: float = 0.0
    words: tuple[Word, ...] = ()


class Transcript(Struct, frozen=True, eq=False):
    """What was said in one sound.

    `language` is its code, given or recognized, then with its `language_probability`; None of models of one language.
    `segments` are in order; without times each is a window of the sound. `silent` are stretches (start and end in
    seconds) in which no speech was found, so that they were not listened to, and `unfinished` those whose transcript
    ended because it had as many tokens as were allowed.
    """

    text: str
    segments: tuple[SpeechSegment, ...]
    language: str | None
    language_probability: float | None
    report: AudioReport
    variant: str
    timing: GenerationTiming
    silent: tuple[tuple[float, float], ...] = ()
    unfinished: tuple[tuple[float, float], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of the sound was heard, and each part of its transcript ended by itself."""
        return self.report.complete and not self.unfinished

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def real_time_factor(self) -> float:
        """Seconds it took, for each second of the sound."""
        return self.timing.total / self.report.seconds

    def srt(self) -> str:
        """The segments as SubRip subtitles."""
        return subtitles.to_srt(self._timed())

    def webvtt(self) -> str:
        """The segments as WebVTT subtitles."""
        return subtitles.to_webvtt(self._timed())

    def json(self) -> str:
        """All of it as JSON."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.json.encode(fields).decode()

    def _timed(self) -> list[subtitles.Segment]:
        return [subtitles.Segment(one.start, one.end, one.text) for one in self.segments]

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"Transcript({shown!r}, {self.report.seconds:.1f} s, {self.language or 'one language'})"


class Transcripts(Batch[Transcript], frozen=True, eq=False):
    """What was said in each of several sounds, in input order.

    Its length, its items (Transcript) and its slices are those of a sequence.
    """

    timing: GenerationTiming

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each."""
        return tuple(item.text for item in self.items)

    def __repr__(self) -> str:
        return f"Transcripts({len(self.items)}: {', '.join(map(repr, self.texts[:2]))}{', …' if len(self) > 2 else ''})"
