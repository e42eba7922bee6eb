"""Golden samples of a model that generates, replayed step by step: each token read behind those before it.

The original's own tokens are read (teacher forcing), so that a step that drifts is not hidden by what follows from it,
and what is proven is the way that generation goes: the prompt first, then token by token through the cache.
"""

from __future__ import annotations

import numpy as np

from sanderling.errors import ManifestError
from sanderling.golden import Golden, GoldenSample
from sanderling.manifest import Tolerance
from sanderling.model import Model
from sanderling.session import Held
from sanderling.tasks.generating import Generator
from sanderling.tasks.image_to_text import ImageToText
from sanderling.tasks.visual_questions import QuestionAnswerer
from sanderling.verification import Check, cosines

_DECODER = "decoder"


def replay_steps(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    """The logits of each golden sample's tokens, one after the other: a check a sample, of its worst step."""
    assert isinstance(model, Generator)  # of whom else is the postprocessing
    return [_steps(model, golden, sample, limits) for sample in golden.samples]


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
    elif isinstance(model, ImageToText):
        pixels = inputs.get("pixel_values")
        start, fixed = model.start, None if pixels is None else model.held(pixels[None])
    else:
        start = inputs.get("input_ids", np.zeros(0, np.int64))
    if tokens.ndim != 1 or not len(tokens) or not len(start) or tokens.dtype != np.int64 or start.dtype != np.int64:
        raise ManifestError(f"The golden sample {sample.id!r} has tokens of another shape than (n,), or none.")
    found = model.forced(tokens, start, fixed)
    where = (model.variant, model.provider, sample.id, "steps", 0.0)
    if found.shape != expected.shape:
        return Check(*where, -1.0, float("inf"), False, model.plan.form)
    cosine = float(cosines(found, expected).min())
    apart = np.abs(found.astype(np.float64) - expected)
    max_abs = float(apart.max(initial=0.0)) if np.isfinite(apart).all() else float("inf")
    held = cosine >= limits.min_cosine and (limits.max_abs is None or max_abs <= limits.max_abs)
    return Check(*where, cosine, max_abs, held, model.plan.form)
