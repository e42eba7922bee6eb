"""Models that generate, from a bundle: their graphs loaded, their tokenizer read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sanderling import sessions
from sanderling.bundle import Bundle
from sanderling.decode.names import CROSS, DECODER_INPUTS, IMAGE, PAST
from sanderling.engines import Engines
from sanderling.errors import BundleError
from sanderling.fronts import ImageFront
from sanderling.generation.prompt_front import PromptFront
from sanderling.generation.rules import (
    ANSWERING,
    AUDIO_ENCODER,
    DECODER,
    TEXT_ENCODER,
    VISION_ENCODER,
    VOICE_ACTIVITY,
)
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.sounds import Waveform
from sanderling.schema.variants import Component
from sanderling.session import Engine

if TYPE_CHECKING:
    from sanderling.shared import Shared
    from sanderling.tasks.image_to_text import ImageToText
    from sanderling.tasks.speech_recognition import SpeechRecognizer
    from sanderling.tasks.text_generation import TextGenerator
    from sanderling.tasks.visual_questions import QuestionAnswerer
    from sanderling.tasks.wave_recognition import WaveRecognizer


def generator(
    bundle: Bundle, plan: Plan, head: GenerationOutput, shared: Shared | None = None
) -> TextGenerator | ImageToText | QuestionAnswerer | SpeechRecognizer | WaveRecognizer:
    """The model of a bundle whose task generates. With `shared`, sessions and tokenizer are taken from there."""
    manifest = bundle.manifest
    settings = manifest.preprocessing.text
    assert settings is not None  # the rules of such manifests ask for it

    def read() -> TextEncoder:
        return TextEncoder(bundle.read(settings.tokenizer), settings, str(bundle.path / settings.tokenizer))

    encoder = shared.thing("encoder", read) if shared is not None else read()
    decoder = manifest.components[DECODER]
    _check_inputs(bundle, decoder)
    if manifest.task == "text-generation":
        from sanderling.tasks.text_generation import TextGenerator

        lent = _lent(bundle, plan, DECODER, shared)
        front = PromptFront(encoder, decoder, plan.token_budget, head.context)
        return TextGenerator(bundle, plan, front, Engines(lent(plan.threads), plan.workers, lambda: lent(1)), head)
    if manifest.task == "automatic-speech-recognition":
        return _speech_recognizer(bundle, plan, head, encoder, shared)
    image, vision = manifest.preprocessing.image, manifest.components[VISION_ENCODER]
    assert image is not None  # as above
    pictures = ImageFront(image, vision.inputs[0].name, plan.image_budget, plan.decode)
    parts = _all(bundle, plan, shared)
    if manifest.task == ANSWERING:
        from sanderling.generation.question_front import QuestionFront
        from sanderling.tasks.visual_questions import QuestionAnswerer

        both = QuestionFront(pictures, encoder, plan.image_budget, head.picture)
        return QuestionAnswerer(
            bundle, plan, both, parts[VISION_ENCODER], parts.get(TEXT_ENCODER), parts[DECODER], head
        )  # fmt: skip
    from sanderling.tasks.image_to_text import ImageToText

    return ImageToText(bundle, plan, pictures, parts[VISION_ENCODER], parts[DECODER], head, encoder)


def _speech_recognizer(
    bundle: Bundle, plan: Plan, head: GenerationOutput, encoder: TextEncoder, shared: Shared | None
) -> SpeechRecognizer | WaveRecognizer:
    from sanderling.hearing.audio_front import AudioFront
    from sanderling.tasks.speech_recognition import SpeechRecognizer

    audio = bundle.manifest.preprocessing.audio
    assert audio is not None  # as above
    parts = _all(bundle, plan, shared)
    if isinstance(audio.features, Waveform):
        from sanderling.hearing.sound_front import SoundFront
        from sanderling.tasks.wave_recognition import WaveRecognizer

        waves = SoundFront(audio, plan.image_budget)
        return WaveRecognizer(bundle, plan, waves, parts[AUDIO_ENCODER], parts[DECODER], head, encoder)
    front = AudioFront(audio, plan.image_budget, plan.window)
    return SpeechRecognizer(
        bundle, plan, front, parts[AUDIO_ENCODER], parts[DECODER], head, encoder, parts.get(VOICE_ACTIVITY)
    )


def _all(bundle: Bundle, plan: Plan, shared: Shared | None) -> dict[str, Engines]:
    """Every graph of a bundle."""

    def engines(name: str) -> Engines:
        build = _lent(bundle, plan, name, shared)
        # Inputs of a call are one batch of the decoder: there is nothing for workers to share.
        return Engines(build(plan.threads), 1, partial(build, plan.threads))

    return sessions.of_each(bundle, engines)


def _lent(bundle: Bundle, plan: Plan, name: str, shared: Shared | None) -> Callable[[int], Engine]:
    """How a graph's session with so many threads is come by."""
    build = sessions.builder(bundle, plan, name)
    if shared is None:
        return build
    return lambda threads: shared.engine(plan, threads, partial(build, threads), name)


def _check_inputs(bundle: Bundle, decoder: Component) -> None:
    for spec in decoder.inputs:
        known = (
            spec.name.startswith((PAST, CROSS))
            or spec.name == IMAGE
            or (spec.name in DECODER_INPUTS and spec.dtype == "int64")
        )
        if not known:
            raise BundleError(
                f"{bundle.path}: the decoder takes {spec.name!r} of {spec.dtype}; this Sanderling can give "
                f"{', '.join(DECODER_INPUTS)} of int64, and caches. Update it: pip install -U sanderling"
            )
