"""Golden samples of a voice, replayed: the ids of its phonemes, and the waveform of each sentence, whole and in parts.

Phonemes stand in the bundle, so that what is proven does not depend on the phonemizer that is installed, or on none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ManifestError
from sanderling.golden import Golden, GoldenSample
from sanderling.model import Model
from sanderling.preprocess import phonemes
from sanderling.schema.variants import Tolerance
from sanderling.tasks.text_to_speech import Voice
from sanderling.verification import Check, apart, cosines, within
from sanderling.voices.rules import IDS

# Frames of the decoder's runs: all at once, and parts that have borders in every golden sentence.
_WAYS = {"alone": 1_000_000, "parts": 48}


def replay_speech(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    """Each golden sentence, its frames decoded in one run and in parts."""
    assert isinstance(model, Voice)  # of whom else is the postprocessing
    return [check for sample in golden.samples for check in _sentence(model, golden, sample, limits)]


def _sentence(model: Voice, golden: Golden, sample: GoldenSample, limits: Tolerance) -> list[Check]:
    settings = model.bundle.manifest.preprocessing.phonemes
    assert settings is not None  # decode() refuses a voice without
    if sample.phonemes is None or any(symbol not in settings.ids for symbol in sample.phonemes):
        raise ManifestError(
            f"The golden sample {sample.id!r} has no phonemes, or unknown ones; export the bundle again."
        )
    ids = phonemes.ids(sample.phonemes, settings)
    difference = apart(ids[0], golden.inputs(sample).get(IDS, np.empty(0)))
    draw = None if sample.seed is None else np.random.RandomState([sample.seed % 2**32, 0])
    spectrum = model.frames(ids, draw, model.settings, model.first_speaker)
    expected = golden.output(sample)
    return [
        _check(model, sample, way, difference, model.waveform(spectrum, frames, model.first_speaker), expected, limits)
        for way, frames in _WAYS.items()
    ]


def _check(
    model: Voice,
    sample: GoldenSample,
    way: str,
    difference: float,
    wave: NDArray[np.float32],
    expected: NDArray[np.float32],
    limits: Tolerance,
) -> Check:
    where = (model.variant, model.provider, sample.id, way, difference)
    if wave.shape != expected.shape:
        return Check(*where, -1.0, float("inf"), False, model.plan.form)
    cosine = float(cosines(wave[None], expected[None])[0])
    max_abs = float(np.abs(wave.astype(np.float64) - expected).max(initial=0.0))
    return Check(*where, cosine, max_abs, within(limits, difference, cosine, max_abs), model.plan.form)
