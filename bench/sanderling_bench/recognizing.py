"""Models that write down what is said, of all kinds asked in the same way."""

from __future__ import annotations

from typing import Any, TypeAlias

from sanderling.errors import BenchError
from sanderling.hearing.transcripts import Transcript
from sanderling.tasks.ctc_recognition import CtcRecognizer
from sanderling.tasks.speech_recognition import SpeechRecognizer
from sanderling.tasks.wave_recognition import WaveRecognizer

TASK = "automatic-speech-recognition"
Recognizer: TypeAlias = SpeechRecognizer | CtcRecognizer | WaveRecognizer


def transcript(model: Recognizer, sound: Any, language: str | None = None) -> Transcript:
    """What a model writes of one sound. Raises BenchError: a language where there is none to choose; AudioError."""
    if isinstance(model, SpeechRecognizer):
        whole: Transcript = model.transcribe(sound, language=language)
        return whole
    if language is not None:
        raise BenchError(f"{model.name} writes the one language that it learned; leave --language out.")
    found: Transcript = model.transcribe(sound)
    return found
