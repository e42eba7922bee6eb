"""The one way of an export of faces: load -> look -> convert -> quantize -> measure -> verify -> commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from PIL import Image

from sanderling import sealing, verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.errors import ExportError, StorageError
from sanderling.faces.verification import replay_faces
from sanderling.golden import read_golden
from sanderling.loading import load
from sanderling.manifest import MANIFEST_NAME, Manifest
from sanderling.schema.answers import FaceThreshold
from sanderling.schema.variants import Component, Form
from sanderling.storage import staging_folder
from sanderling.tasks.face_recognition import FaceRecognizer
from sanderling_export import assembly, drift, graphs, quantize, references, speed
from sanderling_export.faces import conversion, distances, golden, photographs, quality
from sanderling_export.faces.attributes import SIZE
from sanderling_export.faces.description import RECOGNITION, Work, manifest_of
from sanderling_export.faces.library import FaceLibrary
from sanderling_export.faces.photographs import Photograph
from sanderling_export.faces.recognition import Recognition
from sanderling_export.plan import Making
from sanderling_export.progress import Progress
from sanderling_export.quiet import quiet
from sanderling_export.recipe import BUNDLES, DEFAULT_FLOORS, Floor, Recipe
from sanderling_export.settings import of_graph

_FORM = "padded"


def export_faces(
    recipe: Recipe,
    recipe_path: Path,
    output: str | os.PathLike[str] | None,
    *,
    variants: Sequence[str] = (),
    keep_failing: bool = False,
    progress: Progress,
) -> Path:
    """Export a recipe with a table [faces] to the bundle folder `output` (default: bundles/NAME beside the recipe).

    Raises RecipeError, CheckpointError, ExportError; DriftError for a variant below its floor, unless `keep_failing`.
    """
    assert recipe.faces is not None  # the caller has looked
    base = recipe_path.absolute().parent
    target = Path(output).absolute() if output is not None else base / BUNDLES / recipe_path.stem
    sealing.check_target(target)
    chosen = tuple(variants) or tuple(recipe.variants) or ("fp32", "int8-static")
    try:
        progress("load the networks")
        folder = references.locate(recipe.checkpoint, base, recipe.distributions)
        original = FaceLibrary(folder, recipe.faces.detector)
        shown = {
            part: _studied(original, recipe, names, base, lambda what: progress(f"look at photographs ({what})"))
            for part, names in (("calibration", recipe.data.calibration), ("check", recipe.data.check))
        }
        work = Work(recipe, recipe.faces, base, original, shown["calibration"], shown["check"], keep_failing)
        return _build(work, target, chosen, progress)
    except OSError as error:
        raise StorageError(
            f"The export to {target} failed: {error.strerror or error}. What stood there before is unchanged."
        ) from error


def _studied(
    original: FaceLibrary, recipe: Recipe, names: Sequence[str], base: Path, tell: Progress
) -> list[Photograph]:
    assert recipe.faces is not None
    found = []
    for name, image in photographs.load(names, base, recipe.distributions):
        tell(name)
        found.append(photographs.study(original, name, image, recipe.faces.min_score))
    if not any(one.faces for one in found):
        raise ExportError(f"No face is in any of {', '.join(names)}; give photographs with faces.")
    return found


def _build(work: Work, target: Path, chosen: Sequence[str], tell: Progress) -> Path:
    everything = [*work.calibration, *work.check]
    threshold = distances.threshold(everything, distances.measure(everything))
    tell("convert to ONNX")
    with quiet():
        nets = {
            name: conversion.network(module, name, _size(work, name)) for name, module in work.original.networks.items()
        }
        decoder = conversion.decoding(work.original.networks["detector"], work.original.size)
    with staging_folder(target) as staging:
        build = sealing.build_folder(staging)
        components: dict[str, Component] = {}
        notes: list[str] = []
        for name, net in nets.items():
            component, said = _component(work, name, net, decoder, chosen, build, staging, tell)
            components[name] = component
            notes += said
        tell("write golden samples")
        pictures = [_picture(cut.photograph, cut.box, cut.side, work) for cut in work.wanted.golden]
        files, counts = golden.write(staging, build, work.original, pictures, work.wanted.min_score)
        if not any(counts):
            raise ExportError("No golden picture has a face; `verify` would prove nothing of what is said of them.")
        notes.append(f"golden pictures with {', '.join(map(str, counts))} faces")
        manifest = manifest_of(work, components, threshold, files, build, staging, notes)
        manifest = _measured(work, manifest, staging, threshold, tell)
        tell("verify")
        (staging / MANIFEST_NAME).write_bytes(encode(manifest))
        report = verification.verify(staging, provider="cpu")
        if not report.held and not work.keep_failing:
            raise ExportError(f"The bundle does not verify: {_reasons(report)}. Nothing was written.")
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, manifest, target)
    return target


def _reasons(report: verification.Report) -> str:
    return "; ".join(one.reason for one in report.combinations if not one.held)


def _size(work: Work, component: str) -> int:
    return {"detector": work.original.size, RECOGNITION: Recognition.size}.get(component, SIZE)


def _component(
    work: Work,
    name: str,
    net: onnx.ModelProto,
    decoder: onnx.ModelProto,
    chosen: Sequence[str],
    build: Path,
    staging: Path,
    tell: Progress,
) -> tuple[Component, list[str]]:
    """One graph in all variants, and notes on how they were made."""
    forms: dict[str, Form] = {}
    notes: list[str] = []
    whole = net
    for variant in chosen:
        making = _making(work.recipe, variant)
        if making.precision != "fp32" and name in work.wanted.in_float:
            notes.append(f"{variant}: {name} keeps its floats, as the recipe says")
            if "fp32" in forms:
                forms[variant] = forms["fp32"]
                continue
            made = net
        else:
            tell(f"{name}: {variant}")
            feeds = _feeds(work, name) if making.precision != "fp32" else []
            with quiet():
                settings = of_graph(making.settings, name, work.original.networks)
                made, said = quantize.quantize(net, making.precision, feeds, settings)
            notes += [f"{name}, {one}" for one in said]
        whole = conversion.joined(made, decoder) if name == "detector" else made
        forms[variant] = graphs.written(whole, build / name / variant, staging)
    bare = Component(graphs.specs(whole.graph.input), graphs.specs(whole.graph.output), {})
    return assembly.component(bare, {variant: {_FORM: form} for variant, form in forms.items()}), notes


def _making(recipe: Recipe, variant: str) -> Making:
    wanted = recipe.variants.get(variant)
    if wanted is None:
        return Making(variant)  # type: ignore[arg-type]
    return Making(wanted.precision or variant, wanted.settings)  # type: ignore[arg-type]


def _feeds(work: Work, component: str) -> list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    """Inputs of a graph from the photographs that calibrate, and their altered copies."""
    if component != "detector":
        sights = [sight for one in work.calibration for sight in one.sights]
        return [{conversion.INPUT: sight.inputs[component][None]} for sight in sights]
    pictures = [one.image for one in work.calibration]
    pictures += [alteration.change(image) for image in pictures for alteration in photographs.ALTERATIONS]
    return [{conversion.INPUT: work.original.detector_input(np.asarray(image))[None]} for image in pictures]


def _picture(name: str, box: tuple[int, int, int, int], side: int, work: Work) -> Image.Image:
    ((_, image),) = photographs.load([name], work.base, work.recipe.distributions)
    part = image.crop(box)
    part.thumbnail((side, side), Image.Resampling.LANCZOS)
    return part


def _measured(work: Work, draft: Manifest, staging: Path, threshold: FaceThreshold, tell: Progress) -> Manifest:
    """The manifest with each graph's drift, invariance and tolerance, measured through the runtime."""
    (staging / MANIFEST_NAME).write_bytes(encode(draft))
    stored = read_golden(open_bundle(staging, integrity="full"))
    components = {name: dict(component.variants) for name, component in draft.components.items()}
    for variant in draft.variants:
        tell(f"measure {variant}")
        with load(staging, variant=variant, integrity="full") as model:
            assert isinstance(model, FaceRecognizer)
            replayed = replay_faces(model, stored)
            found = quality.of_networks(model, work.check, threshold)
            found["detector"] = quality.of_detector(model, work.check)
        _hold(work, variant, found)
        for name, (measured, moved) in found.items():
            mine = [check for check in replayed if _is_of(check, name)]
            components[name][variant] = replace(
                components[name][variant],
                drift=measured,
                invariance=moved,
                tolerance=quality.tolerance(variant, mine),
            )
    tell("measure speed")
    speeds = speed.beside_fp32(staging, draft.variants, [np.asarray(one.image) for one in work.check])
    for variant, ratio in speeds.items():
        components["detector"][variant] = replace(components["detector"][variant], speed=round(ratio.value, 3))
    timed = [f"{variant}: {ratio}, of whole photographs" for variant, ratio in speeds.items()]
    return assembly.measured(draft, components, timed)


def _is_of(check: verification.Check, component: str) -> bool:
    what = check.sample.partition(": ")[2]
    return what == "faces" if component == "detector" else what.startswith(f"{component} of ")


def _hold(work: Work, variant: str, found: quality.Measured) -> None:
    """Raise DriftError for a variant whose embeddings, or whose faces found, are below the recipe's floor."""
    floor: Floor = work.recipe.variants.get(variant) or DEFAULT_FLOORS.get(variant, Floor())
    vectors, seen = found[RECOGNITION][0], found["detector"][0]
    short = drift.shortfalls(replace(vectors, agreement=seen.agreement), floor)
    if short and not work.keep_failing:
        raise drift.refuse(variant, short, vectors.cosine.samples)
