"""The one way of an export: plan -> load -> convert -> quantize -> measure -> verify -> commit."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import sealing, verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.errors import ExportError, StorageError
from sanderling.golden import Golden, read_golden
from sanderling.heads import Layer
from sanderling.loading import dense_layers, load
from sanderling.manifest import (
    MANIFEST_NAME,
    ClassificationOutput,
    Component,
    EmbeddingOutput,
    Form,
    Invariance,
    Manifest,
    Task,
    TokenOutput,
    Tolerance,
    Variant,
)
from sanderling.pairs import TextPair
from sanderling.storage import staging_folder
from sanderling_export import (
    assembly,
    convert,
    decoding,
    description,
    drift,
    forms,
    golden,
    graphs,
    invariance,
    labelled,
    losses,
    original,
    quantize,
    references,
    samples,
    speed,
)
from sanderling_export.description import Options
from sanderling_export.generation import kinds
from sanderling_export.labelled import Labelled
from sanderling_export.plan import Making, Plan, make_plan
from sanderling_export.progress import Progress, silent
from sanderling_export.quiet import quiet
from sanderling_export.recipe import Pooling, Precision, Recipe, find_recipe, read_recipe
from sanderling_export.samples import Samples
from sanderling_export.search import aims
from sanderling_export.search.campaign import Search, conduct
from sanderling_export.search.records import Aim

_INVARIANCE_SAMPLES = 48
# Hidden, so that nothing in it is taken for a file of the bundle.
_SEARCH_FOLDER = ".search"
# fp32 differs from the original, and from processor to processor, in the last digits only.
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
# A quantized golden answer may be this many times as far as it was at export, and a little more.
_MARGIN, _SLACK = 2.0, 2e-3
# The same for answers of so few numbers, in largest difference: the slack as a share of the largest answer.
_FEW, _FEW_MARGIN, _FEW_SLACK = 2, 3.0, 0.02


def export(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    task: Task | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_tokens: int | None = None,
    labels: str | os.PathLike[str] | None = None,
    variants: Sequence[Precision] | Literal["auto"] | None = None,
    data: str | os.PathLike[str] | None = None,
    keep_failing: bool = False,
    min_cosine: float | None = None,
    min_p01: float | None = None,
    min_agreement: float | None = None,
    max_metric_loss: float | None = None,
    labelled_data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Export a recipe (a path, or a bare name found in `models/`) or a checkpoint to the bundle folder `output`.

    What is given here goes before the recipe, and the recipe before the checkpoint's own files. `data` is a file of
    texts, one a line, or a folder of images; `labelled_data` is one of inputs and what is true of them, on which the
    task's metric is measured. `progress` is told each stage as it begins.

    With variants "auto", the fastest and the smallest variant are searched that hold a floor: the least cosine, its 1st
    percentile, the share of first labels that are the original's, and the share of the original's metric on the
    labelled data that may be lost. `seed` draws what the search ranks layers with.

    Raises RecipeError, CheckpointError, ExportError; DriftError for a variant below its floor, unless `keep_failing`;
    StorageError where writing fails. Whatever is raised, an older bundle at `output` stands as it was.
    """
    asked = Options(
        task=task,
        pooling=pooling,
        normalize=normalize,
        max_tokens=max_tokens,
        labels=description.read_labels(Path(labels)) if labels is not None else None,
        variants=() if variants == "auto" else tuple(variants or ()),
    )
    target = aims.target_of(min_cosine, min_p01, min_agreement, max_metric_loss, searched=variants == "auto")
    tell = progress or silent
    recipe_path = find_recipe(os.fspath(source))
    recipe = read_recipe(recipe_path) if recipe_path is not None else None
    if recipe_path is not None and recipe is not None and recipe.faces is not None:
        return _faces(recipe, recipe_path, output, asked, data, keep_failing, target is not None, tell)
    tell("resolve the checkpoint")
    own_data = Path(data) if data is not None else None
    plan = make_plan(os.fspath(source), output, asked, own_data, keep_failing, recipe=recipe)
    if target is not None:
        plan = dataclasses.replace(plan, search=Aim(target, seed))
    if kinds.is_generator(plan.checkpoint, plan.options):
        from sanderling_export.generation.export import export_generator  # for those who export them

        return export_generator(plan, tell)
    if labelled_data is not None:
        plan = dataclasses.replace(plan, data=replace(plan.data, labelled=os.fspath(Path(labelled_data).absolute())))
    sealing.check_target(plan.output)
    with staging_folder(plan.output):
        pass  # where nothing can be written, that is said now and not after minutes of converting
    try:
        return _build(plan, tell)
    except OSError as error:
        raise StorageError(
            f"The export to {plan.output} failed: {error.strerror or error}. "
            "What stood there before is unchanged; free some space or choose another folder."
        ) from error


