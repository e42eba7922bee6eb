"""What models that hear have in memory: how much they hear side by side, and the most that one call makes them hear."""

from __future__ import annotations

from typing import Any

import numpy as np

from sanderling.audio import Audio
from sanderling.bundle import Bundle
from sanderling.errors import InputError
from sanderling.model import Model
from sanderling.plan import Plan
from sanderling.schema.answers import CtcOutput
from sanderling.schema.sounds import AudioPreprocessing, Waveform
from sanderling.tasks.ctc_recognition import CtcRecognizer
from sanderling.tasks.speech_recognition import SpeechRecognizer
from sanderling.tasks.wave_recognition import WaveRecognizer

# The sound is noise as loud as speech, the same each time.
_LOUDNESS, _SEED = 0.1, 20261122
# Windows of a sound that is heard one window after the other: in the middle one it overlaps with both its neighbours.
_WINDOWS = 3


def check_bounded(bundle: Bundle) -> None:
    """Raise InputError for a model that hears sounds of any length at once: no memory holds all of them."""
    audio = bundle.manifest.preprocessing.audio
    assert audio is not None  # of whom else is this asked
    hears_all = isinstance(audio.features, Waveform) and audio.features.most is None
    if hears_all and not isinstance(bundle.manifest.postprocessing, CtcOutput):
        raise InputError(
            f"max_memory is measured on the longest sound that a model hears at once; {bundle.path} hears sounds of "
            "any length at once, and takes the more the longer they are. Leave it out, and hand over shorter sounds."
        )


def side_by_side(model: Model, plan: Plan) -> int:
    """Sounds, or windows of one, that a run has in memory by the plan."""
    if isinstance(model, SpeechRecognizer):
        return model.side_by_side(plan)
    waves = isinstance(_settings(model).features, Waveform)
    return 1 if waves else plan.image_budget


def hear_most(model: Model, plan: Plan) -> None:
    """Let a model hear as much at once as it ever does, and write as many tokens as its settings allow."""
    call: Any = model
    if isinstance(model, SpeechRecognizer):
        sound = _noise(model.rate, model.window * model.side_by_side(plan))
        language = next(iter(model.languages), None)
        most = model.settings.max_new_tokens
        call(
            sound, language=language, voice_activity=False, words=model.times_words, temperatures=(0,), no_speech=1,
            min_new_tokens=most,
        )  # fmt: skip
        model.voice_chances(sound.samples)
    elif isinstance(model, WaveRecognizer):
        call(_noise(model.rate, model.window), min_new_tokens=model.settings.max_new_tokens)
    elif isinstance(model, CtcRecognizer):
        call(_noise(model.rate, _WINDOWS * model.window))
    else:
        settings = _settings(model)
        seconds = _most(settings) / settings.rate
        model.answer([_noise(settings.rate, seconds)] * (plan.workers * side_by_side(model, plan)))


def _settings(model: Model) -> AudioPreprocessing:
    found = model.bundle.manifest.preprocessing.audio
    assert found is not None  # models that hear have it
    return found


def _most(settings: AudioPreprocessing) -> int:
    """Samples of the longest sound that is heard at once."""
    from sanderling.hearing.sound_front import SoundFront

    most = SoundFront(settings, 1).most
    assert most is not None  # check_bounded() has seen to it
    return most


def _noise(rate: int, seconds: float) -> Audio:
    made = np.random.default_rng(_SEED).normal(0, _LOUDNESS, int(rate * seconds))
    return Audio(made.astype(np.float32), rate)
