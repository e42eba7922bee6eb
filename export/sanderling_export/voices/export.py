"""The one way of an export of a voice: load -> cut -> quantize -> measure -> verify -> commit."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace as replaced
from pathlib import Path

import msgspec
import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray
from safetensors.numpy import save

from sanderling import sealing
from sanderling.errors import ExportError, StorageError
from sanderling.golden import GoldenSample
from sanderling.manifest import (
    FORMAT,
    MAJOR_VERSION,
    MANIFEST_NAME,
    MINOR_VERSION,
    GoldenFiles,
    Manifest,
    Preprocessing,
)
from sanderling.schema.variants import Component, Form
from sanderling.schema.voices import SpeechOutput
from sanderling.storage import staging_folder
from sanderling.voices.front import VoiceFront
from sanderling.voices.rules import (
    DECODER,
    ENCODER,
    FRAME_DECODER,
    POSTNET,
    TASK,
    VECTORS,
)
from sanderling_export import assembly, description, graphs, measuring, quantize
from sanderling_export.plan import Making, Plan
from sanderling_export.progress import Progress
from sanderling_export.quiet import quiet
from sanderling_export.voices import calibration, hiss, imported, piper, planes, quality, sentences
from sanderling_export.voices.cleaning import cleaned
from sanderling_export.voices.original import Original
from sanderling_export.voices.surgery import WAVEFORM

FORM = "padded"
# These decide how long every sound is: rounded, they would say another length. The postnet takes little time.
_IN_FLOAT = (ENCODER, FRAME_DECODER, POSTNET)
_OF_STEPS = ("fp32", "int8-static")
_VECTORS_NAME = "speaker_vectors.safetensors"


def export_voice(plan: Plan, tell: Progress) -> Path:
    """Export the voice that `plan.checkpoint` is: a graph of Piper's, or a folder of transformers with a VITS or a
    SpeechT5.

    Raises CheckpointError, ExportError, MissingExtraError (phonemes need the extra `tts`); DriftError for a variant
    below its floor, unless `plan.keep_failing`; StorageError. An older bundle stands whatever is raised.
    """
    if plan.search is not None:
        raise ExportError("Variants of voices are not searched; name them: --variants fp32,int8-static")
    if plan.options.task not in (None, TASK):
        raise ExportError(f"{plan.checkpoint.source} is a voice, for the task {TASK}, not {plan.options.task}.")
    sealing.check_target(plan.output)
    try:
        tell("load the original")
        source = _original(plan)
        return _build(plan, source, tell)
    except OSError as error:
        raise StorageError(
            f"The export to {plan.output} failed: {error.strerror or error}. What stood there before is unchanged."
        ) from error


def _original(plan: Plan) -> Original:
    if plan.checkpoint.path.suffix == piper.SUFFIX:
        with quiet():
            return imported.load(plan.checkpoint.path)
    # These need torch; a graph of Piper's does not.
    from sanderling_export.voices import speecht5, vits

    with tempfile.TemporaryDirectory(prefix="sanderling-") as scratch, quiet():
        if "VitsModel" in description.architectures(plan.checkpoint):
            return vits.load(plan.checkpoint, Path(scratch))
        return speecht5.load(plan.checkpoint, Path(scratch))


def _build(plan: Plan, source: Original, tell: Progress) -> Path:
    tell("read sentences")
    front = VoiceFront(source.said.phonemes)
    known, check = (calibration.symbols(front, some) for some in calibration.gather(plan, source))
    tell("cut the graph")
    names = plan.options.variants or (("fp32",) if source.said.steps is not None else ("fp32", "int8-static"))
    if source.said.steps is not None and any(plan.making(name).precision not in _OF_STEPS for name in names):
        raise ExportError(
            f"The variants {', '.join(names)} were asked for; a voice that makes its frames step by step is exported "
            "as fp32, and as int8-static, which rounds its vocoder: what is rounded in one step is read by the next. "
            "Say --variants fp32,int8-static"
        )
    with staging_folder(plan.output) as staging:
        build = sealing.build_folder(staging)
        with quiet():
            fp32 = {name: cleaned(part, staging / f".{name}.onnx") for name, part in source.parts.items()}
            quantized = any(plan.making(name).precision != "fp32" for name in names)
            feeds = calibration.feeds(fp32, source, known) if quantized else {name: [] for name in fp32}
            paced: tuple[str, ...] = ()
            if DECODER in fp32:
                fp32[DECODER], paced = _paced(fp32[DECODER])
        components: dict[str, Component] = {}
        notes = [*plan.notes, *paced]
        for name, model in fp32.items():
            components[name], said = _component(plan, name, model, feeds[name], names, fp32, build, staging, tell)
            notes += said
        tell("write golden samples")
        golden = _golden(staging, build, source, front)
        draft = _draft(plan, source, components, golden, build, staging, notes)
        sealed = quality.measured(plan, draft, staging, source, check, tell)
        tell("verify")
        measuring.self_test(staging, sealed, plan.keep_failing)
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, sealed, plan.output)
    return plan.output


def _paced(decoder: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The decoder with convolutions in two dimensions, if it can be had and is not slower here; and a note of it."""
    made = planes.flattened(decoder)
    if made is None:
        return decoder, ()
    pace = planes.compare(decoder, made)
    what = f"{pace.value:.2f} times as fast as in one ({min(pace.ratios):.2f} to {max(pace.ratios):.2f})"
    if pace.value < 1:
        return decoder, (f"decoder: convolutions in two dimensions are not used: {what} on one thread",)
    return made, (f"decoder: convolutions in two dimensions, {what} on one thread where it was exported",)


