"""Issue 2: int8 that is worth having: small, near, and faster than fp32 in the same run."""

from __future__ import annotations

import numpy as np
import photographs
import texts
from checks import Context, NotCheckableError, Row, at_least, at_most, built, registry, true

import sanderling
from sanderling.bundle import open_bundle
from sanderling.commands.drift import variant_size
from sanderling.verification import cosines
from sanderling_bench.inputs import Inputs, inputs_for
from sanderling_bench.measure import Plan, measure
from sanderling_bench.record import Summary

ROUNDS = 9
SAMPLES = 198


@registry.check(2, "minilm-int8")
def minilm(context: Context) -> list[Row]:
    bundle = open_bundle(built("all-minilm-l6-v2"))
    int8 = _int8(bundle.manifest.default_variant)
    chosen = texts.of_all_lengths(500)
    context.say("fp32 and int8 answer")
    answers = []
    for variant in ("fp32", int8):
        with sanderling.load(bundle.path, variant=variant) as model:
            answers.append(model(chosen).embeddings)
    similar = cosines(answers[1], answers[0])
    return [
        _size("MiniLM", variant_size(bundle, int8), variant_size(bundle, "fp32")),
        at_least(
            f"MiniLM {int8}, 500 real texts: mean cosine to fp32",
            similar.mean(),
            0.99,
            digits=5,
            spread=f"min {similar.min():.4f}",
        ),
        *_faster(context, "MiniLM", bundle.path.name, inputs_for(bundle), int8),
    ]


@registry.check(2, "efficientnet-int8")
def efficientnet(context: Context) -> list[Row]:
    bundle = open_bundle(built("efficientnet-lite0"))
    int8 = _int8(bundle.manifest.default_variant)
    unseen = photographs.unseen_by_calibration("efficientnet-lite0")
    if not unseen:
        raise NotCheckableError("Calibration saw every photograph that is installed here.")
    crops = photographs.crops(300, unseen, seed=2, kinds=("RGB", "JPEG"))
    context.say(f"fp32 and int8 answer for crops of {', '.join(unseen)}")
    answers = []
    for variant in ("fp32", int8):
        with sanderling.load(bundle.path, variant=variant) as model:
            answers.append(np.stack([model(crop.file).logits for crop in crops]))
    similar = cosines(answers[1], answers[0])
    same = answers[0].argmax(axis=1) == answers[1].argmax(axis=1)
    inputs = Inputs("image", tuple(crop.file for crop in crops[:32]), "crops of photographs")
    return [
        _size("EfficientNet-Lite0", variant_size(bundle, int8), variant_size(bundle, "fp32")),
        at_least(
            f"EfficientNet-Lite0 {int8}, {len(crops)} crops of {len(unseen)} photographs unseen by calibration: "
            "mean cosine of logits",
            similar.mean(),
            0.98,
            digits=4,
            spread=f"min {similar.min():.4f}",
        ),
        at_least(
            "the same: first label as fp32's",
            100 * same.mean(),
            93,
            digits=1,
            unit="%",
            spread=f"{same.sum()} of {len(same)}",
        ),
        *_faster(context, "EfficientNet-Lite0", bundle.path.name, inputs, int8),
    ]


def _int8(variant: str) -> str:
    if not variant.startswith("int8"):
        raise AssertionError(f"The bundle's default variant is {variant}; one in int8 was expected.")
    return variant


def _size(model: str, int8: int, fp32: int) -> Row:
    spread = f"{int8 / 1e6:.1f} of {fp32 / 1e6:.1f} MB"
    return at_most(f"{model} int8: share of fp32's size", 100 * int8 / fp32, 30, digits=1, unit="%", spread=spread)


def _faster(context: Context, model: str, name: str, inputs: Inputs, int8: str) -> list[Row]:
    plan = Plan(variants=("fp32", int8), rounds=ROUNDS, samples=SAMPLES, cold_starts=0)
    record = measure(open_bundle(built(name)), inputs, plan)
    context.say("the bench has its record")
    summary: Summary = record.summary[int8]
    rows = []
    for what, ratio in (
        ("one at a time", summary.speedup_single_stream),
        ("all at once", summary.speedup_offline),
    ):
        assert ratio is not None
        spread = f"95% {ratio.low:.2f} to {ratio.high:.2f}, {ratio.rounds} rounds"
        rows.append(
            true(
                f"{model} {int8}, {what}: times fp32's speed",
                ratio.low > 1.0,
                f"{ratio.value:.2f}",
                "> 1",
                spread=spread,
            )
        )
    return rows
