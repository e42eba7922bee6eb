"""Golden samples of a model that generates, replayed step by step: each token read behind those before it.

The original's own tokens are read (teacher forcing), so that a step that drifts is not hidden by what follows from it,
and what is proven is the way that generation goes: the prompt first, then token by token through the cache.
"""

from __future__ import annotations

import numpy as np

from sanderling.errors import ManifestError
from sanderling.golden import Golden, GoldenSample, sample_input
from sanderling.hearing.audio_front import FEATURES
from sanderling.hearing.sound_front import VALUES
from sanderling.model import Model
from sanderling.preprocess.audio import decoded
from sanderling.schema.variants import Tolerance
from sanderling.session import Held
from sanderling.tasks.generating import Generator
from sanderling.tasks.image_to_text import ImageToText
from sanderling.tasks.speech_recognition import SpeechRecognizer
from sanderling.tasks.visual_questions import QuestionAnswerer
from sanderling.tasks.wave_recognition import WaveRecognizer
from sanderling.verification import Check, cosines

_DECODER = "decoder"
# Probabilities of speech, from processor to processor.
_MOST_APART = 1e-3
_VOICE = Tolerance(-1.0, _MOST_APART)


def replay_steps(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    """The logits of each golden sample's tokens, one after the other: a check a sample, of its worst step."""
    assert isinstance(model, Generator)  # of whom else is the postprocessing
    found = [_steps(model, golden, sample, limits) for sample in golden.samples]
    if isinstance(model, SpeechRecognizer):
        found += [check for sample in golden.samples for check in _voice(model, golden, sample)]
    return found


def _voice(model: SpeechRecognizer, golden: Golden, sample: GoldenSample) -> list[Check]:
    """The probabilities of speech in the frames of a golden sound, where the bundle has any."""
    expected = golden.tensors.get(f"{sample.id}.voice_activity.output")
    if expected is None:
        return []
    sound, _ = decoded(sample_input(model.bundle, sample), model.rate)
    found = model.voice_chances(sound)
    where = (model.variant, model.provider, sample.id, "voice activity", 0.0)
    if found is None or found.shape != expected.shape:
        return [Check(*where, -1.0, float("inf"), False, model.plan.form, _VOICE)]
    apart = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    cosine = float(cosines(found[None], expected[None].astype(np.float32))[0])
    return [Check(*where, cosine, apart, apart <= _MOST_APART, model.plan.form, _VOICE)]


def _steps(model: Generator, golden: Golden, sample: GoldenSample, limits: Tolerance) -> Check:
    names = (f"{sample.id}.{_DECODER}.input", f"{sample.id}.{_DECODER}.output")
    if any(name not in golden.tensors for name in names):
        raise ManifestError(
            f"The golden sample {sample.id!r} has no tokens with their logits; export the bundle again."
        )
    tokens, expected = golden.tensors[names[0]], golden.tensors[names[1]]
    inputs = golden.inputs(sample)
    fixed: Held | None = None
    if isinstance(model, QuestionAnswerer):
        if not {"pixel_values", "input_ids"} <= set(inputs):
            raise ManifestError(f"The golden sample {sample.id!r} has no pixels or no tokens; export the bundle again.")
        start, fixed = model.begun(inputs["pixel_values"], inputs["input_ids"])
    elif isinstance(model, ImageToText | SpeechRecognizer | WaveRecognizer):
        name = {ImageToText: "pixel_values", SpeechRecognizer: FEATURES, WaveRecognizer: VALUES}[type(model)]
        given = inputs.get(name)
        start, fixed = model.start, None if given is None else model.held(given[None])
    else:
        start = inputs.get("input_ids", np.zeros(0, np.int64))
    if tokens.ndim != 1 or not len(tokens) or not len(start) or tokens.dtype != np.int64 or start.dtype != np.int64:
        raise ManifestError(f"The golden sample {sample.id!r} has tokens of another shape than (n,), or none.")
    found = model.forced(tokens, start, fixed)
    where = (model.variant, model.provider, sample.id, "steps", 0.0)
    if found.shape != expected.shape:
        return Check(*where, -1.0, float("inf"), False, model.plan.form, agreement=0.0)
    cosine = float(cosines(found, expected).min())
    apart = np.abs(found.astype(np.float64) - expected)
    max_abs = float(apart.max(initial=0.0)) if np.isfinite(apart).all() else float("inf")
    held = cosine >= limits.min_cosine and (limits.max_abs is None or max_abs <= limits.max_abs)
    same = float((found.argmax(axis=-1) == expected.argmax(axis=-1)).mean())
    return Check(*where, cosine, max_abs, held, model.plan.form, agreement=same)