def _component(
    plan: Plan,
    name: str,
    model: onnx.ModelProto,
    feeds: Sequence[dict[str, NDArray[np.generic]]],
    variants: Sequence[str],
    parts: Collection[str],
    build: Path,
    staging: Path,
    tell: Progress,
) -> tuple[Component, list[str]]:
    """One graph of `parts` in all variants, and notes on how they were made."""
    forms: dict[str, Form] = {}
    notes: list[str] = []
    for variant in variants:
        making = plan.making(variant)
        if making.precision != "fp32" and name in _IN_FLOAT:
            notes.append(f"{variant}: {name} keeps its floats, so that every sound is as long as the original's")
            if "fp32" in forms:
                forms[variant] = forms["fp32"]
                continue
            making = Making("fp32")
        tell(f"{name}: {variant}")
        if making.precision == "int8-static":
            model = graphs.named(model)
            making = replaced(making, settings=hiss.settings(making.settings, name, parts, model))
        with quiet():
            made, said = quantize.quantize(model, making.precision, feeds, making.settings)
        notes += [f"{name}, {one}" for one in said]
        forms[variant] = graphs.written(made, build / name / variant, staging)
    bare = Component(graphs.specs(model.graph.input), graphs.specs(model.graph.output), {})
    return assembly.component(bare, {variant: {FORM: form} for variant, form in forms.items()}), notes


def _golden(root: Path, build: Path, source: Original, front: VoiceFront) -> GoldenFiles:
    """Sentences with the original's ids and waveforms: without noise, and the first one with noise, too."""
    folder = build / "golden"
    folder.mkdir()
    samples: list[GoldenSample] = []
    tensors: dict[str, NDArray[np.generic]] = {}
    for number, text in enumerate(sentences.of(source.said.phonemes).golden, 1):
        (script,) = front.prepare([text], None)
        if not script.sentences:
            continue
        for seed in (None, 7) if not samples else (None,):
            name = f"sentence-{number}" if seed is None else f"sentence-{number}-noisy"
            ids, wave = source.waveform(script.sentences[0], seed)
            samples.append(GoldenSample(name, text=text, phonemes=script.sentences[0], seed=seed))
            tensors[f"{name}.input.input_ids"], tensors[f"{name}.output"] = ids, wave
    if not samples:
        raise ExportError("The voice says none of the golden sentences; `verify` would prove nothing.")
    (folder / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    (folder / "tensors.safetensors").write_bytes(save(tensors))
    prefix = folder.relative_to(root).as_posix()
    return GoldenFiles(f"{prefix}/samples.json", f"{prefix}/tensors.safetensors")


def _draft(
    plan: Plan,
    source: Original,
    components: Mapping[str, Component],
    golden: GoldenFiles,
    build: Path,
    staging: Path,
    notes: Sequence[str],
) -> Manifest:
    steps = source.said.steps
    if steps is not None and source.vectors is not None:
        (build / _VECTORS_NAME).write_bytes(save({VECTORS: source.vectors}))
        steps = replace(steps, vectors=f"{build.relative_to(staging).as_posix()}/{_VECTORS_NAME}")
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=plan.name,
        family="multimodal",
        task="text-to-speech",
        default_variant=assembly.default_variant(plan, tuple(components[ENCODER].variants)),
        components=dict(components),
        preprocessing=Preprocessing(phonemes=source.said.phonemes),
        postprocessing=SpeechOutput(
            output=WAVEFORM,
            sample_rate=source.said.sample_rate,
            hop=source.hop,
            context=source.context,
            normalize=source.said.normalize,
            settings=source.said.settings,
            speakers=source.said.speakers,
            steps=steps,
        ),
        golden=golden,
        provenance=assembly.provenance(plan, build, staging, notes),
        files=sealing.list_files(staging),
    )
