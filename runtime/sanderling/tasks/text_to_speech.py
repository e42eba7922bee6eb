"""`text-to-speech`: texts said, sentence by sentence: the frames of each, and samples of them.

How frames are made is the voice's own (`voice_frames`, `stepped_frames`); samples are made of them in parts, side by
side (`vocoding`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import InputError
from sanderling.model import Answers, Model, in_thread
from sanderling.placement import Placement, together
from sanderling.preprocess import phonemes
from sanderling.results import SpeechReport, Timing, summed
from sanderling.schema.voices import SpeechOutput, VoiceSettings
from sanderling.voices.graphs import Frames, Manner, VoiceGraphs, Who
from sanderling.voices.options import VoiceOptions, pause_of, seed_of, settings_of
from sanderling.voices.rules import ENCODER, SPECTRUM
from sanderling.voices.speech import Phonemes, Speech, Speeches, SpeechStream
from sanderling.voices.vocoding import MOST_FRAMES, Vocoding, in_a_row

if TYPE_CHECKING:
    from sanderling.bundle import Bundle
    from sanderling.plan import Plan
    from sanderling.session import Arrays
    from sanderling.voices.frames import FrameMaker
    from sanderling.voices.front import VoiceFront


class _Asked(Struct, frozen=True):
    """How one call is said."""

    how: Manner
    pause: int
    seed: int


class _Line(Struct, frozen=True):
    """One sentence of a call: its symbols, and its place in its own text, which its noise is drawn by."""

    symbols: tuple[str, ...]
    place: int


class _Wave(Struct, frozen=True, eq=False):
    """The samples of one sentence, and whether the voice ended it itself."""

    samples: NDArray[np.float32]
    finished: bool


class Voice(Model):
    """Says texts. The same text, settings and seed are the same sound, whatever is said beside it."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: VoiceFront,
        graphs: VoiceGraphs,
        head: SpeechOutput,
        maker: FrameMaker,
        last: str,
    ) -> None:
        super().__init__(bundle, plan, front, graphs.parts[ENCODER], None)
        self._voice_front = front
        self._graphs = graphs
        self._head = head
        self._maker = maker
        self._vocoding = Vocoding(graphs, last, head)

    @property
    def sample_rate(self) -> int:
        """Samples a second of what it says."""
        return self._head.sample_rate

    @property
    def settings(self) -> VoiceSettings:
        """How it speaks unless a call says otherwise."""
        return self._head.settings

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of a voice of several speakers; empty for one."""
        return tuple(self._head.speakers)

    @property
    def first_speaker(self) -> Who:
        """Who speaks unless a call says otherwise, as the graphs are told."""
        return self._maker.speaker(None, None)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        inputs: str | Phonemes,
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[VoiceOptions],
    ) -> Speech: ...
    @overload
    def __call__(
        self,
        inputs: Iterable[str | Phonemes],
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[VoiceOptions],
    ) -> Speeches: ...
    def __call__(
        self,
        inputs: str | Phonemes | Iterable[str | Phonemes],
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[VoiceOptions],
    ) -> Speech | Speeches:
        """Say one text, or each of a list; `options` are those of VoiceOptions, `seed` draws the noise.

        One text gives a Speech, a list Speeches. What is not heard of a text is in its report; a text of which nothing
        is, gives no samples. Raises TextError for what is no text, InputError for settings out of range,
        MissingExtraError without the extra `tts` where phonemes are needed; InferenceError, CancelledError,
        DeadlineError.
        """
        started = time.perf_counter()
        asked = self._asked(options, seed)
        items, single = self.front.items(inputs)
        self._engines.check()
        scripts = self._voice_front.prepare(items, None, cancellation)
        lines = [_Line(one, place) for script in scripts for place, one in enumerate(script.sentences)]
        prepared = time.perf_counter()
        waves = iter(self._waves(lines, asked, cancellation))
        ran = time.perf_counter()
        timing = Timing(prepared - started, ran - prepared, 0.0)
        found = []
        for script in scripts:
            mine = [next(waves) for _ in script.sentences]
            report = replace(script.report, unfinished=sum(not wave.finished for wave in mine))
            found.append(self._speech([wave.samples for wave in mine], script.sentences, report, asked, timing))
        if single:
            return replace(found[0], timing=replace(timing, postprocess=time.perf_counter() - ran))
        return Speeches(tuple(found), replace(timing, postprocess=time.perf_counter() - ran))

    def stream(
        self,
        text: str | Phonemes,
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[VoiceOptions],
    ) -> SpeechStream:
        """Say one text sentence by sentence: an iterator of Speech, each as soon as it is ready, in bounded memory.

        Together they are what calling the model gives, but for pauses, which belong to what follows them. `report` of
        the stream says what became of the text so far. Arguments and errors as of calling the model.
        """
        asked = self._asked(options, seed)
        items, single = self.front.items(text)
        if not single:
            raise InputError("stream() was given several texts; one was expected.")
        self._engines.check()
        reading = self._voice_front.reading(items[0])
        unfinished = 0

        def sentences() -> Iterator[Speech]:
            nonlocal unfinished
            place, size = 0, 1
            while True:
                begun = time.perf_counter()
                group = list(islice(reading, size))
                if not group:
                    return
                read = time.perf_counter()
                lines = [_Line(symbols, place + offset) for offset, symbols in enumerate(group)]
                waves = self._waves(lines, asked, cancellation)
                timing = Timing(read - begun, time.perf_counter() - read, 0.0)
                for line, wave in zip(lines, waves, strict=True):
                    unfinished += not wave.finished
                    lead = asked.pause if line.place else 0
                    padded = np.concatenate([np.zeros(lead, np.float32), wave.samples]) if lead else wave.samples
                    one = self._speech([padded], (line.symbols,), report(), asked, timing)
                    yield replace(one, starts=(lead,))
                place += len(group)
                # The first sentence has all cores to itself; those after it are made side by side.
                size = self._vocoding.workers.count

        def report() -> SpeechReport:
            return replace(reading.report, unfinished=unfinished)

        return SpeechStream(sentences(), report)

    async def acall(
        self,
        inputs: str | Phonemes | Iterable[str | Phonemes],
        *,
        seed: int = 0,
        **options: Unpack[VoiceOptions],
    ) -> Speech | Speeches:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self
        return await in_thread(lambda cancellation: call(inputs, seed=seed, cancellation=cancellation, **options))

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of all graphs together."""
        return together(self.provider, [engine.placement for engine in self._graphs.single().values()])

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of all graphs, with each provider's share of the time that they take; `placement` has what
        each graph's nodes are. Arguments are as with every model; inputs are said without noise. A graph that runs
        step by step is left out."""
        from sanderling.golden import inputs_of, read_golden  # only for those who measure

        if inputs is None:
            inputs = inputs_of(self.bundle, read_golden(self.bundle), self.takes)
        how = Manner(replace(self.settings, **self._maker.still), self.first_speaker)
        seconds: dict[str, float] = {}
        fed: dict[str, list[Arrays]] = {}
        for script in self._voice_front.prepare(list(inputs), None):
            for symbols in script.sentences:
                for name, feeds in self._maker.feeds(phonemes.ids(symbols, self._voice_front.settings), how).items():
                    if name == self._vocoding.name:
                        part = np.ascontiguousarray(feeds[SPECTRUM][:, :, :MOST_FRAMES])
                        feeds = self._graphs.told({SPECTRUM: part}, name, how.speaker)
                    fed.setdefault(name, []).append(feeds)
        for name, given in fed.items():
            found = self._graphs.parts[name].single.measure_placement(given, whole_number("runs", runs))
            for provider, spent in found.seconds.items():
                seconds[provider] = seconds.get(provider, 0.0) + spent
        return replace(self.placement, seconds=seconds)

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        for part in self._graphs.parts.values():
            part.close()

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The waveforms of texts said without noise: rows (n,) of arrays (samples,), float32."""
        self.front.prepare([], prompt)  # it refuses prompts
        call: Any = self
        found = [call(item, cancellation=cancellation, **self._maker.still) for item in items]
        rows = np.empty(len(found), object)
        rows[:] = [one.audio for one in found]
        return Answers(rows, tuple(one.report for one in found), summed(one.timing for one in found))

    def frames(
        self, ids: NDArray[np.int64], draw: np.random.RandomState | None, settings: VoiceSettings, speaker: Who
    ) -> NDArray[np.float32]:
        """The frames of a sentence's ids (1, tokens), of which samples are made: float32 (1, channels, frames).

        Noise comes from `draw`, frame by frame, so that a longer sentence begins with the noise of a shorter one.
        """
        return self._maker.frames(self._graphs.single(), ids, draw, Manner(settings, speaker), None).spectrum

    def waveform(self, spectrum: NDArray[np.float32], frames: int, speaker: Who = None) -> NDArray[np.float32]:
        """The samples of the decoder's frames, `frames` of them a run: float32 (samples,)."""
        count = spectrum.shape[2]
        starts = range(0, count, frames)
        found = [self._vocoding.part(spectrum, at, min(at + frames, count), speaker, None) for at in starts]
        return np.concatenate([*found, np.empty(0, np.float32)])

    def _asked(self, options: VoiceOptions, seed: int) -> _Asked:
        settings = self._maker.checked(settings_of(options, self.settings))
        pause = round(pause_of(options) * self.sample_rate)
        number = seed_of(seed)
        speaker = self._maker.speaker(options.get("speaker"), options.get("speaker_vector"))
        return _Asked(Manner(settings, speaker), pause, number)

    def _waves(self, lines: Sequence[_Line], asked: _Asked, cancellation: Cancellation | None) -> list[_Wave]:
        """The waveform of each sentence: first the frames of all, then samples of parts of them, on all workers."""
        if not lines:
            return []
        made: list[Frames | None] = [None] * len(lines)
        workers = self._vocoding.workers
        several = len(lines) > 1 and workers.count > 1
        engines = {
            name: part.many() if several else part.single
            for name, part in self._graphs.parts.items()
            if name != self._vocoding.name
        }

        def frames(place: int) -> None:
            line = lines[place]
            ids = phonemes.ids(line.symbols, self._voice_front.settings)
            draw = np.random.RandomState([asked.seed, line.place])
            made[place] = self._maker.frames(engines, ids, draw, asked.how, cancellation)

        if several:
            workers.each(range(len(lines)), frames)
        else:
            for place in range(len(lines)):
                frames(place)
        whole = [one for one in made if one is not None]
        waves = self._vocoding.of_several([one.spectrum for one in whole], asked.how.speaker, cancellation)
        return [_Wave(wave, one.finished) for wave, one in zip(waves, whole, strict=True)]

    def _speech(
        self,
        waves: Sequence[NDArray[np.float32]],
        symbols: tuple[tuple[str, ...], ...],
        report: SpeechReport,
        asked: _Asked,
        timing: Timing,
    ) -> Speech:
        """Sentences in a row, with the pause between them."""
        audio, starts = in_a_row(waves, asked.pause)
        return Speech(audio, self.sample_rate, symbols, starts, report, self.variant, timing)
