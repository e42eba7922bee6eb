"""Speech recognition while the sound still comes: `model.live(chunks)`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.decode.settings import GenerationOptions
from sanderling.errors import InputError
from sanderling.hearing.agreement import SaidWord
from sanderling.hearing.alignment import WITHOUT_BLANKS
from sanderling.hearing.alignment import words as words_of
from sanderling.hearing.gate import LoudnessStream, SpeechGate
from sanderling.hearing.live_sound import Behind, ChunkSamples, Incoming, WaitingRoom
from sanderling.hearing.live_transcript import LiveTranscript
from sanderling.hearing.live_windows import Borders, Hypothesis, LiveWindows
from sanderling.hearing.voice_activity import VoiceStream
from sanderling.hearing.windows import Window
from sanderling.schema.sounds import VoiceActivity
from sanderling.tasks.generating import Clock
from sanderling.tasks.listening import (
    COMPRESSED,
    IMPROBABLE,
    NOBODY,
    TEMPERATURES,
    Call,
    Heard,
    Listener,
    SpeechTask,
    compression,
)

if TYPE_CHECKING:
    from sanderling.audio import Audio

    Chunk = bytes | bytearray | memoryview | NDArray[Any] | Audio

# Nobody says more tokens than these in so much sound: what goes on beyond them repeats itself.
_TOKENS_A_SECOND, _TOKENS_MORE = 30, 20
# Sound is taken in by so many seconds; between two decisions are at least these, at most a third of a window.
_STEP, _LEAST_EVERY, _SHARE = 0.1, 0.1, 3
_MOST_WAITING = 600.0
# Without a voice detector: frames of as many samples as Silero's has.
_BY_LOUDNESS = VoiceActivity(frame=512, context=1, size=1)


class LiveListener(Listener):
    """A model that hears, also while the sound still comes."""

    def live(
        self,
        chunks: Iterable[Chunk] | AsyncIterable[Chunk],
        *,
        rate: int | None = None,
        channels: int = 1,
        samples: ChunkSamples = "int16",
        every: float = 1.0,
        language: str | None = None,
        task: SpeechTask = "transcribe",
        prompt: str = "",
        carry: bool = False,
        voice_activity: bool | None = None,
        behind: Behind = "wait",
        waiting: float = 30.0,
        steady: bool = False,
        temperatures: Sequence[float] = TEMPERATURES,
        no_speech: float = NOBODY,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> LiveTranscript:
        """Write down what is said in a sound that still comes: an iterator of LiveUpdate, with `for` or `async for`.

        `chunks` are of any length: Audio, arrays (frames,) or (frames, channels) with their `rate`, or bytes of PCM
        with `rate`, `channels` and the kind of their `samples` (little-endian). A plain iterable is read in a thread of
        its own, an asynchronous one on its event loop, so that no source waits for the model while at most `waiting`
        seconds of sound do. Beyond that the source waits (`behind="wait"`, for files and pipes), or the oldest sound is
        dropped and the update says which (`"drop"`, for microphones).

        While somebody speaks there is an update `every` so many seconds of sound (fewer where the model is behind,
        unless `steady`), and one where they stop. Words are final when two successive updates agree on them. Who speaks
        when is told by the bundle's voice detector, without one by loudness; with `voice_activity=False` all is taken
        for speech. With `carry` a window is told what was said in those before it; the other arguments are as of
        `transcribe`, and `language` is recognized in the first speech where it is left out.

        Memory does not grow with the stream. Raises InputError for settings out of range and a model without alignment
        heads; while it is read, what the source raises and AudioError for chunks that are no sound of the first one's
        kind, both behind the words of what came before; InferenceError, CancelledError, DeadlineError.
        """
        if isinstance(chunks, bytes | bytearray | memoryview | np.ndarray | str) or not isinstance(
            chunks, Iterable | AsyncIterable
        ):
            raise InputError(
                f"live() was given one {type(chunks).__name__}; an iterable of chunks was expected. "
                "transcribe() takes a whole sound."
            )
        call = self._call(
            language, task, False, prompt, carry, temperatures, no_speech, seed, True, voice_activity, options
        )  # fmt: skip
        if call.asked.settings.num_beams > 1:
            raise InputError("live() searches without beams; leave num_beams out.")
        wanted, most = self._sounds.rate, self._sounds.mel.samples
        longest = most / wanted / _SHARE
        if not _is_number(every) or not _LEAST_EVERY <= every <= longest:
            raise InputError(f"every is {every!r}; {_LEAST_EVERY} to {longest:.3g} seconds were expected.")
        if behind not in ("wait", "drop"):
            raise InputError(f"behind is {behind!r}; 'wait' or 'drop' was expected.")
        if not _is_number(waiting) or not 1 <= waiting <= _MOST_WAITING:
            raise InputError(f"waiting is {waiting!r}; 1 to {_MOST_WAITING:g} seconds were expected.")
        incoming = Incoming(wanted, rate, channels, samples)
        self._engines.check()
        own = Cancellation() if cancellation is None else cancellation
        borders = Borders(wanted, most, int(every * wanted), int(_STEP * wanted), self._head.context // 3)
        windows = LiveWindows(
            _Hearing(self, call, own), self._gate(voice_activity, own), borders, self._most_before if carry else 0
        )  # fmt: skip
        room = WaitingRoom(int(waiting * wanted), behind)
        return LiveTranscript(chunks, incoming, room, windows, borders.step, steady, own, cancellation is not None)

    def _call(
        self,
        language: str | None,
        task: SpeechTask,
        timestamps: bool,
        prompt: str,
        carry: bool,
        temperatures: Sequence[float],
        no_speech: float,
        seed: int,
        words: bool,
        voice: bool | None,
        options: Any,
    ) -> Call:
        raise NotImplementedError

    def _gate(self, voice: bool | None, cancellation: Cancellation) -> SpeechGate:
        rate, engine, settings = self._sounds.rate, self._voice, self._sounds.settings.voice
        if voice is False:
            return SpeechGate(None, _BY_LOUDNESS, rate)
        if engine is None or settings is None:
            return SpeechGate(lambda: LoudnessStream(_BY_LOUDNESS.frame, rate), _BY_LOUDNESS, rate)
        return SpeechGate(lambda: _Detected(VoiceStream(engine, settings), cancellation), settings, rate)

    def _heard_now(
        self,
        sound: NDArray[np.float32],
        call: Call,
        language: str | None,
        said: Sequence[int],
        before: Sequence[int],
        cancellation: Cancellation,
    ) -> tuple[Heard, tuple[SaidWord, ...], str | None]:
        """What the decoder makes of a window behind the tokens `said`, its words, and the language, where it is told or
        recognized."""
        fixed = self._hold(self._sounds.features([sound]), cancellation)
        if language is None and self._tokens.languages:
            language = next(iter(self._languages(self._start_logits(fixed, 1, cancellation)[0])))
        told = np.array([*call.prompt, *before], np.int64)[-self._most_before :]
        begun = self._begun(language, call.task, timed=False, before=told)
        seconds = len(sound) / self._sounds.rate
        most = min(call.asked.settings.max_new_tokens, int(_TOKENS_MORE + _TOKENS_A_SECOND * seconds))
        # What was said before gives way to what is said now.
        room, needed = self._head.context - len(begun) - len(said), min(most, self._head.context // 4)
        if room < needed and len(told):
            told = told[min(len(told), needed - room) :]
            begun = self._begun(language, call.task, timed=False, before=told)
        settings = replace(call.asked.settings, max_new_tokens=most)
        asked = replace(call, asked=replace(call.asked, settings=settings), begun=bool(said))
        prompt = np.array([*begun, *said], np.int64)
        (heard,) = self._listened([prompt], fixed, asked, 0, Clock(), cancellation)
        start = self._begun(language, call.task, timed=False)
        words = (
            ()
            if heard.silent and not said
            else self._said(start, heard, said, fixed, len(sound), language, cancellation)
        )
        return heard, words, language

    def _said(
        self,
        start: NDArray[np.int64],
        heard: Heard,
        said: Sequence[int],
        fixed: Any,
        length: int,
        language: str | None,
        cancellation: Cancellation,
    ) -> tuple[SaidWord, ...]:
        """The words behind those of the tokens `said`, with their times from the whole of the text."""
        new = self._words(heard.tokens)[: self._head.context - len(start) - 1 - len(said)]
        if not new:
            return ()
        tokens, rate = [*said, *new], self._sounds.rate
        whole = replace(heard, tokens=tuple(tokens))
        timed = self._aligned(start, whole, fixed, Window(0, length), language, cancellation)
        found = []
        for word, spoken in zip(words_of(tokens, self._text, language not in WITHOUT_BLANKS), timed, strict=True):
            if word.last <= len(said):
                continue
            first = max(word.first, len(said))
            text = word.text if first == word.first else self._text(tokens[first : word.last])
            found.append(
                SaidWord(
                    text, tuple(tokens[first : word.last]), round(spoken.start * rate), round(spoken.end * rate),
                    spoken.probability,
                )
            )  # fmt: skip
        return tuple(found)


class _Hearing:
    """The model as LiveWindows know it: one stream of one call."""

    def __init__(self, model: LiveListener, call: Call, cancellation: Cancellation) -> None:
        self._model = model
        self._call = call
        self._cancellation = cancellation
        self.language = call.language
        self._certain = call.language is not None

    def __call__(
        self, sound: NDArray[np.float32], said: Sequence[int], before: Sequence[int], *, last: bool
    ) -> Hypothesis:
        # What is final is no more to be changed, neither is the language that it is in.
        self._certain = self._certain or bool(said)
        tried = self._call.temperatures
        # How probable a few tokens behind others are says little of the transcript: they are tried again only if they
        # repeat themselves.
        heard, words = self._tried(sound, tried if last and not said else tried[:1], said, before)
        repeats = _repeats(words)
        if last and said and repeats and tried[1:]:
            heard, words = self._tried(sound, tried[1:], said, before)
        self._certain = self._certain or (last and bool(words))
        silent = heard.silent and not said
        doubtful = repeats or (not said and bool(tried[1:]) and heard.log_prob < IMPROBABLE)
        return Hypothesis(words, doubtful, silent, heard.reason != "stop_token" and not silent)

    def _tried(
        self, sound: NDArray[np.float32], temperatures: tuple[float, ...], said: Sequence[int], before: Sequence[int]
    ) -> tuple[Heard, tuple[SaidWord, ...]]:
        call = replace(self._call, temperatures=temperatures)
        known = self.language if self._certain else None
        heard, words, language = self._model._heard_now(sound, call, known, said, before, self._cancellation)
        self.language = language if words else self.language
        return heard, words


def _repeats(words: Sequence[SaidWord]) -> bool:
    return compression("".join(word.text for word in words)) > COMPRESSED


class _Detected:
    """A voice detector whose runs end with the call."""

    def __init__(self, stream: VoiceStream, cancellation: Cancellation) -> None:
        self._stream = stream
        self._cancellation = cancellation

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._stream.push(samples, self._cancellation)

    def end(self) -> NDArray[np.float32]:
        return self._stream.end(self._cancellation)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
