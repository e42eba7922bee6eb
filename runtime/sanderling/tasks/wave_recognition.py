"""`automatic-speech-recognition` from waveforms, by an encoder once a window and a decoder step by step (Moonshine)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode.names import CROSS
from sanderling.decode.settings import GenerationOptions
from sanderling.engines import Engines
from sanderling.manifest import GenerationOutput
from sanderling.model import Answers, in_thread
from sanderling.placement import Placement, together
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.results import InputReport, Timing
from sanderling.session import Arrays, Held
from sanderling.sound_front import VALUES, SoundFront
from sanderling.speech_windows import quiet_cuts
from sanderling.tasks.generating import Asked, Clock, Generator, Given
from sanderling.transcripts import SpeechSegment, Transcript, Transcripts

if TYPE_CHECKING:
    from sanderling.audio import AudioInput


class WaveRecognizer(Generator):
    """Writes down what is said. It hears sound as it is, of any length up to its window, and pads nothing."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: SoundFront,
        hearing: Engines,
        speaking: Engines,
        head: GenerationOutput,
        encoder: TextEncoder,
    ) -> None:
        super().__init__(bundle, plan, front, hearing, speaking.single, head, encoder)
        self._speaking = speaking
        self._sounds = front
        self._start = np.array(head.start_token_ids, np.int64)

    @property
    def window(self) -> float:
        """Seconds of sound that it hears at once; a longer one is heard in windows, cut where it is quiet."""
        return self._most / self._sounds.rate

    @property
    def rate(self) -> int:
        """Samples a second of the sound that it hears; another rate is resampled."""
        return self._sounds.rate

    @property
    def start(self) -> NDArray[np.int64]:
        """The tokens (n,) that every transcript begins with."""
        return self._start

    @overload
    def transcribe(  # type: ignore[overload-overlap]
        self,
        audio: AudioInput,
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        audio: Iterable[AudioInput],
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Transcripts: ...
    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Transcript | Transcripts:
        """Write down what is said in one sound (a file, its bytes, or Audio), or in each of a list.

        Each window of a sound is a segment. `options` are fields of the bundle's `settings` to be others; what is drawn
        is drawn with `seed`. One sound gives a Transcript, a list Transcripts. Raises AudioError: no sound, or too
        short; InputError: settings out of range; InferenceError, CancelledError, DeadlineError.
        """
        clock, asked = Clock(), self._asked(options, (), seed)
        items, single = self.front.items(audio)
        self._engines.check()
        found = [self._transcript(item, asked, clock if single else Clock(), cancellation) for item in items]
        return found[0] if single else Transcripts(tuple(found), clock.timing())

    __call__ = transcribe

    async def acall(
        self, audio: AudioInput | Iterable[AudioInput], *, seed: int = 0, **options: Unpack[GenerationOptions]
    ) -> Transcript | Transcripts:
        """As `transcribe`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.transcribe
        return await in_thread(lambda cancellation: call(audio, seed=seed, cancellation=cancellation, **options))

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of both graphs together."""
        return together(self.provider, [part.single.placement for part in (self._engines, self._speaking)])

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of both graphs, with each provider's share of the time that the encoder takes.

        What the decoder takes depends on what is said; arguments are as with every model.
        """
        found = super().measure_placement(inputs, runs)
        return replace(self.placement, seconds=found.seconds)

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        super().close()
        self._speaking.close()

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The logits of each transcript's first token: rows (n, vocabulary), float32, of a sound's first window."""
        self._engines.check()
        clock = Clock()
        prepared = self.front.prepare(items, prompt, cancellation)
        rows = [np.empty((0, self._head.vocabulary), np.float32)]
        reports: list[InputReport] = []
        for batch in self.front.batches(prepared):
            if cancellation is not None:
                cancellation.check()
            feeds, told = self.front.feeds([prepared[place] for place in batch])
            steps = self._steps(self._hold(feeds, cancellation))
            rows.append(steps.start([self._start] * len(batch), cancellation))
            reports += told
        found = np.concatenate(rows)
        if not np.isfinite(found).all():
            raise self._not_finite(", ".join(map(str, np.flatnonzero(~np.isfinite(found).all(axis=1)))))
        return Answers(found, tuple(reports), Timing(0.0, clock.timing().total, 0.0))

    def held(self, values: NDArray[np.float32]) -> Held:
        """What the decoder is told of waveforms (n, samples): keys and values, where the provider computes."""
        return self._hold({VALUES: values}, None)

    @property
    def _most(self) -> int:
        most = self._sounds.most
        assert most is not None  # the rules of such manifests ask for it
        return most

    def _transcript(self, item: Any, asked: Asked, clock: Clock, cancellation: Cancellation | None) -> Transcript:
        sound, report = self._sounds.whole(item)
        windows = quiet_cuts(sound, self.rate, self._most)
        clock.prepared()
        segments: list[SpeechSegment] = []
        unfinished: list[tuple[float, float]] = []
        for number, window in enumerate(windows):
            if cancellation is not None:
                cancellation.check()
            # What is left behind the last cut may be too short to be heard: silence is added to it.
            part = self._sounds.filled(sound[window.first : window.last])
            fixed = self._hold({VALUES: self._sounds.values(part)[None]}, cancellation)
            (found,) = self._continued([Given(self._start, report)], [number], fixed, asked, clock, cancellation)
            start, end = window.first / self.rate, window.last / self.rate
            stopped = found.finish_reason == "stop_token"
            if not stopped:
                unfinished.append((start, end))
            if text := found.text.strip():
                segments.append(SpeechSegment(start, end, text, found.tokens[:-1] if stopped else found.tokens))
        text = " ".join(segment.text for segment in segments)
        return Transcript(
            text, tuple(segments), None, None, report, self.variant, clock.timing(), unfinished=tuple(unfinished)
        )  # fmt: skip

    def _hold(self, feeds: Arrays, cancellation: Cancellation | None) -> Held:
        held = self._engines.single.hold(feeds, cancellation)
        return held.renamed({spec.name: spec.name for spec in self._component.inputs if spec.name.startswith(CROSS)})
