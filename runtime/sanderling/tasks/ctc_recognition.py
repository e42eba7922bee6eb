"""`automatic-speech-recognition` by models that say of each frame what is heard in it (wav2vec 2.0 and its kin)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.engines import Engines
from sanderling.errors import GraphError
from sanderling.generation.results import GenerationTiming
from sanderling.hearing import ctc
from sanderling.hearing.sound_front import VALUES, SoundFront
from sanderling.hearing.transcripts import Character, SpeechSegment, Transcript, Transcripts, Word
from sanderling.model import Answers, Model, in_thread
from sanderling.plan import Plan
from sanderling.results import AudioReport, InputReport, Timing
from sanderling.schema.answers import CtcOutput

if TYPE_CHECKING:
    from sanderling.audio import AudioInput

# A segment ends before a pause of so many seconds, or where it would last longer than this: as long as two lines of
# subtitles are read.
_PAUSE, _LONGEST = 0.8, 7.0


class CtcRecognizer(Model):
    """Writes down what is said, frame by frame."""

    def __init__(self, bundle: Bundle, plan: Plan, front: SoundFront, engines: Engines, head: CtcOutput) -> None:
        super().__init__(bundle, plan, front, engines, None)
        self._sounds = front
        self._head = head

    @property
    def tokens(self) -> tuple[str, ...]:
        """What each token says, in the order of the logits; "" of one that says nothing."""
        return self._head.tokens

    @property
    def window(self) -> float:
        """Seconds of sound that it hears at once; a longer one is heard in windows that overlap."""
        return ((self._head.window - 1) * self._head.hop + self._head.field) / self._sounds.rate

    @property
    def rate(self) -> int:
        """Samples a second of the sound that it hears; another rate is resampled."""
        return self._sounds.rate

    @overload
    def transcribe(  # type: ignore[overload-overlap]
        self,
        audio: AudioInput,
        *,
        words: bool = False,
        characters: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        audio: Iterable[AudioInput],
        *,
        words: bool = False,
        characters: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Transcripts: ...
    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        words: bool = False,
        characters: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Transcript | Transcripts:
        """Write down what is said in one sound (a file, its bytes, or Audio), or in each of a list.

        Segments have times, and end at pauses. With `words` each has its words with their times, with `characters`
        these have theirs. A sound longer than a window is heard in several, which overlap; each frame counts once.

        One sound gives a Transcript, a list Transcripts. Raises AudioError: no sound, or one shorter than a frame;
        InferenceError, CancelledError, DeadlineError.
        """
        started = time.perf_counter()
        items, single = self.front.items(audio)
        self._engines.check()
        found = []
        for item in items:
            if cancellation is not None:
                cancellation.check()
            begun = started if single else time.perf_counter()
            found.append(self._transcript(item, words or characters, characters, begun, cancellation))
        if single:
            return found[0]
        total = time.perf_counter() - started
        first = found[0].timing if found else GenerationTiming(0.0, total, total)
        return Transcripts(tuple(found), GenerationTiming(first.preprocess, first.first_token, total))

    __call__ = transcribe

    async def acall(
        self, audio: AudioInput | Iterable[AudioInput], *, words: bool = False, characters: bool = False
    ) -> Transcript | Transcripts:
        """As `transcribe`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.transcribe
        return await in_thread(
            lambda cancellation: call(audio, words=words, characters=characters, cancellation=cancellation)
        )

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The logits of each sound's frames: rows are an array (n,) of arrays (frames, tokens), float32."""
        self._engines.check()
        started = time.perf_counter()
        rows = np.empty(len(items), object)
        reports: list[InputReport] = []
        for place, item in enumerate(self.front.prepare(items, prompt, cancellation)):
            sound, report = self._sounds.heard(item)
            rows[place] = np.concatenate(list(self._logits(sound, cancellation)))
            reports.append(report)
        return Answers(rows, tuple(reports), Timing(0.0, time.perf_counter() - started, 0.0))

    def _logits(self, sound: NDArray[np.float32], cancellation: Cancellation | None) -> Iterator[NDArray[np.float32]]:
        """The logits of all frames of a sound, (frames, tokens) of each window what is kept of it."""
        scale = self._sounds.scale(sound)
        for part in ctc.stretches(len(sound), self._head):
            if cancellation is not None:
                cancellation.check()
            fed = self._sounds.scaled(sound[part.first : part.last], *scale)
            found = self._engines.single.run({VALUES: fed[None]}, cancellation)[self._head.output]
            frames = ctc.frames_of(part.last - part.first, self._head)
            if found.shape != (1, frames, len(self._head.tokens)):
                raise GraphError(
                    f"The graph's output {self._head.output!r} has the shape {found.shape} for {len(fed):,} samples; "
                    f"the manifest says {frames:,} frames of {len(self._head.tokens):,} tokens."
                )
            kept = found[0, part.begin : part.end].astype(np.float32, copy=False)
            if not np.isfinite(kept).all():
                raise self._not_finite(f"from {part.first / self._sounds.rate:.1f} s on")
            yield kept

    def _transcript(
        self, item: Any, words: bool, characters: bool, started: float, cancellation: Cancellation | None
    ) -> Transcript:
        sound, report = self._sounds.heard(item)
        prepared = time.perf_counter() - started
        first = 0.0
        tokens, chances = [], []
        for logits in self._logits(sound, cancellation):
            # Of each frame two numbers are kept, so that hours of sound take no more memory than they do themselves.
            said, sure = ctc.best(logits)
            tokens.append(said)
            chances.append(sure)
            first = first or time.perf_counter() - started
        runs = ctc.collapsed(np.concatenate(tokens), np.concatenate(chances), self._head.blank)
        segments = tuple(self._segment(part, words, characters, report) for part in self._parted(runs))
        timing = GenerationTiming(prepared, first, time.perf_counter() - started)
        text = ctc.text_of(runs, self._head)
        return Transcript(text, segments, None, None, report, self.variant, timing)

    def _parted(self, runs: Sequence[ctc.Run]) -> list[list[ctc.Run]]:
        """The tokens of each segment: whole words with the blanks behind them."""
        seconds = self._head.hop / self._sounds.rate
        begins: list[int] = []
        opened = ended = 0
        for word in ctc.words_of(runs, self._head):
            start, end = word[0].first, word[-1].last
            if not begins or (start - ended) * seconds >= _PAUSE or (end - opened) * seconds > _LONGEST:
                begins.append(start)
                opened = start
            ended = end
        if not begins:
            return []
        edges = [0, *np.searchsorted([run.first for run in runs], begins[1:]).tolist(), len(runs)]
        return [list(runs[first:last]) for first, last in pairwise(edges)]

    def _segment(self, runs: Sequence[ctc.Run], words: bool, characters: bool, report: AudioReport) -> SpeechSegment:
        found = ctc.words_of(runs, self._head)
        start, end = self._times(found[0][0], found[-1][-1], report)
        sure = [run.probability for run in runs]
        return SpeechSegment(
            start,
            end,
            ctc.text_of(runs, self._head),
            tuple(run.token for run in runs),
            float(np.log(np.maximum(sure, np.finfo(np.float32).tiny)).mean()),
            words=tuple(self._word(word, characters, report) for word in found) if words else (),
        )

    def _word(self, runs: Sequence[ctc.Run], characters: bool, report: AudioReport) -> Word:
        start, end = self._times(runs[0], runs[-1], report)
        said = [
            Character(*self._times(run, run, report), ctc.text_of([run], self._head), run.probability)
            for run in (runs if characters else ())
        ]
        mean = sum(run.probability for run in runs) / len(runs)
        return Word(start, end, ctc.text_of(runs, self._head), mean, tuple(said))

    def _times(self, first: ctc.Run, last: ctc.Run, report: AudioReport) -> tuple[float, float]:
        """From the beginning of the first token's frames to the end of the last one's, in seconds."""
        seconds = self._head.hop / self._sounds.rate
        return first.first * seconds, min(last.last * seconds, max(report.seconds, first.first * seconds))
