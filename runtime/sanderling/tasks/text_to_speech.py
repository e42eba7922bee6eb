"""`text-to-speech`: texts said, sentence by sentence, by a voice of three graphs.

The encoder tells how long each sound takes and where it lies, with drawn noise; the flow makes frames of that; the
decoder makes samples of frames, in parts side by side, since what it makes of a frame depends on a few around it alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import GraphError, InputError
from sanderling.manifest import SpeechOutput, VoiceSettings
from sanderling.model import Answers, Model, in_thread
from sanderling.placement import Placement, together
from sanderling.preprocess import phonemes
from sanderling.results import Timing, summed
from sanderling.speech import Phonemes, Speech, Speeches, SpeechStream
from sanderling.voice_rules import (
    DECODER,
    DURATION_NOISE,
    ENCODER,
    FLOW,
    IDS,
    LATENTS,
    LENGTH_SCALE,
    MEAN,
    SCALE,
    SPEAKER,
    SPECTRUM,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sanderling.bundle import Bundle
    from sanderling.engines import Engines
    from sanderling.plan import Plan
    from sanderling.session import Arrays, Engine
    from sanderling.voice_front import VoiceFront

# Who speaks: nobody in particular, the number of a speaker, or its vector (1, size).
Who = int | NDArray[np.float32] | None
# Frames of one run of the decoder: fewer make its borders dear, more take memory (about 130 KB each).
_LEAST_FRAMES, _MOST_FRAMES = 64, 1024
_RANGES = {"speed": (0.1, 10.0), "noise": (0.0, 2.0), "duration_noise": (0.0, 2.0)}
_MOST_PAUSE = 60.0
_MOST_SEED = 2**32 - 1


class VoiceOptions(TypedDict, total=False):
    """What a call may say of how it is said; the rest is as the bundle's `settings`.

    `speed` above 1 is faster; `noise` and `duration_noise` are what drawn noise is multiplied with, 0 for none;
    `speaker` is one of a voice of several, `speaker_vector` (size,) another one to a voice that takes vectors;
    `pause` the seconds of silence between sentences (default 0).
    """

    speed: float
    noise: float
    duration_noise: float
    speaker: str
    speaker_vector: NDArray[np.float32]
    pause: float


class _Asked(Struct, frozen=True):
    """How one call is said."""

    settings: VoiceSettings
    speaker: Who
    pause: int
    seed: int


class _Line(Struct, frozen=True):
    """One sentence of a call: its symbols, and its place in its own text, which its noise is drawn by."""

    symbols: tuple[str, ...]
    place: int


class Voice(Model):
    """Says texts. The same text, settings and seed are the same sound, whatever is said beside it."""

    # The graph that makes samples of frames.
    _last = DECODER

    def __init__(
        self, bundle: Bundle, plan: Plan, front: VoiceFront, engines: Mapping[str, Engines], head: SpeechOutput
    ) -> None:
        super().__init__(bundle, plan, front, engines[ENCODER], None)
        self._voice_front = front
        self._parts = dict(engines)
        self._head = head
        given = {spec.name: spec for spec in bundle.manifest.components[ENCODER].inputs}
        self._noises = int(given[DURATION_NOISE].shape[1]) if DURATION_NOISE in given else 0
        self._told = {
            name
            for name, component in bundle.manifest.components.items()
            if any(spec.name == SPEAKER for spec in component.inputs)
        }

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
        return self._speaker(None)

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
            found.append(self._speech(mine, script.sentences, script.report, asked, timing))
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

        def sentences() -> Iterator[Speech]:
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
                    lead = asked.pause if line.place else 0
                    padded = np.concatenate([np.zeros(lead, np.float32), wave]) if lead else wave
                    one = self._speech([padded], (line.symbols,), reading.report, asked, timing)
                    yield replace(one, starts=(lead,))
                place += len(group)
                # The first sentence has all cores to itself; those after it are made side by side.
                size = self._parts[self._last].workers.count

        return SpeechStream(sentences(), lambda: reading.report)

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
        """Which provider really has which nodes, of all three graphs together."""
        return together(self.provider, [part.single.placement for part in self._parts.values()])

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of all graphs, with each provider's share of the time that they take; `placement` has what
        each graph's nodes are. Arguments are as with every model; inputs are said without noise."""
        from sanderling.golden import inputs_of, read_golden  # only for those who measure

        if inputs is None:
            inputs = inputs_of(self.bundle, read_golden(self.bundle), self.takes)
        asked = self._asked({"noise": 0.0, "duration_noise": 0.0}, 0)
        feeds: dict[str, list[Arrays]] = {ENCODER: [], FLOW: [], DECODER: []}
        for script in self._voice_front.prepare(list(inputs), None):
            for symbols in script.sentences:
                ids = phonemes.ids(symbols, self._voice_front.settings)
                engines = {name: part.single for name, part in self._parts.items()}
                how = (asked.settings, asked.speaker)
                latents = self._latents(engines[ENCODER], ids, None, how, None)
                spectrum = self._spectrum(engines[FLOW], latents, asked.speaker, None)
                feeds[ENCODER].append(self._encoder_feeds(ids, None, asked.settings, asked.speaker))
                feeds[FLOW].append(self._with_speaker({LATENTS: latents}, FLOW, asked.speaker))
                part = np.ascontiguousarray(spectrum[:, :, :_MOST_FRAMES])
                feeds[DECODER].append(self._with_speaker({SPECTRUM: part}, DECODER, asked.speaker))
        return self._timed(feeds, runs)

    def _timed(self, feeds: Mapping[str, Sequence[Arrays]], runs: int) -> Placement:
        seconds: dict[str, float] = {}
        for name, given in feeds.items():
            found = self._parts[name].single.measure_placement(given, whole_number("runs", runs))
            for provider, spent in found.seconds.items():
                seconds[provider] = seconds.get(provider, 0.0) + spent
        return replace(self.placement, seconds=seconds)

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        for part in self._parts.values():
            part.close()

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The waveforms of texts said without noise: rows (n,) of arrays (samples,), float32."""
        self.front.prepare([], prompt)  # it refuses prompts
        still = {"noise": 0.0} if self._head.steps is not None else {"noise": 0.0, "duration_noise": 0.0}
        call: Any = self
        found = [call(item, cancellation=cancellation, **still) for item in items]
        rows = np.empty(len(found), object)
        rows[:] = [one.audio for one in found]
        return Answers(rows, tuple(one.report for one in found), summed(one.timing for one in found))

    def frames(
        self, ids: NDArray[np.int64], draw: np.random.RandomState | None, settings: VoiceSettings, speaker: Who
    ) -> NDArray[np.float32]:
        """The frames of a sentence's ids (1, tokens), of which samples are made: float32 (1, channels, frames).

        Noise comes from `draw`, frame by frame, so that a longer sentence begins with the noise of a shorter one.
        """
        engines = {name: part.single for name, part in self._parts.items()}
        return self._frames(engines, ids, draw, (settings, speaker), None)

    def waveform(self, spectrum: NDArray[np.float32], frames: int, speaker: Who = None) -> NDArray[np.float32]:
        """The samples of the decoder's frames, `frames` of them a run: float32 (samples,)."""
        count = spectrum.shape[2]
        runs = [(start, min(start + frames, count)) for start in range(0, count, frames)]
        found = [self._decoded(spectrum, first, last, speaker, None) for first, last in runs]
        return np.concatenate([*found, np.empty(0, np.float32)])

    def _asked(self, options: VoiceOptions, seed: int) -> _Asked:
        unknown = set(options) - set(VoiceOptions.__annotations__)
        if unknown:
            raise TypeError(
                f"unexpected argument {sorted(unknown)[0]!r}; known are {', '.join(VoiceOptions.__annotations__)}"
            )
        changed: dict[str, float] = {}
        for name, (least, most) in _RANGES.items():
            if name in options:
                changed[name] = _number(name, options[name], least, most)  # type: ignore[literal-required]
        pause = _number("pause", options.get("pause", 0.0), 0.0, _MOST_PAUSE)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= _MOST_SEED:
            raise InputError(f"seed is {seed!r}; a whole number from 0 to {_MOST_SEED} was expected.")
        return _Asked(
            self._checked(replace(self.settings, **changed)),
            self._speaker(options.get("speaker"), options.get("speaker_vector")),
            round(pause * self.sample_rate),
            int(seed),
        )

    def _checked(self, settings: VoiceSettings) -> VoiceSettings:
        """The settings, if this kind of voice has them. Raises InputError."""
        return settings

    def _speaker(self, name: str | None, vector: object = None) -> Who:
        known = self._head.speakers
        if vector is not None:
            raise InputError(f"{self.name} takes no speaker_vector; voices that make frames step by step do.")
        if name is not None and name not in known:
            raise InputError(f"{self.name} has no speaker {name!r}; it has {', '.join(known) or 'only one, unnamed'}.")
        if not known:
            return None
        return known[name] if name is not None else next(iter(known.values()))

    def _waves(
        self, lines: Sequence[_Line], asked: _Asked, cancellation: Cancellation | None
    ) -> list[NDArray[np.float32]]:
        """The waveform of each sentence: first the frames of all, then samples of parts of them, on all workers."""
        if not lines:
            return []
        spectra: list[NDArray[np.float32] | None] = [None] * len(lines)
        workers = self._parts[self._last].workers
        several = len(lines) > 1 and workers.count > 1
        engines = {
            name: part.many() if several else part.single for name, part in self._parts.items() if name != self._last
        }

        def frames(place: int) -> None:
            line = lines[place]
            ids = phonemes.ids(line.symbols, self._voice_front.settings)
            draw = np.random.RandomState([asked.seed, line.place])
            spectra[place] = self._frames(engines, ids, draw, (asked.settings, asked.speaker), cancellation)

        if several:
            workers.each(range(len(lines)), frames)
        else:
            for place in range(len(lines)):
                frames(place)
        whole = [one for one in spectra if one is not None]
        runs = _runs([one.shape[2] for one in whole], workers.count)
        pieces: list[NDArray[np.float32] | None] = [None] * len(runs)

        def samples(number: int) -> None:
            place, first, last = runs[number]
            pieces[number] = self._decoded(whole[place], first, last, asked.speaker, cancellation)

        workers.each(range(len(runs)), samples)
        waves: list[list[NDArray[np.float32]]] = [[] for _ in whole]
        for (place, _, _), piece in zip(runs, pieces, strict=True):
            if piece is not None:
                waves[place].append(piece)
        return [self._levelled(np.concatenate(one) if one else np.empty(0, np.float32)) for one in waves]

    def _frames(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: tuple[VoiceSettings, Who],
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        """The frames of one sentence, of which samples are made: float32 (1, channels, frames)."""
        latents = self._latents(engines[ENCODER], ids, draw, how, cancellation)
        return self._spectrum(engines[FLOW], latents, how[1], cancellation)

    def _latents(
        self,
        engine: Engine,
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: tuple[VoiceSettings, Who],
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        settings, speaker = how
        outputs = engine.run(self._encoder_feeds(ids, draw, settings, speaker), cancellation)
        mean, scale = outputs[MEAN], outputs[SCALE]
        if mean.shape != scale.shape or mean.ndim != 3 or mean.shape[0] != 1:
            raise GraphError(
                f"The encoder answers frames of {mean.shape} and {scale.shape}; (1, n, frames) was expected."
            )
        if draw is None or not settings.noise:
            found: NDArray[np.float32] = mean
            return found
        drawn = draw.standard_normal((mean.shape[2], mean.shape[1])).T.astype(np.float32)
        noisy: NDArray[np.float32] = mean + drawn * scale * np.float32(settings.noise)
        return noisy

    def _encoder_feeds(
        self, ids: NDArray[np.int64], draw: np.random.RandomState | None, settings: VoiceSettings, speaker: Who
    ) -> Arrays:
        noise = np.zeros((1, self._noises, ids.shape[1]), np.float32)
        if draw is not None and settings.duration_noise:
            noise[0] = draw.standard_normal((ids.shape[1], self._noises)).T * settings.duration_noise
        length = np.array([1 / settings.speed], np.float32)
        return self._with_speaker({IDS: ids, DURATION_NOISE: noise, LENGTH_SCALE: length}, ENCODER, speaker)

    def _spectrum(
        self, engine: Engine, latents: NDArray[np.float32], speaker: Who, cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        if not latents.shape[2]:
            return latents
        found = engine.run(self._with_speaker({LATENTS: latents}, FLOW, speaker), cancellation)[SPECTRUM]
        if found.shape != latents.shape:
            raise GraphError(f"The flow answers {latents.shape} with {found.shape}; the same shape was expected.")
        if not np.isfinite(found).all():
            raise self._not_finite("of the flow graph")
        return found

    def _decoded(
        self,
        spectrum: NDArray[np.float32],
        first: int,
        last: int,
        speaker: Who,
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        """The samples of the frames from `first` to before `last`, which see as many around them as they depend on."""
        head = self._head
        low, high = max(0, first - head.context), min(spectrum.shape[2], last + head.context)
        feeds: Arrays = {SPECTRUM: np.ascontiguousarray(spectrum[:, :, low:high])}
        engine = self._parts[self._last].many()
        wave = engine.run(self._with_speaker(feeds, self._last, speaker), cancellation)[head.output]
        if wave.shape != (1, (high - low) * head.hop):
            raise GraphError(
                f"The {self._last} answers {high - low} frames with the shape {wave.shape}; "
                f"(1, {(high - low) * head.hop}) was expected."
            )
        if not np.isfinite(wave).all():
            raise self._not_finite(f"of the {self._last} graph")
        kept: NDArray[np.float32] = wave[0, (first - low) * head.hop : (last - low) * head.hop]
        return kept

    def _with_speaker(self, feeds: Arrays, component: str, speaker: Who) -> Arrays:
        if component not in self._told:
            return feeds
        return {**feeds, SPEAKER: np.array([speaker if isinstance(speaker, int) else 0], np.int64)}

    def _levelled(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._head.normalize == "peak":
            peak = float(np.abs(wave).max(initial=0.0))
            wave = wave / np.float32(peak) if peak > 1e-8 else np.zeros_like(wave)
        return np.clip(wave, -1.0, 1.0)

    def _speech(
        self,
        waves: Sequence[NDArray[np.float32]],
        symbols: tuple[tuple[str, ...], ...],
        report: Any,
        asked: _Asked,
        timing: Timing,
    ) -> Speech:
        """Sentences in a row, with the pause between them."""
        silence = np.zeros(asked.pause, np.float32)
        parts: list[NDArray[np.float32]] = []
        starts = []
        length = 0
        for place, wave in enumerate(waves):
            if place and asked.pause:
                parts.append(silence)
                length += len(silence)
            starts.append(length)
            parts.append(wave)
            length += len(wave)
        audio = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.float32)])
        return Speech(audio, self.sample_rate, symbols, tuple(starts), report, self.variant, timing)


def _runs(frames: Sequence[int], workers: int) -> list[tuple[int, int, int]]:
    """The runs of the decoder: sentence, first frame, and the one after the last.

    A sentence by itself is shared by all workers evenly; of several, only those much longer than a worker's share of
    all are parted, since each border is computed twice.
    """
    total = sum(frames)
    share = -(-total // workers) if len(frames) == 1 else max(4 * _LEAST_FRAMES, total // (3 * workers))
    size = min(_MOST_FRAMES, max(_LEAST_FRAMES, share))
    found = []
    for place, count in enumerate(frames):
        parts = max(1, -(-count // size))
        edges = [count * number // parts for number in range(parts + 1)]
        found += [(place, first, last) for first, last in pairwise(edges) if last > first]
    return found


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= float(value) <= most:
        raise InputError(f"{name} is {value!r}; a number from {least:g} to {most:g} was expected.")
    return float(value)
