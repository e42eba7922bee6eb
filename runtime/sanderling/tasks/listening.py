"""Windows of a sound through encoder and decoder: transcripts as tokens, tried again where they are no good."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode import loop, scores
from sanderling.decode.settings import GenerationOptions
from sanderling.decode.speech import TIME_STEP, SpeechRules
from sanderling.engines import Engines
from sanderling.hearing.alignment import WITHOUT_BLANKS, token_frames
from sanderling.hearing.alignment import words as words_of
from sanderling.hearing.audio_front import AudioFront
from sanderling.hearing.transcripts import Word
from sanderling.hearing.windows import Window, unfinished
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.generation import GenerationOutput, SpeechTokens
from sanderling.session import Engine, Held
from sanderling.tasks.encoder_decoder import EncoderDecoder
from sanderling.tasks.generating import Asked, Clock

# The decoder's output that is attention of the heads which follow the words.
ALIGNMENT = "alignment"
SpeechTask = Literal["transcribe", "translate"]

# Whisper's own limits (Radford et al., 2022, section 4.5): a transcript is tried again, drawn by the next temperature,
# where it repeats itself (its text can be compressed by more) or was improbable; and one that was improbable where
# probably nobody spoke is none.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSED, IMPROBABLE, NOBODY = 2.4, -1.0, 0.6
# Seconds of a window that are worth hearing again; and none that begins sooner behind another.
_LEAST_REST = 1.0


class HearingOptions(GenerationOptions, total=False):
    """What a call of `transcribe` may ask for: its own keywords, and those of `GenerationSettings`."""

    language: str | None
    task: SpeechTask
    timestamps: bool
    words: bool
    voice_activity: bool | None
    prompt: str
    carry: bool
    temperatures: Sequence[float]
    no_speech: float
    seed: int


class Call(Struct, frozen=True):
    """What one call asks for."""

    asked: Asked
    task: SpeechTask
    language: str | None
    timed: bool
    prompt: NDArray[np.int64]
    carried: bool
    temperatures: tuple[float, ...]
    no_speech: float
    words: bool
    voice: bool | None
    begun: bool = False


class Heard(Struct, frozen=True):
    """What the decoder made of a window: new tokens, the mean logarithm of their probabilities, how it went, and
    whether probably nobody spoke."""

    tokens: tuple[int, ...]
    log_prob: float
    reason: str
    temperature: float = 0.0
    no_speech: float | None = None
    silent: bool = False


class Listener(EncoderDecoder):
    """A model that hears: what the decoder makes of windows of sound."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: AudioFront,
        hearing: Engines,
        speaking: Engines,
        head: GenerationOutput,
        encoder: TextEncoder,
        voice: Engines | None = None,
    ) -> None:
        super().__init__(bundle, plan, front, hearing, speaking, head, encoder, () if voice is None else (voice,))
        assert head.speech is not None  # decode() refuses a bundle of this task without them
        self._voice = None if voice is None else voice.single
        self._sounds = front
        self._tokens: SpeechTokens = head.speech

    def _twin(self, engines: Sequence[Engine]) -> Self:
        twin = super()._twin(engines)
        twin._voice = None if self._voice is None else engines[1]
        return twin

    @property
    def start(self) -> NDArray[np.int64]:
        """The tokens (n,) that a transcript without times begins with: English, or the first language it has."""
        known = self._tokens.languages
        return self._begun("en" if "en" in known else next(iter(known), None), "transcribe", timed=False)

    @property
    def _most_before(self) -> int:
        """Tokens of what was said before that a transcript leaves room for: half of the context, as Whisper's own."""
        return self._head.context // 2 - 1

    def _sought(self, heard: Heard, window: Window) -> tuple[Heard, Window, Window | None]:
        """A window's transcript as far as it is whole, how far it goes, and the rest, to be heard as a window."""
        if heard.silent or heard.reason != "stop_token":
            return heard, window, None
        tokens = [token for token in heard.tokens if token not in self._head.stop_token_ids]
        rate, begin = self._sounds.rate, self._tokens.timestamps
        pair = unfinished(tokens, begin)
        cut = window.first if pair is None else window.first + int((tokens[pair] - begin) * TIME_STEP * rate)
        least = int(_LEAST_REST * rate)
        if not window.first + least <= cut <= window.last - least:
            return heard, window, None
        kept = replace(heard, tokens=tuple(tokens[:pair]))
        return kept, Window(window.first, cut), Window(cut, window.last)

    def _aligned(
        self,
        start: NDArray[np.int64],
        heard: Heard,
        fixed: Held,
        window: Window,
        language: str | None,
        cancellation: Cancellation | None,
    ) -> tuple[Word, ...]:
        """The words of a window with their times: the whole of its text is read again, in one run."""
        tokens = self._words(heard.tokens)[: self._head.context - len(start) - 1]
        if not tokens:
            return ()
        rate = self._sounds.rate
        read = np.array([*start, *tokens, self._head.stop_token_ids[0]], np.int64)
        logits, others = self._steps(fixed).read(read, len(tokens) + 2, cancellation)
        # What is said of a token stands at the one before it.
        rows = slice(len(start) - 1, len(start) + len(tokens))
        sounding = -(-(window.last - window.first) // int(TIME_STEP * rate))
        frames = token_frames(others[ALIGNMENT][0], sounding, rows)
        chances = np.exp(scores.log_softmax(logits[: len(tokens)])[np.arange(len(tokens)), tokens])
        begin, end = window.first / rate, window.last / rate
        times = np.minimum(begin + frames * TIME_STEP, end)
        return tuple(
            Word(
                float(times[word.first]), float(times[word.last]), word.text.strip(),
                float(chances[word.first : word.last].mean()),
            )
            for word in words_of(tokens, self._text, language not in WITHOUT_BLANKS)
        )  # fmt: skip

    def _listened(
        self,
        prompts: list[NDArray[np.int64]],
        fixed: Held,
        call: Call,
        first: int,
        clock: Clock,
        cancellation: Cancellation | None,
    ) -> list[Heard]:
        """Windows side by side, each tried again by the next temperature where what came of it is no good."""
        found: dict[int, Heard] = {}
        trying = list(range(len(prompts)))
        for attempt, temperature in enumerate(call.temperatures):
            rows = fixed if len(trying) == len(prompts) else fixed.taken(np.array(trying, np.int64))
            some = [prompts[place] for place in trying]
            numbers = [first + place for place in trying]
            heard = self._drawn(some, rows, call, temperature, numbers, clock, cancellation)
            last = attempt == len(call.temperatures) - 1
            again = []
            for row, (place, one) in enumerate(zip(trying, heard, strict=True)):
                poor = one.log_prob < IMPROBABLE
                if poor and self._tokens.no_speech is not None:
                    nobody = self._nobody(rows.taken(np.array([row], np.int64)), cancellation)
                    one = replace(one, no_speech=nobody, silent=nobody > call.no_speech)
                found[place] = one
                repeats = compression(self._text(self._words(one.tokens))) > COMPRESSED
                if not one.silent and not last and (poor or repeats):
                    again.append(place)
            if not again:
                break
            trying = again
        return [found[place] for place in range(len(prompts))]

    def _drawn(
        self,
        prompts: list[NDArray[np.int64]],
        fixed: Held,
        call: Call,
        temperature: float,
        numbers: list[int],
        clock: Clock,
        cancellation: Cancellation | None,
    ) -> list[Heard]:
        """What one temperature gives for windows side by side, the `numbers`-th of their sound."""
        ends = self._head.stop_token_ids
        settings = call.asked.settings
        if temperature > 0:
            settings = replace(settings, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, num_beams=1)
        asked = Asked(settings, (), call.asked.seed)
        rules = SpeechRules(self._tokens, ends[0], self._head.vocabulary, timed=call.timed, begun=call.begun)
        steps = self._steps(fixed)
        if settings.num_beams > 1:
            (prompt,) = prompts  # beams are searched for one window at a time
            sequenced = loop.search(
                steps, prompt, settings, self._limit(prompt, asked), ends,
                lambda sequences: np.zeros(len(sequences), bool), cancellation, rules,
            )  # fmt: skip
            clock.token()
            length = max(1, len(sequenced.tokens))
            mean = (sequenced.score or 0.0) * length ** (settings.length_penalty - 1)
            return [Heard(sequenced.tokens, mean, sequenced.reason)]
        rows = [self._row(prompt, asked, number) for prompt, number in zip(prompts, numbers, strict=True)]
        for _ in loop.rows(steps, rows, settings, ends, _never, cancellation, rules):
            clock.token()
        found = []
        for row in rows:
            assert row.reason is not None  # the loop ends when all rows have one
            found.append(Heard(tuple(row.tokens), row.log_prob / len(row.tokens), row.reason, temperature))
        return found

    def _words(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that are text: neither times nor an end."""
        return [t for t in tokens if t < self._tokens.timestamps and t not in self._head.stop_token_ids]

    def _begun(
        self, language: str | None, task: SpeechTask, *, timed: bool, before: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """What a transcript begins with: what was said before, then language, task, and whether times are wanted."""
        tokens = self._tokens
        found = list(self._head.start_token_ids)
        if before is not None and len(before):
            assert tokens.previous is not None  # _call() has seen to it
            found = [tokens.previous, *before.tolist(), *found]
        if language is not None:
            found.append(tokens.languages[language])
        chosen = tokens.translate if task == "translate" else tokens.transcribe
        if chosen is not None:
            found.append(chosen)
        if not timed:
            found.append(tokens.no_timestamps)
        return np.array(found, np.int64)

    def _start_logits(self, fixed: Held, count: int, cancellation: Cancellation | None) -> NDArray[np.float32]:
        """What the decoder says behind the very first tokens: which language, and whether anybody speaks."""
        start = np.array(self._head.start_token_ids, np.int64)
        return self._steps(fixed).start([start] * count, cancellation)

    def _languages(self, logits: NDArray[np.float32]) -> dict[str, float]:
        known = self._tokens.languages
        chances = np.exp(scores.log_softmax(logits[list(known.values())][None])[0].astype(np.float64))
        order = np.argsort(-chances, kind="stable")
        names = list(known)
        return {names[place]: float(chances[place]) for place in order}

    def _nobody(self, fixed: Held, cancellation: Cancellation | None) -> float:
        """How probable it is that nobody speaks in a window."""
        chances = np.exp(scores.log_softmax(self._start_logits(fixed, 1, cancellation))[0].astype(np.float64))
        return float(chances[self._tokens.no_speech])


def _never(place: int, token: int) -> bool:
    """No transcript ends before a string."""
    del place, token
    return False


def compression(text: str) -> float:
    """How many times smaller zlib makes a text: a text that repeats itself becomes very small."""
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
