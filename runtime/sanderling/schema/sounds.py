"""What stands before a graph in the manifest, of sounds heard and made: features, voice activity, phonemes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import Count

Symbol = Annotated[str, Meta(min_length=1, max_length=16)]


class PhonemesPreprocessing(Struct, frozen=True):
    """Text to the `input_ids` of a voice: int64 of the shape (1, tokens), a sentence a run.

    With the alphabet "espeak" a text becomes the phonemes that espeak-ng writes in its `voice`, sentence by sentence;
    with "characters" its own characters, as they are or, those without `ids`, in lower case (`lowercase`). Both are
    brought to the normal form `normalization` (by default taken apart into code points, NFD), of which those in a row
    that are one of `clusters` are put together again, the longest first. Symbols without `ids` are left out. Then
    `blanks` are "kept", "trimmed" from both ends, or "single": trimmed, and one where several are in a row. A sentence
    is `begin`, then the ids of each symbol, then `end`; `pad` stands behind `begin` and behind every symbol, and where
    there is no `begin`, before the first. Sentences of more than `max_symbols` are parted.
    """

    alphabet: Literal["espeak", "characters"]
    ids: Annotated[dict[Symbol, Annotated[tuple[Count, ...], Meta(min_length=1, max_length=16)]], Meta(min_length=1)]
    voice: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*\Z", max_length=60)] | None = None
    begin: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    end: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    pad: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    clusters: Annotated[
        tuple[Annotated[tuple[Symbol, ...], Meta(min_length=2, max_length=16)], ...], Meta(max_length=1000)
    ] = ()
    lowercase: bool = False
    normalization: Literal["nfd", "nfkc", "none"] = "nfd"
    blanks: Literal["kept", "trimmed", "single"] = "kept"
    max_symbols: Annotated[int, Meta(ge=8, le=10_000)] = 400


class LogMel(Struct, frozen=True, tag_field="type", tag="log_mel"):
    """Sound to a log-mel spectrogram, float32 of the shape (batch, bands, frames), as Whisper's.

    A spectrum of `fft` samples (window of Hann) every `hop`; its power in `bands` triangular filters of Slaney's scale
    from 0 Hz to half the rate; log10 of at least 1e-10; at most 8 below the highest; plus 4, divided by 4. A sound of
    fewer samples than `frames` * `hop` is filled up with silence.
    """

    fft: Annotated[int, Meta(ge=16, le=65_536)]
    hop: Annotated[int, Meta(ge=1, le=65_536)]
    bands: Annotated[int, Meta(ge=1, le=1024)]
    frames: Annotated[int, Meta(ge=2, le=100_000)]


class Waveform(Struct, frozen=True, tag_field="type", tag="waveform"):
    """Sound as it is, float32 of the shape (batch, samples).

    With `normalize` the mean of the whole sound is subtracted, and it is divided by the root of its variance plus 1e-7.
    A sound of fewer samples than `least` is refused; of one of more than `most` the rest is not heard (null: all is).
    """

    least: Annotated[int, Meta(ge=1, le=10_000_000)]
    most: Annotated[int, Meta(ge=1, le=2**32)] | None = None
    normalize: bool = True


class Filterbank(Struct, frozen=True, tag_field="type", tag="filterbank"):
    """Sound to the logarithms of its bands, float32 of the shape (batch, frames, bands), as Kaldi makes them.

    Every `hop` samples a spectrum of `window` samples, filled up with zeros to `fft`: their mean is subtracted, from
    each sample `preemphasis` of the one before it, and they go through a symmetric window of Hann. Its power in `bands`
    triangular filters, even on Kaldi's mel scale from `lowest` Hz to half the rate; the natural logarithm of at least
    2^-23. What is missing of `frames` is 0; more of them are not heard. At last `mean` is subtracted, and the rest
    divided by `divisor`. A sound of fewer samples than `window` is refused.
    """

    window: Annotated[int, Meta(ge=16, le=65_536)]
    hop: Annotated[int, Meta(ge=1, le=65_536)]
    fft: Annotated[int, Meta(ge=16, le=65_536)]
    bands: Annotated[int, Meta(ge=1, le=1024)]
    frames: Annotated[int, Meta(ge=1, le=100_000)]
    lowest: Annotated[float, Meta(ge=0.0, le=96_000.0)] = 20.0
    preemphasis: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.97
    mean: float = 0.0
    divisor: float = 1.0


class VoiceActivity(Struct, frozen=True):
    """Where somebody speaks, as the component `voice_activity` says it of each `frame` of samples.

    It is told the `context` samples before the frame, and two states of `size` numbers that it left. Speech begins with
    a probability of at least `threshold`, and ends where it stays below `release` for `min_silence` seconds; what is
    shorter than `min_speech` seconds is none, and each stretch is made longer by `pad` seconds on both sides.
    """

    frame: Annotated[int, Meta(ge=16, le=65_536)]
    context: Annotated[int, Meta(ge=1, le=65_536)]
    size: Annotated[int, Meta(ge=1, le=65_536)]
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5
    release: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.35
    min_silence: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.5
    min_speech: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.1
    pad: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.2


class AudioPreprocessing(Struct, frozen=True):
    """Sound to a graph's input: one channel (the mean of all) at `rate` samples a second, then `features` of it.

    `voice` says how stretches of speech are found, where the bundle has the component `voice_activity`. `short` is how
    many frames a spectrogram has at least in a short window, where the graph takes fewer than `features.frames`; null
    where it does not.
    """

    rate: Annotated[int, Meta(ge=8_000, le=192_000)]
    features: LogMel | Waveform | Filterbank
    voice: VoiceActivity | None = None
    short: Annotated[int, Meta(ge=2, le=100_000)] | None = None

    @property
    def mel(self) -> LogMel:
        """The spectrogram, of models that are given one: the rules of their manifests see to it."""
        assert isinstance(self.features, LogMel)
        return self.features
