"""What a model is asked while its plans are compared: answers as its users have them, written ones to the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sanderling.bundle import Bundle
from sanderling.model import Model
from sanderling.schema.generation import GenerationOutput

# New tokens of an answer, where the bundle's settings allow more: enough for the steps to count as much as what is read
# before them.
_MOST_TOKENS = 48


def writes(bundle: Bundle) -> bool:
    """Whether a bundle's model writes its answers token by token."""
    return isinstance(bundle.manifest.postprocessing, GenerationOutput)


def ask(model: Model, items: Sequence[Any]) -> int:
    """Answer inputs as a call of the model's users does, all of them in one; how many tokens were written for them.

    Models that write answer to their end, or until an answer is long; 0 of models that write none.
    """
    if not writes(model.bundle):
        model.answer(list(items))
        return 0
    from sanderling.tasks.image_to_text import ImageToText
    from sanderling.tasks.speech_recognition import SpeechRecognizer
    from sanderling.tasks.text_generation import TextGenerator
    from sanderling.tasks.visual_questions import QuestionAnswerer
    from sanderling.tasks.wave_recognition import WaveRecognizer

    given: Any = list(items)
    if isinstance(model, SpeechRecognizer | WaveRecognizer):
        return sum(len(segment.tokens) for heard in model.transcribe(given) for segment in heard.segments)
    assert isinstance(model, TextGenerator | ImageToText | QuestionAnswerer)  # there is no other that writes
    settings = model.settings
    most = max(settings.min_new_tokens, min(settings.max_new_tokens, _MOST_TOKENS))
    answers: Any = model.generate(given, max_new_tokens=most)
    return sum(len(answer.tokens) for answer in answers)