def _faces(
    recipe: Recipe,
    path: Path,
    output: str | os.PathLike[str] | None,
    asked: Options,
    data: str | os.PathLike[str] | None,
    keep_failing: bool,
    searched: bool,
    tell: Progress,
) -> Path:
    from sanderling_export.faces.export import export_faces  # for those who export them

    others = (asked.task, asked.pooling, asked.normalize, asked.max_tokens, asked.labels, data)
    if searched or any(other is not None for other in others):
        raise ExportError(
            f"{path} is of faces: task, labels, pooling and photographs stand in the recipe, and variants are not "
            "searched. Say fp32, int8-static or both with --variants, or leave that out, too."
        )
    return export_faces(recipe, path, output, variants=asked.variants, keep_failing=keep_failing, progress=tell)


def _build(plan: Plan, tell: Progress) -> Path:
    tell("load the original")
    with quiet():
        source = original.load(plan.checkpoint, plan.options)
    if plan.search is not None:
        if isinstance(source.description.head, TokenOutput):
            raise ExportError(
                "Variants of a late-interaction model are not searched; name them: --variants fp32,int8-dynamic"
            )
        target = aims.completed(plan.search.target, source.description.head, labelled=plan.data.labelled is not None)
        plan = dataclasses.replace(plan, search=replace(plan.search, target=target))
    tell("gather samples")
    picked = samples.gather(source.description, plan.data, plan.base, plan.own_data)
    tell("convert to ONNX")
    with quiet():
        converted = convert.convert(plan.checkpoint, source)
    fp32 = converted.model
    component = Component(graphs.specs(fp32.graph.input), graphs.specs(fp32.graph.output), {})
    variants = _variants(plan, fp32)
    tell(f"answer {len(picked.check)} samples with the original")
    with quiet():
        expected = source.answers(picked.check)
    labelled_set = _labelled(plan, source)
    with staging_folder(plan.output) as staging:
        build = sealing.build_folder(staging)
        notes = [*plan.notes, *source.description.notes, *converted.notes]
        if plan.search is not None:
            found = conduct(
                plan,
                plan.search,
                source,
                fp32,
                component,
                picked,
                expected,
                labelled_set,
                staging / _SEARCH_FOLDER,
                tell,
            )
            shutil.rmtree(staging / _SEARCH_FOLDER, ignore_errors=True)
            plan, variants = _as_found(plan, plan.search, found), tuple(found.variants)
            notes += found.notes
        ways: dict[str, dict[str, Form]] = {}
        for name in variants:
            tell(f"write {name}" if name == "fp32" else f"quantize to {name}")
            ways[name], made = _write_variant(staging, build, fp32, name, plan.making(name), source, component, picked)
            notes += made
        tell("write golden samples")
        with quiet():
            files = golden.write(staging, build, source, picked.golden, [s.name for s in component.inputs])
        draft = assembly.draft(plan, source.description, component, ways, files, build, staging, notes)
        sealed = _measured(plan, draft, staging, source, picked.check, expected, labelled_set, tell)
        tell("verify")
        _self_test(staging, sealed, plan.keep_failing)
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, sealed, plan.output)
    return plan.output


def _labelled(plan: Plan, source: original.Original) -> tuple[Labelled, NDArray[np.float32]] | None:
    """The labelled set that the recipe names, and the original's answers to its inputs."""
    if plan.data.labelled is None:
        return None
    modality = "image" if source.description.task.startswith("image") else "text"
    cases = labelled.read(references.locate(plan.data.labelled, plan.base), source.description.head, modality)
    with quiet():
        return cases, source.answers(list(cases.inputs))


def _variants(plan: Plan, fp32: onnx.ModelProto) -> tuple[str, ...]:
    chosen = plan.options.variants or ("fp32", quantize.default_precision(fp32))
    return tuple(dict.fromkeys(chosen))


def _as_found(plan: Plan, aim: Aim, found: Search) -> Plan:
    """The plan with the variants that the search found, each under the floor it was searched for."""
    floors = {name: aim.target.floor for name in found.variants if name != "fp32"}
    return dataclasses.replace(
        plan,
        makings={name: Making(one.precision, one.settings) for name, one in found.variants.items()},
        floors=dict(plan.floors) | floors,
        default_variant=found.fastest,
    )


def _write_variant(
    staging: Path,
    build: Path,
    fp32: onnx.ModelProto,
    name: str,
    making: Making,
    source: original.Original,
    component: Component,
    picked: Samples,
) -> tuple[dict[str, Form], tuple[str, ...]]:
    names = {spec.name for spec in component.inputs}
    with quiet():
        feeds = [
            {key: np.asarray(value)[None] for key, value in source.inputs(item).items() if key in names}
            for item in (picked.calibration if making.precision != "fp32" else ())
        ]
        model, notes = quantize.quantize(fp32, making.precision, feeds, making.settings)
    if name != making.precision:
        notes = tuple(f"{name}: {note}" for note in notes)
    graphs.save(model, build / name)
    return forms.write(build / name, staging, source.description), notes


