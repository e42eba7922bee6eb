"""What the export of a voice states of its variants, measured through the runtime: drift, tolerance, speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.golden import read_golden
from sanderling.loading import load
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.preprocess import phonemes
from sanderling.schema.variants import Drift, Invariance, Metric, Tolerance
from sanderling.tasks.text_to_speech import Voice
from sanderling.voices.rules import DECODER, VOCODER
from sanderling.voices.speech import Phonemes
from sanderling.voices.verification import replay_speech
from sanderling_export import assembly, drift, speed
from sanderling_export.plan import Plan
from sanderling_export.progress import Progress
from sanderling_export.recipe import Floor
from sanderling_export.voices import mel
from sanderling_export.voices.original import Original

# The mean of all sentences, and the farthest of them.
MEL_DISTANCE, MEL_DISTANCE_MAX = "log_mel_distance", "log_mel_distance_max"
_SEED = 20261122
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
_MARGIN, _SLACK, _MOST_APART = 2.0, 5e-3, 3.0


def measured(
    plan: Plan, draft: Manifest, staging: Path, source: Original, check: Sequence[tuple[str, ...]], tell: Progress
) -> Manifest:
    """The manifest with each variant's drift and tolerance, measured through the runtime on sentences said with the
    noise that the original was given."""
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    stored = read_golden(open_bundle(staging, integrity="full"))
    tell(f"say {len(check)} sentences with the original")
    expected = [source.waveform(symbols, _SEED + number)[1] for number, symbols in enumerate(check)]
    components = {name: dict(component.variants) for name, component in draft.components.items()}
    for name in draft.variants:
        tell(f"measure {name}")
        with load(staging, variant=name, provider="cpu", integrity="full") as model:
            assert isinstance(model, Voice)
            found, moved = _drift(model, check, expected)
            replayed = replay_speech(model, stored, Tolerance(-1.0))
        floor = plan.floors.get(name, plan.floors.get(str(plan.making(name).precision)))
        short = shortfalls(found, floor) if floor is not None else []
        if short and not plan.keep_failing:
            raise drift.refuse(name, short, found.cosine.samples)
        for part in components.values():
            part[name] = replace(part[name], drift=found, invariance=moved, tolerance=_tolerance(name, replayed))
    tell("measure speed")
    speeds = speed.beside_fp32(staging, draft.variants, [Phonemes((one,)) for one in check])
    for name, ratio in speeds.items():
        last = DECODER if DECODER in components else VOCODER
        components[last][name] = replace(components[last][name], speed=round(ratio.value, 3))
    timed = [f"{name}: {ratio}, of whole sentences" for name, ratio in speeds.items()]
    return assembly.measured(draft, components, timed)


def _drift(
    model: Voice, check: Sequence[tuple[str, ...]], expected: Sequence[NDArray[np.float32]]
) -> tuple[Drift, Invariance]:
    """Of the waveforms of sentences, beside the original's; and how far they move when they are said together."""
    said = [_said(model, symbols, _SEED + number) for number, symbols in enumerate(check)]
    rows, wanted = np.empty(len(said), object), np.empty(len(said), object)
    rows[:], wanted[:] = said, list(expected)
    measured = drift.measure(rows, wanted, labels=False, names=[f"sentence {n}" for n in range(1, len(said) + 1)])
    distances = [mel.distance(one, other, model.sample_rate) for one, other in zip(said, expected, strict=True)]
    heard = {
        name: Metric(float(value), 0.0, len(distances))
        for name, value in ((MEL_DISTANCE, np.mean(distances)), (MEL_DISTANCE_MAX, max(distances)))
    }
    together = [one.audio for one in model([Phonemes((symbols,)) for symbols in check])]
    alone = [model(Phonemes((symbols,))).audio for symbols in check]
    moved = min(
        float(verification.cosines(a[None], b[None])[0]) if a.shape == b.shape else -1.0
        for a, b in zip(together, alone, strict=True)
    )
    return replace(measured, metrics=heard), Invariance(moved)


def shortfalls(found: Drift, floor: Floor) -> list[str]:
    """In words, what of `floor` a voice's drift does not reach."""
    short = drift.shortfalls(found, floor)
    apart, most = found.metrics[MEL_DISTANCE_MAX].value, floor.max_mel_distance
    if most is not None and not apart <= most:
        short.append(f"log-mel distance of the farthest sentence {apart:.2f} dB, at most {most:g} dB")
    return short


def _said(model: Voice, symbols: Sequence[str], seed: int) -> NDArray[np.float32]:
    sounds = model.bundle.manifest.preprocessing.phonemes
    assert sounds is not None
    draw = np.random.RandomState([seed, 0])
    spectrum = model.frames(phonemes.ids(symbols, sounds), draw, model.settings, model.first_speaker)
    return model.waveform(spectrum, max(1, spectrum.shape[2]), model.first_speaker)


def _tolerance(name: str, replayed: Sequence[verification.Check]) -> Tolerance:
    """What `verify` will demand of golden waveforms wherever the bundle runs."""
    near, far = min(check.cosine for check in replayed), max(check.max_abs for check in replayed)
    if name == "fp32":
        return Tolerance(_FP32_COSINE, max(_FP32_MAX_ABS, 3 * far))
    return Tolerance(max(-1.0, round(1 - _MARGIN * (1 - near) - _SLACK, 6)), round(_MOST_APART * far + _SLACK, 6))
