"""What the graphs of a voice answer, in the manifest: samples, and how they are made."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import Count


class VoiceSettings(Struct, frozen=True):
    """How a voice speaks unless a call says otherwise.

    `speed` divides the time that every sound takes; `noise` and `duration_noise` are what the drawn noise of the sounds
    and of their durations is multiplied with: without any a voice says a sentence always alike, and flatter.
    """

    speed: Annotated[float, Meta(ge=0.1, le=10.0)] = 1.0
    noise: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.667
    duration_noise: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.8


class FrameSteps(Struct, frozen=True):
    """How a voice makes frames one after the other, `frames` of them a step, from what the frame before was.

    A step also takes `layers` rows of `units` factors, for the dropout that the voice has at inference, too: each is
    1 / (1 - `dropout`) with the chance `dropout`, else 0; without any it is 1. A sentence ends with the first step
    whose chances of an end sum up to `threshold`; at the latest after `most_per_token` frames for each of its tokens,
    or after `most_steps` steps.
    `vectors` is the file of the speakers' vectors: `speaker_vectors`, float32 (speakers, size), a row each.
    """

    frames: Annotated[int, Meta(ge=1, le=64)]
    layers: Annotated[int, Meta(ge=1, le=64)]
    units: Annotated[int, Meta(ge=1, le=65_536)]
    vectors: str
    dropout: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    threshold: Annotated[float, Meta(gt=0.0, le=64.0)] = 0.5
    most_per_token: Annotated[float, Meta(gt=0.0, le=1000.0)] = 20.0
    most_steps: Annotated[int, Meta(ge=1, le=100_000)] = 4000


class SpeechOutput(Struct, frozen=True, tag_field="type", tag="speech"):
    """The sounds of a sentence to its waveform, by the components `encoder`, `flow` and `decoder` in turn; or, with
    `steps`, by `encoder`, `frame_decoder` (step by step), `postnet` and `vocoder`, the last in the decoder's place.

    `output` of the decoder (1, samples) has `hop` samples of `sample_rate` a second for each frame of its input; what
    it makes of a frame depends on `context` frames to each side, so that it may be run on parts. With `normalize`
    "peak" the waveform of a sentence is divided by its largest magnitude. `speakers` are a voice's, by their names,
    with what the graphs call them; empty where there is one.
    """

    output: str
    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)]
    hop: Annotated[int, Meta(ge=1, le=100_000)]
    context: Annotated[int, Meta(ge=0, le=10_000)]
    normalize: Literal["peak", "none"] = "none"
    settings: VoiceSettings = VoiceSettings()
    speakers: dict[Annotated[str, Meta(min_length=1, max_length=200)], Count] = {}
    steps: FrameSteps | None = None
