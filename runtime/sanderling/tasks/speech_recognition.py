"""`automatic-speech-recognition`: what is said in a sound, by an encoder once a window and a decoder step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.decode.settings import GenerationOptions
from sanderling.decode.speech import TIME_STEP
from sanderling.errors import InputError
from sanderling.hearing.transcripts import SpeechSegment, Transcript, Transcripts, Word
from sanderling.hearing.voice_activity import between, chances_of, spoken, voiced
from sanderling.hearing.windows import Window, quiet_cuts
from sanderling.model import in_thread
from sanderling.plan import Plan
from sanderling.preprocess.audio import decoded
from sanderling.results import AudioReport
from sanderling.tasks.generating import Clock
from sanderling.tasks.listening import NOBODY, TEMPERATURES, Call, Heard, HearingOptions, SpeechTask
from sanderling.tasks.live_speech import LiveListener

if TYPE_CHECKING:
    from sanderling.audio import AudioInput

_SIDE_BY_SIDE = 4
_HOTTEST = 10


class SpeechRecognizer(LiveListener):
    """Writes down what is said."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages it knows; none of a model of one language."""
        return tuple(self._tokens.languages)

    @property
    def window(self) -> float:
        """Seconds of sound that it hears at once; a longer one is heard in windows."""
        return self._sounds.mel.samples / self._sounds.rate

    @property
    def rate(self) -> int:
        """Samples a second of the sound that it hears; another rate is resampled."""
        return self._sounds.rate

    @property
    def times_words(self) -> bool:
        """Whether it can say when each word was said."""
        return bool(self._tokens.alignment_heads)

    @staticmethod
    def side_by_side(plan: Plan) -> int:
        """Windows of a sound that are heard side by side: each has its own keys and values in memory."""
        return 1 if plan.batch_invariant else _SIDE_BY_SIDE

    @overload
    def transcribe(  # type: ignore[overload-overlap]
        self, audio: AudioInput, *, cancellation: Cancellation | None = None, **options: Unpack[HearingOptions]
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        audio: Iterable[AudioInput],
        *,
        cancellation: Cancellation | None = None,
        **options: Unpack[HearingOptions],
    ) -> Transcripts: ...
    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        language: str | None = None,
        task: SpeechTask = "transcribe",
        timestamps: bool = False,
        words: bool = False,
        voice_activity: bool | None = None,
        prompt: str = "",
        carry: bool = False,
        temperatures: Sequence[float] = TEMPERATURES,
        no_speech: float = NOBODY,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Transcript | Transcripts:
        """Write down what is said in one sound (a file, its bytes, or Audio), or in each of a list.

        `language` is a code ("en"); left out, it is recognized from the first window of each sound. The `task`
        "translate" writes English. With `timestamps` segments have times, with `words` each word. With `voice_activity`
        (default: where the bundle can, of sounds longer than a window) stretches without speech are not listened to,
        which the transcript tells. A `prompt` is what was said before, as the model is told: names and words that it
        would spell otherwise. With `carry` each window is told what was said in the one before, and windows are heard
        one after the other, else several side by side.

        A transcript that repeats itself or was improbable is tried again, drawn by the next of `temperatures` (0: the
        most probable token each time), which is told by its segments; the last one is taken as it is. One that was
        improbable where nobody spoke with a probability above `no_speech` is none, which the transcript tells
        (`silent`); with 1 none is left out. `options` are fields of the bundle's `settings` to be others.

        One sound gives a Transcript, a list Transcripts. Raises AudioError: no sound; InputError: a language or task
        that the model does not have, settings out of range; InferenceError, CancelledError, DeadlineError.
        """
        clock = Clock()
        call = self._call(
            language, task, timestamps, prompt, carry, temperatures, no_speech, seed, words, voice_activity, options
        )  # fmt: skip
        items, single = self.front.items(audio)
        self._engines.check()
        found = [self._transcript(item, call, clock if single else Clock(), cancellation) for item in items]
        return found[0] if single else Transcripts(tuple(found), clock.timing())

    __call__ = transcribe

    async def acall(
        self, audio: AudioInput | Iterable[AudioInput], **options: Unpack[HearingOptions]
    ) -> Transcript | Transcripts:
        """As `transcribe`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.transcribe
        return await in_thread(lambda cancellation: call(audio, cancellation=cancellation, **options))

    def detect_language(self, audio: AudioInput, cancellation: Cancellation | None = None) -> dict[str, float]:
        """The probability of each language in the first window of a sound, the most probable first.

        Raises InputError for a model of one language; AudioError.
        """
        if not self._tokens.languages:
            raise InputError(f"{self.name} is a model of one language: there is none to recognize.")
        self._engines.check()
        items, single = self.front.items(audio)
        if not single:
            raise InputError("detect_language() was given several sounds; one was expected.")
        feeds, _ = self.front.feeds(items)
        return self._languages(self._start_logits(self._hold(feeds, cancellation), 1, cancellation)[0])

    def _answered(self, items: list[Any]) -> None:
        self.transcribe(items)
        for item in items:  # a sound as short as one window is not looked through for speech unless a call asks
            self.voice_chances(decoded(item, self._sounds.rate)[0])

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
        tokens = self._tokens
        if language is not None and language not in tokens.languages:
            known = ", ".join(tokens.languages) or "one alone, which is not asked for"
            raise InputError(f"language is {language!r}; {self.name} knows {known}.")
        if task not in ("transcribe", "translate"):
            raise InputError(f"task is {task!r}; 'transcribe' or 'translate' was expected.")
        if task == "translate" and tokens.translate is None:
            raise InputError(f"{self.name} does not translate; it writes down what is said.")
        asked = self._asked(options, (), seed)
        if asked.settings.do_sample:
            raise InputError("Transcripts are drawn by `temperatures`; leave do_sample out.")
        tried = tuple(temperatures)
        if not tried or not all(isinstance(one, int | float) and 0 <= one <= _HOTTEST for one in tried):
            raise InputError(f"temperatures are {tried!r}; one or more numbers from 0 to {_HOTTEST} were expected.")
        if not isinstance(no_speech, int | float) or not 0 <= no_speech <= 1:
            raise InputError(f"no_speech is {no_speech!r}; a probability from 0 to 1 was expected.")
        if not isinstance(prompt, str):
            raise InputError(f"prompt is of type {type(prompt).__name__}; a text (str) was expected.")
        if (prompt or carry) and tokens.previous is None:
            raise InputError(f"{self.name} cannot be told what was said before; leave prompt and carry out.")
        before = self._encoder.bare(" " + prompt.strip()) if prompt.strip() else np.zeros(0, np.int64)
        if len(before) > self._most_before:
            raise InputError(f"prompt has {len(before)} tokens; the model can be told {self._most_before} of them.")
        if words and not self.times_words:
            raise InputError(f"{self.name} has no attention that follows the words (alignment_heads); leave words out.")
        if voice and self._voice is None:
            raise InputError(f"{self.name} has no component voice_activity; leave voice_activity out.")
        return Call(asked, task, language, timestamps, before, carry, tried, float(no_speech), words, voice)

    def _transcript(self, item: Any, call: Call, clock: Clock, cancellation: Cancellation | None) -> Transcript:
        sound, report = decoded(item, self._sounds.rate)
        planned = self._windows(sound, call, cancellation)
        clock.prepared()
        size = 1 if call.carried or call.asked.settings.num_beams > 1 else self.side_by_side(self.plan)
        # Of a sound that is one window nothing is heard twice: its transcript is the original's.
        seeks = call.timed and len(planned) > 1
        waiting, windows = list(planned), list[Window]()
        heard: list[Heard] = []
        said: list[tuple[Word, ...]] = []
        language, chance = call.language, None
        before = call.prompt
        while waiting:
            if cancellation is not None:
                cancellation.check()
            batch, waiting = waiting[:size], waiting[size:]
            feeds = self._sounds.features([sound[one.first : one.last] for one in batch])
            fixed = self._hold(feeds, cancellation)
            if language is None and self._tokens.languages:
                logits = self._start_logits(fixed, len(batch), cancellation)
                language, chance = next(iter(self._languages(logits[0]).items()))
            prompts = [self._begun(language, call.task, timed=call.timed, before=before)] * len(batch)
            found = self._listened(prompts, fixed, call, len(windows), clock, cancellation)
            if seeks:
                sought = [self._sought(one, window) for one, window in zip(found, batch, strict=True)]
                found, batch = [one for one, _, _ in sought], [window for _, window, _ in sought]
                waiting = [rest for _, _, rest in sought if rest is not None] + waiting
            heard += found
            windows += batch
            if call.words:
                start = self._begun(language, call.task, timed=False)
                said += [
                    self._aligned(
                        start, one, fixed.taken(np.array([row], np.int64)), batch[row], language, cancellation
                    )
                    for row, one in enumerate(found)
                ]
            if call.carried:
                before = np.array([*before, *self._words(heard[-1].tokens)], np.int64)[-self._most_before :]
        silent = between(planned, len(sound)) if self._by_voice(sound, call) else []
        order = sorted(range(len(windows)), key=lambda place: windows[place].first)
        windows, heard = [windows[place] for place in order], [heard[place] for place in order]
        said = [said[place] for place in order] if said else []
        return self._assembled(windows, heard, said, silent, language, chance, report, clock)

    def _by_voice(self, sound: NDArray[np.float32], call: Call) -> bool:
        """Whether a sound is cut by voice activity."""
        return self._voice is not None and (len(sound) > self._sounds.mel.samples if call.voice is None else call.voice)

    def _windows(self, sound: NDArray[np.float32], call: Call, cancellation: Cancellation | None) -> list[Window]:
        rate, most = self._sounds.rate, self._sounds.mel.samples
        settings = self._sounds.settings.voice
        if self._voice is None or settings is None or not self._by_voice(sound, call):
            return quiet_cuts(sound, rate, most)
        chances = chances_of(self._voice, settings, sound, cancellation)
        return voiced(sound, spoken(chances, settings, rate, len(sound)), rate, most)

    def voice_chances(self, sound: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """How probable speech is in each frame of a sound at the model's rate; None of a bundle that cannot say."""
        settings = self._sounds.settings.voice
        return None if self._voice is None or settings is None else chances_of(self._voice, settings, sound)

    def _assembled(
        self,
        windows: list[Window],
        heard: list[Heard],
        said: list[tuple[Word, ...]],
        unheard: list[Window],
        language: str | None,
        chance: float | None,
        report: AudioReport,
        clock: Clock,
    ) -> Transcript:
        segments: list[SpeechSegment] = []
        unfinished: list[tuple[float, float]] = []
        rate = self._sounds.rate
        silent = [(one.first / rate, one.last / rate) for one in unheard]
        for place, (window, one) in enumerate(zip(windows, heard, strict=True)):
            start, end = window.first / rate, window.last / rate
            if one.silent:
                silent.append((start, end))
                continue
            if one.reason != "stop_token":
                unfinished.append((start, end))
            segments += self._segments(one, start, end, said[place] if said else ())
        text = "".join(segment.text for segment in segments).strip()
        segments = [replace(segment, text=segment.text.strip()) for segment in segments if segment.text.strip()]
        return Transcript(
            text, tuple(segments), language, chance, report, self.variant, clock.timing(),
            tuple(sorted(silent)), tuple(unfinished),
        )  # fmt: skip

    def _segments(self, heard: Heard, start: float, end: float, timed: tuple[Word, ...]) -> list[SpeechSegment]:
        """The segments of a window that lasts from `start` to `end`: between tokens of time, or all of it."""
        begin = self._tokens.timestamps
        found: list[SpeechSegment] = []
        opened, words = start, list[int]()
        waiting = list(timed)

        def close(until: float) -> None:
            if words:
                said = tuple(words)
                text = self._text(said)
                own: list[Word] = []
                # A segment has as many of the window's words as its text is made of.
                while waiting and len("".join(one.text for one in own)) < len("".join(text.split())):
                    own.append(waiting.pop(0))
                found.append(
                    SpeechSegment(
                        opened, max(opened, until), text, said, heard.log_prob, heard.no_speech, heard.temperature,
                        tuple(own),
                    )
                )  # fmt: skip

        for token in heard.tokens:
            if token >= begin:
                # The last time may lie a little behind the end: silence was added to the sound.
                time = min(end, start + (token - begin) * TIME_STEP)
                close(time)
                opened, words = time, []
            elif token not in self._head.stop_token_ids:
                words.append(token)
        close(end)
        return found
