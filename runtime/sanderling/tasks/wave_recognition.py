"""`automatic-speech-recognition` from waveforms, by an encoder once a window and a decoder step by step (Moonshine)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack, overload

from sanderling.cancellation import Cancellation
from sanderling.decode.settings import GenerationOptions
from sanderling.hearing.sound_front import VALUES, SoundFront
from sanderling.hearing.transcripts import SpeechSegment, Transcript, Transcripts
from sanderling.hearing.windows import quiet_cuts
from sanderling.model import in_thread
from sanderling.tasks.encoder_decoder import EncoderDecoder
from sanderling.tasks.generating import Asked, Clock, Given

if TYPE_CHECKING:
    from sanderling.audio import AudioInput


class WaveRecognizer(EncoderDecoder):
    """Writes down what is said. It hears sound as it is, of any length up to its window, and pads nothing."""

    front: SoundFront

    @property
    def window(self) -> float:
        """Seconds of sound that it hears at once; a longer one is heard in windows, cut where it is quiet."""
        return self._most / self.front.rate

    @property
    def rate(self) -> int:
        """Samples a second of the sound that it hears; another rate is resampled."""
        return self.front.rate

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
    def _most(self) -> int:
        most = self.front.most
        assert most is not None  # the rules of such manifests ask for it
        return most

    def _transcript(self, item: Any, asked: Asked, clock: Clock, cancellation: Cancellation | None) -> Transcript:
        sound, report = self.front.whole(item)
        windows = quiet_cuts(sound, self.rate, self._most)
        clock.prepared()
        segments: list[SpeechSegment] = []
        unfinished: list[tuple[float, float]] = []
        for number, window in enumerate(windows):
            if cancellation is not None:
                cancellation.check()
            # What is left behind the last cut may be too short to be heard: silence is added to it.
            part = self.front.filled(sound[window.first : window.last])
            fixed = self._hold({VALUES: self.front.values(part)[None]}, cancellation)
            (found,) = self._continued([Given(self.start, report)], [number], fixed, asked, clock, cancellation)
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
