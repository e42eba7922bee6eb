"""What is measured of a model that generates, through the runtime: drift, invariance, tolerances and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import cores, verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.generation.rules import DECODER
from sanderling.golden import Golden, read_golden
from sanderling.loading import assemble, load
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.plan import default_plan
from sanderling.schema.variants import Drift, Invariance, Tolerance
from sanderling.verification import cosines
from sanderling_export import assembly, drift, speed
from sanderling_export.plan import Plan

Progress = Callable[[str], None]

# fp32 differs from the original, and from processor to processor, in the last digits only.
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
# A quantized golden answer may be this many times as far as it was at export, and a little more.
_MARGIN, _SLACK = 2.0, 2e-3


def last(components: Mapping[str, object]) -> str:
    """The graph that answers, which has what was measured of all of them together."""
    return list(components)[-1]


def measured(
    plan: Plan, draft: Manifest, staging: Path, check: Sequence[Any], expected: NDArray[np.float32], tell: Progress
) -> Manifest:
    """The manifest with each variant's drift, invariance, tolerance and speed, measured through the runtime."""
    end = last(draft.components)
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    stored = read_golden(open_bundle(staging, integrity="full"))
    names = drift.name_inputs(check, quoted=plan.own_data is None)
    parts = {name: dict(component.variants) for name, component in draft.components.items()}
    failing: dict[str, str] = {}
    for variant in draft.variants:
        tell(f"measure {variant}")
        with load(staging, variant=variant, integrity="full") as model:
            rows = model.answer(list(check)).rows
            replayed = verification.replay(model, stored, Tolerance(-1.0))
        found = drift.measure(rows, expected, labels=True, names=names)
        short = drift.shortfalls(found, plan.floors[variant])
        if short and not plan.keep_failing:
            raise drift.refuse(variant, short, len(expected))
        if short:
            failing[variant] = f"{variant} is below its floor: {'; '.join(short)}"
        limits = _tolerance(variant, replayed, stored)
        moved = _invariance(staging, variant, check)
        heard_short = _heard_short(staging, variant, check, expected, names)
        for name, variants in parts.items():
            whole = {"drift": found, "invariance": moved, "short_window": heard_short} if name == end else {}
            variants[variant] = replace(variants[variant], tolerance=limits, **whole)
    tell("measure speed")
    speeds = speed.beside_fp32(staging, list(draft.variants), check)
    for variant, ratio in speeds.items():
        parts[end][variant] = replace(parts[end][variant], speed=round(ratio.value, 3))
    what = ", up to the first token" if end == DECODER else ""
    timed = [f"{variant}: {ratio}{what}" for variant, ratio in speeds.items()]
    sound = [variant for variant in draft.variants if variant not in failing]
    manifest = assembly.measured(draft, parts, [*timed, *failing.values()])
    return replace(manifest, default_variant=assembly.default_variant(plan, sound or draft.variants))


def _invariance(staging: Path, variant: str, items: Sequence[Any]) -> Invariance:
    """How far the next token's logits move with batch mates, and the padding that they bring."""
    bundle = open_bundle(staging, integrity="full")
    plan = default_plan(variant, "cpu", cores.granted(), batch_invariant=True)
    with assemble(bundle, plan) as model:
        alone = model.answer(list(items)).rows
    with assemble(bundle, replace(plan, token_budget=512, image_budget=4)) as model:
        mixed = model.answer(list(items)).rows
    return Invariance(float(cosines(mixed, alone).min()))


def _heard_short(
    staging: Path, variant: str, items: Sequence[Any], expected: NDArray[np.float32], names: Sequence[str]
) -> Drift | None:
    """The drift of a model that hears sounds in short windows, beside the original in full ones; None of others."""
    bundle = open_bundle(staging, integrity="full")
    audio = bundle.manifest.preprocessing.audio
    if audio is None or audio.short is None:
        return None
    with assemble(bundle, replace(default_plan(variant, "cpu", cores.granted()), window="short")) as model:
        return drift.measure(model.answer(list(items)).rows, expected, labels=True, names=names)


def _tolerance(variant: str, replayed: Sequence[verification.Check], stored: Golden) -> Tolerance:
    """What `verify` will demand of the golden samples wherever the bundle runs."""
    peak = max(float(np.abs(stored.output(sample)).max(initial=0.0)) for sample in stored.samples)
    if variant == "fp32":
        return Tolerance(_FP32_COSINE, _FP32_MAX_ABS * max(1.0, peak))
    farthest = 1.0 - min(check.cosine for check in replayed)
    return Tolerance(max(-1.0, round(1.0 - _MARGIN * farthest - _SLACK, 6)))
