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

from sanderling import sealing
from sanderling.errors import ExportError, StorageError
from sanderling.manifest import MANIFEST_NAME
from sanderling.schema.basics import Task
from sanderling.schema.variants import Component, Form
from sanderling.schema.vectors import TokenOutput
from sanderling.storage import staging_folder
from sanderling_export import (
    assembly,
    convert,
    description,
    forms,
    golden,
    graphs,
    labelled,
    measuring,
    original,
    quantize,
    references,
    samples,
)
from sanderling_export.description import Description, Options
from sanderling_export.generation import kinds
from sanderling_export.labelled import Labelled
from sanderling_export.measuring import Part
from sanderling_export.plan import Making, Plan, make_plan
from sanderling_export.progress import Progress, silent
from sanderling_export.quiet import quiet
from sanderling_export.recipe import Pooling, Precision, Recipe, find_recipe, read_recipe
from sanderling_export.search import aims
from sanderling_export.search.campaign import Search, conduct
from sanderling_export.search.records import Aim
from sanderling_export.settings import of_graph
from sanderling_export.voices import kinds as voices

# Hidden, so that nothing in it is taken for a file of the bundle.
_SEARCH_FOLDER = ".search"


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
    if voices.is_voice(plan.checkpoint):
        from sanderling_export.voices.export import export_voice  # for those who export them

        return export_voice(plan, tell)
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
        if source.description.audio is not None:
            raise ExportError(
                "Variants of a model that hears are not searched; name them: --variants fp32,int8-dynamic"
            )
    originals = original.parts(source)
    if plan.search is not None and len(originals) > 1:
        raise ExportError(
            f"Variants are searched for models of one graph; this one has {', '.join(originals)}. "
            "Say which you want: --variants fp32,int8-dynamic"
        )
    parts: list[Part] = []
    notes = [*plan.notes, *source.description.notes]
    for name, one in originals.items():
        part, said = _part(plan, name, one, f"{name}: " if len(originals) > 1 else "", tell)
        parts.append(part)
        notes += said
    variants = _variants(plan, [part.fp32 for part in parts])
    with staging_folder(plan.output) as staging:
        build = sealing.build_folder(staging)
        if plan.search is not None:
            (part,) = parts
            found = conduct(
                plan,
                plan.search,
                source,
                part.fp32,
                part.component,
                part.picked,
                part.expected,
                part.labelled,
                staging / _SEARCH_FOLDER,
                tell,
            )
            shutil.rmtree(staging / _SEARCH_FOLDER, ignore_errors=True)
            plan, variants = _as_found(plan, plan.search, found), tuple(found.variants)
            notes += found.notes
        components: dict[str, Component] = {}
        for part in parts:
            ways: dict[str, dict[str, Form]] = {}
            of_several = f"{part.name}: " if len(parts) > 1 else ""
            for name in variants:
                tell(of_several + (f"write {name}" if name == "fp32" else f"quantize to {name}"))
                folder = build / part.name / name if len(parts) > 1 else build / name
                making = plan.making(name)
                if len(parts) > 1:
                    making = dataclasses.replace(making, settings=of_graph(making.settings, part.name, originals))
                ways[name], made = _write_variant(staging, folder, part, name, making)
                notes += [of_several + note for note in made]
            components[part.name] = assembly.component(part.component, ways)
        tell("write golden samples")
        with quiet():
            shown = [(part.source, part.picked.golden, [s.name for s in part.component.inputs]) for part in parts]
            files = golden.write(staging, build, shown)
        draft = assembly.draft(plan, source.description, components, files, build, staging, notes)
        sealed = measuring.measured(plan, draft, staging, parts, tell)
        tell("verify")
        measuring.self_test(staging, sealed, plan.keep_failing)
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, sealed, plan.output)
    return plan.output


def _part(
    plan: Plan, name: str, source: original.Original, of_several: str, tell: Progress
) -> tuple[Part, tuple[str, ...]]:
    """One graph in fp32 with its samples and the original's answers, and notes on how it was rewritten."""
    tell(f"{of_several}gather samples")
    picked = samples.gather(source.description, plan.data, plan.base, _own(plan, source.description))
    tell(f"{of_several}convert to ONNX")
    with quiet():
        converted = convert.convert(plan.checkpoint, source)
    fp32 = converted.model
    component = Component(graphs.specs(fp32.graph.input), graphs.specs(fp32.graph.output), {})
    tell(f"{of_several}answer {len(picked.check)} samples with the original")
    with quiet():
        expected = source.answers(picked.check)
    labelled_set = None if of_several else _labelled(plan, source)
    part = Part(name, source, fp32, component, picked, expected, labelled_set)
    return part, tuple(of_several + note for note in converted.notes)


def _own(plan: Plan, known: Description) -> Path | None:
    """The user's own data, as far as this graph takes it: of one of two towers texts are a file, images a folder."""
    own = plan.own_data
    if own is None or known.task != "zero-shot-image-classification":
        return own
    return own if own.is_dir() == (known.image is not None) else None


def _labelled(plan: Plan, source: original.Original) -> tuple[Labelled, NDArray[np.float32]] | None:
    """The labelled set that the recipe names, and the original's answers to its inputs."""
    if plan.data.labelled is None:
        return None
    known = source.description
    modality = "image" if known.image is not None else "audio" if known.audio is not None else "text"
    rate = known.audio.rate if known.audio is not None else None
    cases = labelled.read(references.locate(plan.data.labelled, plan.base), known.head, modality, rate)
    with quiet():
        return cases, source.answers(list(cases.inputs))


def _variants(plan: Plan, fp32: Sequence[onnx.ModelProto]) -> tuple[str, ...]:
    """The variants asked for; else fp32 and what is usual for the graphs: all of them have the same."""
    usual = {quantize.default_precision(model) for model in fp32}
    chosen = plan.options.variants or ("fp32", *sorted(usual)[:1])
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
    staging: Path, folder: Path, part: Part, name: str, making: Making
) -> tuple[dict[str, Form], tuple[str, ...]]:
    names = {spec.name for spec in part.component.inputs}
    with quiet():
        feeds = [
            {key: np.asarray(value)[None] for key, value in part.source.inputs(item).items() if key in names}
            for item in (part.picked.calibration if making.precision != "fp32" else ())
        ]
        model, notes = quantize.quantize(part.fp32, making.precision, feeds, making.settings)
    if name != making.precision:
        notes = tuple(f"{name}: {note}" for note in notes)
    graphs.save(model, folder)
    return forms.write(folder, staging, part.source.description), notes