def _measured(
    plan: Plan,
    draft: Manifest,
    staging: Path,
    source: original.Original,
    check: Sequence[object],
    expected: NDArray[np.float32],
    labelled_set: tuple[Labelled, NDArray[np.float32]] | None,
    tell: Progress,
) -> Manifest:
    """The manifest with each variant's drift, invariance and tolerance, measured through the runtime."""
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    component = draft.components[assembly.COMPONENT]
    stored = read_golden(open_bundle(staging, integrity="full"))
    names = drift.name_inputs(check, quoted=plan.own_data is None)
    measured: dict[str, Variant] = {}
    failing: dict[str, str] = {}
    for name, variant in component.variants.items():
        tell(f"measure {name}")
        with load(staging, variant=name, integrity="full") as model:
            rows = model.answer(list(check)).rows
            metrics = {}
            if labelled_set is not None:
                cases, answered = labelled_set
                metrics = cases.measured(model.answer(list(cases.inputs)).rows, answered)
            replayed = verification.replay(model, stored, variant.tolerance)
        labels = isinstance(draft.postprocessing, ClassificationOutput)
        found = drift.measure(rows, expected, labels=labels, names=names)
        correlated = drift.correlation(rows, expected) if labels else None
        found = replace(found, metrics=metrics)
        short = drift.shortfalls(found, plan.floors[name], correlated)
        if short and not plan.keep_failing:
            raise drift.refuse(name, short, len(expected))
        if short:
            failing[name] = f"{name} is below its floor: {'; '.join(short)}"
        moved = _invariance(staging, draft, name, check[:_INVARIANCE_SAMPLES])
        tolerance = _tolerance(name, replayed, stored)
        lost = (
            losses.measure(rows, expected, source.description.dimensions)
            if isinstance(draft.postprocessing, EmbeddingOutput)
            else {}
        )
        measured[name] = replace(variant, drift=found, invariance=moved, tolerance=tolerance, losses=lost)
    tell("measure speed")
    speeds = speed.beside_fp32(staging, list(measured), check)
    measured |= {name: replace(measured[name], speed=round(ratio.value, 3)) for name, ratio in speeds.items()}
    timed = [f"{name}: {ratio}" for name, ratio in speeds.items()]
    sound = [name for name in measured if name not in failing]
    default = assembly.default_variant(plan, sound or list(measured))
    image = draft.preprocessing.image
    if image is not None:
        tell("measure decoding at reduced scale")
        with quiet():
            image, measured = decoding.measured(
                staging, replace(draft, default_variant=default), measured, source, check, plan.floors
            )
    return replace(
        draft,
        components={assembly.COMPONENT: replace(component, variants=measured)},
        preprocessing=replace(draft.preprocessing, image=image),
        default_variant=default,
        provenance=replace(draft.provenance, notes=(*draft.provenance.notes, *timed, *failing.values())),
    )


def _invariance(staging: Path, draft: Manifest, name: str, items: Sequence[object]) -> Invariance | None:
    component, text = draft.components[assembly.COMPONENT], draft.preprocessing.text
    if draft.preprocessing.image is not None or isinstance(draft.postprocessing, TokenOutput):
        return invariance.among_mates(staging, name, items)
    if text is None:
        return None
    form = component.variants[name].forms[assembly.FORM]
    head = draft.postprocessing
    dense: tuple[Layer, ...] = ()
    if isinstance(head, EmbeddingOutput) and head.weights is not None:
        dense = dense_layers(open_bundle(staging, integrity="full"), head)
    probe = invariance.TextProbe(staging, form, component, text, head, dense)
    return probe.measure([item for item in items if isinstance(item, str | TextPair)])


def _tolerance(name: str, replayed: Sequence[verification.Check], stored: Golden) -> Tolerance:
    """What `verify` will demand of the golden samples wherever the bundle runs."""
    farthest = 1.0 - min(check.cosine for check in replayed)
    peak = max(float(np.abs(stored.output(sample)).max(initial=0.0)) for sample in stored.samples)
    if name == "fp32":
        return Tolerance(_FP32_COSINE, _FP32_MAX_ABS * max(1.0, peak))
    if stored.output(stored.samples[0]).size <= _FEW:
        # The cosine of one or two numbers says little more than their sign.
        apart = max(check.max_abs for check in replayed)
        return Tolerance(-1.0, round(_FEW_MARGIN * apart + _FEW_SLACK * max(1.0, peak), 6))
    return Tolerance(max(-1.0, round(1.0 - _MARGIN * farthest - _SLACK, 6)))


def _self_test(staging: Path, sealed: Manifest, keep_failing: bool) -> None:
    """Replay the golden samples as the user's `verify` will. Raises ExportError for an answer that does not hold."""
    (staging / MANIFEST_NAME).write_bytes(encode(sealed))
    report = verification.verify(staging, provider="cpu")
    wrong = [c for c in report.failed if c.input_difference > verification.MAX_INPUT_DIFFERENCE]
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
