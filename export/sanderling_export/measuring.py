"""What an export states of its graphs, measured through the runtime: drift, invariance, tolerance, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import components, verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.errors import ExportError
from sanderling.golden import read_golden, samples_of
from sanderling.heads import Layer
from sanderling.loading import dense_layers, load
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.pairs import TextPair
from sanderling.schema.answers import ClassificationOutput, CtcOutput
from sanderling.schema.variants import Component, Invariance, Tolerance, Variant
from sanderling.schema.vectors import EmbeddingOutput, TokenOutput
from sanderling_export import assembly, decoding, drift, invariance, losses, speed
from sanderling_export.labelled import Labelled
from sanderling_export.original import Original
from sanderling_export.plan import Plan
from sanderling_export.progress import Progress
from sanderling_export.quiet import quiet
from sanderling_export.samples import Samples

_INVARIANCE_SAMPLES = 48
# fp32 differs from the original, and from processor to processor, in the last digits only.
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
# A quantized golden answer may be this many times as far as it was at export, and a little more.
_MARGIN, _SLACK = 2.0, 2e-3
# The same for answers of so few numbers, in largest difference: the slack as a share of the largest answer.
_FEW, _FEW_MARGIN, _FEW_SLACK = 2, 3.0, 0.02


@dataclass(frozen=True, slots=True)
class Part:
    """One graph in the making: its original and graph in fp32, its samples, and the original's answers to those that
    are checked, (samples, d). A model of several graphs that answer by themselves has several."""

    name: str
    source: Original
    fp32: onnx.ModelProto
    component: Component
    picked: Samples
    expected: NDArray[np.float32]
    labelled: tuple[Labelled, NDArray[np.float32]] | None = None


def measured(plan: Plan, draft: Manifest, staging: Path, parts: Sequence[Part], tell: Progress) -> Manifest:
    """The manifest with each variant's drift, invariance and tolerance, measured through the runtime.

    A variant is sound where all its graphs hold their floors; the default is one that is.
    """
    failing: dict[str, str] = {}
    for part in parts:
        of_several = f"{part.name}: " if len(parts) > 1 else ""
        draft, short = _part_measured(plan, draft, staging, part, of_several, tell)
        failing |= short
    sound = [name for name in draft.variants if name not in failing]
    default = assembly.default_variant(plan, sound or list(draft.variants))
    draft = replace(draft, default_variant=default)
    for part in parts:
        if part.source.description.image is not None:
            tell("measure decoding at reduced scale")
            with quiet():
                image, variants = decoding.measured(
                    staging,
                    draft,
                    draft.components[part.name].variants,
                    part.source,
                    part.picked.check,
                    plan.floors,
                    part.name,
                )
            draft = replace(
                _with_variants(draft, part.name, variants), preprocessing=replace(draft.preprocessing, image=image)
            )
    notes = (*draft.provenance.notes, *failing.values())
    return replace(draft, provenance=replace(draft.provenance, notes=notes))


def _with_variants(draft: Manifest, name: str, variants: Mapping[str, Variant]) -> Manifest:
    component = replace(draft.components[name], variants=dict(variants))
    return replace(draft, components=draft.components | {name: component})


def _part_measured(
    plan: Plan, draft: Manifest, staging: Path, part: Part, of_several: str, tell: Progress
) -> tuple[Manifest, dict[str, str]]:
    """The manifest with what was measured of one graph, and why its variants fail their floors, where they do."""
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    source, check, expected = part.source, part.picked.check, part.expected
    component = draft.components[part.name]
    stored = read_golden(open_bundle(staging, integrity="full"))
    names = drift.name_inputs(check, quoted=plan.own_data is None)
    measured: dict[str, Variant] = {}
    failing: dict[str, str] = {}
    for name, variant in component.variants.items():
        tell(f"{of_several}measure {name}")
        with load(staging, variant=name, integrity="full", components=part.name) as model:
            rows = model.answer(list(check)).rows
            metrics = {}
            if part.labelled is not None:
                cases, answered = part.labelled
                metrics = cases.measured(model.answer(list(cases.inputs)).rows, answered)
            replayed = verification.replay(model, stored, variant.tolerance)
            shown = samples_of(stored, model.takes)
        head = source.description.head
        labels = isinstance(head, ClassificationOutput)
        found = drift.measure(rows, expected, labels=labels or isinstance(head, CtcOutput), names=names)
        correlated = drift.correlation(rows, expected) if labels else None
        found = replace(found, metrics=metrics)
        short = drift.shortfalls(found, plan.floors[name], correlated)
        if short and not plan.keep_failing:
            raise drift.refuse(f"{of_several}{name}", short, len(expected))
        if short:
            failing[name] = f"{of_several}{name} is below its floor: {'; '.join(short)}"
        moved = _invariance(staging, draft, part, name, check[:_INVARIANCE_SAMPLES])
        tolerance = _tolerance(name, replayed, [stored.output(sample) for sample in shown])
        lost = (
            losses.measure(rows, expected, source.description.dimensions) if isinstance(head, EmbeddingOutput) else {}
        )
        measured[name] = replace(variant, drift=found, invariance=moved, tolerance=tolerance, losses=lost)
    tell(f"{of_several}measure speed")
    speeds = speed.beside_fp32(staging, list(measured), check, part.name)
    measured |= {name: replace(measured[name], speed=round(ratio.value, 3)) for name, ratio in speeds.items()}
    timed = [f"{of_several}{name}: {ratio}" for name, ratio in speeds.items()]
    draft = _with_variants(draft, part.name, measured)
    notes = (*draft.provenance.notes, *timed)
    return replace(draft, provenance=replace(draft.provenance, notes=notes)), failing


def _invariance(staging: Path, draft: Manifest, part: Part, name: str, items: Sequence[object]) -> Invariance | None:
    known, component, text = part.source.description, draft.components[part.name], draft.preprocessing.text
    if known.image is not None or known.audio is not None or isinstance(known.head, TokenOutput):
        return invariance.among_mates(staging, name, items, part.name)
    if known.text is None or text is None:
        return None
    form = component.variants[name].forms[assembly.FORM]
    head = components.head(draft, part.name)  # of the draft: it names the file of the dense layers
    dense: tuple[Layer, ...] = ()
    if isinstance(head, EmbeddingOutput) and head.weights is not None:
        dense = dense_layers(open_bundle(staging, integrity="full"), head)
    probe = invariance.TextProbe(staging, form, component, text, head, dense)
    return probe.measure([item for item in items if isinstance(item, str | TextPair)])


def _tolerance(name: str, replayed: Sequence[verification.Check], expected: Sequence[NDArray[np.float32]]) -> Tolerance:
    """What `verify` will demand of the golden samples wherever the bundle runs."""
    farthest = 1.0 - min(check.cosine for check in replayed)
    peak = max(float(np.abs(answer).max(initial=0.0)) for answer in expected)
    if name == "fp32":
        return Tolerance(_FP32_COSINE, _FP32_MAX_ABS * max(1.0, peak))
    if expected[0].size <= _FEW:
        # The cosine of one or two numbers says little more than their sign.
        apart = max(check.max_abs for check in replayed)
        return Tolerance(-1.0, round(_FEW_MARGIN * apart + _FEW_SLACK * max(1.0, peak), 6))
    return Tolerance(max(-1.0, round(1.0 - _MARGIN * farthest - _SLACK, 6)))


def self_test(staging: Path, sealed: Manifest, keep_failing: bool) -> None:
    """Replay the golden samples as the user's `verify` will. Raises ExportError for an answer that does not hold."""
    (staging / MANIFEST_NAME).write_bytes(encode(sealed))
    report = verification.verify(staging, provider="cpu")
    wrong = [c for c in report.failed if c.input_difference > c.input_limit]
    if wrong:
        raise ExportError(
            f"The runtime does not preprocess {wrong[0].sample} as the original does: it differs by "
            f"{wrong[0].input_difference:.3g}. Nothing was written; please report this checkpoint."
        )
    if report.failed and not keep_failing:
        worst = verification.worst(report.failed)
        raise ExportError(
            f"{worst.variant} answers {worst.sample} with cosine {worst.cosine:.6f} and a largest difference of "
            f"{worst.max_abs:.3g} to the original, beyond its tolerance. Nothing was written; see --keep-failing."
        )
