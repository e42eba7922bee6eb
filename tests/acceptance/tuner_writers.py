"""Issue 3: of models that write, too, the tuner finds a plan as fast as any, and never one whose answers are others."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import alternated
import numpy as np
import onnx
from checks import Context, Row, at_least, built, registry, true
from msgspec.structs import replace
from onnx import numpy_helper
from tuner import _cache

import sanderling
from sanderling import cores, sealing
from sanderling.bundle import Bundle, open_bundle
from sanderling.codec import encode
from sanderling.golden import read_golden
from sanderling.loading import assemble
from sanderling.manifest import MANIFEST_NAME
from sanderling.plan import Plan, default_plan
from sanderling.tuning.trials import Tuned, describe
from sanderling.tuning.whole_answers import ask
from sanderling.tuning.workload import workload

SECONDS, PICTURES = 60.0, 16
# Of the original's tokens, those that a plan has to take: one of thirty golden ones may be another.
AGREED = 0.95
# Of every number of the decoder's matrices, drawn at random and added to it.
SPOILED = 1.0


@registry.check(3, "tuner-writers")
def tuner_writers(context: Context, seconds: float = SECONDS, names: Sequence[str] = ("world-captions",)) -> list[Row]:
    rows = []
    for name in names:
        folder = Path(shutil.copytree(built(name), context.folder / name))
        bundle = open_bundle(folder)
        with _cache(context):
            tuned = sanderling.tune(folder, "throughput", min_agreement=AGREED, time_limit=seconds)
            with sanderling.load(folder) as model:
                used = model.plan
        context.say(f"{name}: {describe(tuned.plan)}")
        best = tuned.trials[0]
        told = f"{best.agreement or 0:.1%} of tokens, {best.equal or 0:.1%} of answers, cosine {best.cosine or 0:.5f}"
        rows += [
            true(f"{name}: the plan that load uses", used == tuned.plan, describe(used), describe(tuned.plan)),
            at_least(f"{name}: the original's tokens that its plan takes", best.agreement or 0.0, AGREED, spread=told),
            _beside_others(name, bundle, tuned),
            _spoiled(context, name, folder, seconds),
        ]
    return rows


def _beside_others(name: str, bundle: Bundle, tuned: Tuned) -> Row:
    """The plan beside the fastest of those that a user would come upon: each variant with one thread and with all."""
    items = workload(bundle, read_golden(bundle), PICTURES)
    by_hand = [
        default_plan(variant, "cpu", threads)
        for variant, threads in product(bundle.manifest.variants, {1, cores.granted()})
    ]
    with assemble(bundle, tuned.plan) as chosen:
        fastest = min(by_hand, key=lambda plan: _once(bundle, plan, items))
        with assemble(bundle, fastest) as other:
            title = f"{name}: times the speed of the fastest that is chosen by hand, {fastest.variant}"
            return alternated.times_as_fast(title, lambda: ask(chosen, items), lambda: ask(other, items), 0.95)


def _once(bundle: Bundle, plan: Plan, items: Sequence[Any]) -> float:
    with assemble(bundle, plan) as model:
        ask(model, items)
        return alternated._seconds(lambda: ask(model, items))


def _spoiled(context: Context, name: str, folder: Path, seconds: float) -> Row:
    """A variant whose decoder was moved at random: its scores may be anything, but its tokens are others."""
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    decoder = manifest.components["decoder"]
    form = decoder.variants["fp32"].forms["padded"]
    made = onnx.load(str(folder / form.graph))
    draw = np.random.default_rng(5)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            moved = values + SPOILED * values.std() * draw.standard_normal(values.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    path = (folder / form.graph).with_name("spoiled.onnx")
    onnx.save(made, str(path))
    parts = {}
    for part, component in manifest.components.items():
        fp32 = component.variants["fp32"]
        own = replace(form, graph=path.relative_to(folder).as_posix(), data=()) if part == "decoder" else None
        kept = fp32 if own is None else replace(fp32, forms={"padded": own})
        parts[part] = replace(component, variants=component.variants | {"spoiled": kept})
    changed = replace(manifest, components=parts, default_variant="spoiled", files=sealing.list_files(folder))
    (folder / MANIFEST_NAME).write_bytes(encode(changed))
    with _cache(context):
        tuned = sanderling.tune(folder, "throughput", min_cosine=-1.0, min_agreement=AGREED, time_limit=seconds)
    out = [trial for trial in tuned.trials if trial.plan.variant == "spoiled"]
    held = tuned.plan.variant != "spoiled" and bool(out) and all(trial.reason for trial in out)
    most = max((trial.agreement or 0.0 for trial in out), default=0.0)
    return true(
        f"{name}: a decoder made bad on purpose is left out", held, f"{most:.1%} of tokens", f"below {AGREED:.0%}",
        spread=f"{len(out)} plans of it; chosen is {tuned.plan.variant}",
    )  # fmt: skip
