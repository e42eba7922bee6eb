"""The one way of an export of what generates: load -> convert -> quantize -> measure -> verify -> commit."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import sealing, verification
from sanderling.codec import encode
from sanderling.decode.names import CROSS
from sanderling.errors import ExportError, SanderlingError, StorageError
from sanderling.generation.rules import ANSWERING, DECODER, TASKS, VOICE_ACTIVITY
from sanderling.manifest import (
    FORMAT,
    MAJOR_VERSION,
    MANIFEST_NAME,
    MINOR_VERSION,
    GoldenFiles,
    Manifest,
    Preprocessing,
)
from sanderling.plan import PADDED
from sanderling.reasons import first_line
from sanderling.schema.variants import Component, Form
from sanderling.storage import staging_folder
from sanderling_export import assembly, convert, graphs, quantize, samples
from sanderling_export.generation import golden, measures, originals, questions, ranges
from sanderling_export.generation.originals import CausalLM, Original
from sanderling_export.plan import Making, Plan
from sanderling_export.quiet import quiet
from sanderling_export.settings import of_graph
from sanderling_export.speech import sounds, voice
from sanderling_export.tokens import TOKENIZER_NAME

Progress = Callable[[str], None]

VARIANTS = ("fp32", "int8-weight-only")
# An encoder that hears multiplies large matrices, which 8-bit activations make faster.
VARIANTS_OF_SPEECH = ("fp32", "int8-dynamic")
# Inputs that drift is measured on and ranges are found with, and golden ones: each is a whole run of the original.
_CHECK, _CALIBRATION, _GOLDEN = 48, 48, 5
# New tokens of each golden sample, and the tokens that a text of the samples has at most.
_STEPS, _LONGEST = 6, 96
# Precisions that need samples of a graph's inputs.
_CALIBRATED = ("int8-dynamic", "int8-static")


@dataclass(frozen=True, slots=True)
class Samples:
    """Texts, RGB images, questions about these, or sounds: to find ranges with, to measure on, and to keep."""

    calibration: list[Any]
    check: list[Any]
    golden: list[Any]


def export_generator(plan: Plan, tell: Progress) -> Path:
    """Export a checkpoint that generates to the bundle folder of `plan`.

    Raises CheckpointError, ExportError; DriftError for a variant below its floor, unless the plan keeps it;
    StorageError where writing fails.
    """
    if plan.search is not None:
        raise ExportError(
            "Variants of models that generate are not searched when they are exported. Name some, as --variants "
            "fp32,int8-weight-only,int8-dynamic; `sanderling tune` then finds the fastest of them on each machine, "
            "and --min-agreement bounds how many of the original's tokens it may miss."
        )
    sealing.check_target(plan.output)
    try:
        with staging_folder(plan.output):
            pass  # where nothing can be written, that is said now and not after minutes of converting
        return _build(plan, tell)
    except OSError as error:
        raise StorageError(
            f"The export to {plan.output} failed: {error.strerror or error}. What stood there before is unchanged."
        ) from error


def _build(plan: Plan, tell: Progress) -> Path:
    tell("load the original")
    with quiet():
        source = originals.load(plan.checkpoint, plan.options)
    tell("gather samples")
    with quiet():
        picked = _samples(source, plan)
    tell("convert to ONNX")
    nets = _converted(plan, source)
    rewritten: list[str] = []
    if source.description.image is not None:
        tell("rewrite the graphs before the decoder")
        nets, rewritten = _rewritten(nets)
    tell(f"answer {len(picked.check)} samples with the original")
    with quiet():
        expected = originals.answers(source, picked.check)
    chosen = plan.options.variants or (VARIANTS_OF_SPEECH if source.description.audio is not None else VARIANTS)
    feeds: dict[str, list[dict[str, NDArray[Any]]]] = {}
    if any(plan.making(variant).precision in _CALIBRATED for variant in chosen):
        tell(f"record what {len(picked.calibration)} samples give each graph")
        with quiet(), tempfile.TemporaryDirectory() as scratch:
            feeds = ranges.recorded(source, nets, picked.calibration, _STEPS, Path(scratch))
    with staging_folder(plan.output) as staging:
        build = sealing.build_folder(staging)
        components: dict[str, Component] = {}
        notes = [*plan.notes, *source.description.notes, *rewritten]
        for name, net in nets.items():
            making = _light(plan, chosen) if _is_told(name, net) else plan
            components[name], said = _component(making, name, nets, chosen, feeds.get(name, ()), build, staging, tell)
            notes += said
        heard: dict[str, NDArray[np.float32]] = {}
        known = source.description
        if known.audio is not None and known.audio.voice is not None and plan.options.voice_activity is not None:
            components[VOICE_ACTIVITY], heard = _voice(
                plan.options.voice_activity, known.audio.rate, picked, components, build, staging
            )
        tell("write golden samples")
        with quiet():
            files = golden.write(staging, build, source, picked.golden, _STEPS, heard)
        draft = _manifest(plan, source, components, files, build, staging, notes)
        sealed = measures.measured(plan, draft, staging, picked.check, expected, tell)
        tell("verify")
        (staging / MANIFEST_NAME).write_bytes(encode(sealed))
        report = verification.verify(staging, provider="cpu")
        if not report.held and not plan.keep_failing:
            reasons = "; ".join(f"{one.variant}: {one.reason}" for one in report.combinations if not one.held)
            raise ExportError(f"The bundle does not verify: {reasons}. Nothing was written; see --keep-failing.")
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, sealed, plan.output)
    return plan.output


def _samples(source: Original, plan: Plan) -> Samples:
    """What every export takes, fewer of them, and of texts as much as leaves room for what is generated."""
    if source.description.task == ANSWERING:
        asked = questions.gather(source.description, plan)
        return Samples(asked.calibration[:_CALIBRATION], asked.check[:_CHECK], asked.golden[:_GOLDEN])
    if source.description.audio is not None:
        return Samples(*sounds.gather(source.description.audio.rate, plan.own_data))
    picked = samples.gather(source.description, plan.data, plan.base, plan.own_data)
    if not isinstance(source, CausalLM):
        return Samples(picked.calibration[:_CALIBRATION], picked.check[:_CHECK], picked.golden[:_GOLDEN])
    most = min(_LONGEST, source.context - _STEPS)
    if most < 1:
        raise ExportError(f"The model has a context of {source.context} tokens, too few to measure anything.")

    def fitting(texts: Sequence[object], count: int) -> list[str]:
        cut = (source.cut(text, most) for text in texts if isinstance(text, str))
        return [text for text in dict.fromkeys(cut) if text][:count]

    found = Samples(
        fitting(picked.calibration, _CALIBRATION), fitting(picked.check, _CHECK), fitting(picked.golden, _GOLDEN)
    )
    if not found.check or not found.golden:
        raise ExportError("None of the samples is a prompt with a token in it; give texts with --data.")
    return found


def _converted(plan: Plan, source: Original) -> dict[str, onnx.ModelProto]:
    with tempfile.TemporaryDirectory() as scratch, quiet():
        try:
            return source.graphs(Path(scratch))
        except SanderlingError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ExportError(
                f"{plan.checkpoint.path} cannot be converted to ONNX: {first_line(error)}. "
                "Its decoder may not keep keys and values as transformers' cache does."
            ) from error


def _rewritten(nets: Mapping[str, onnx.ModelProto]) -> tuple[dict[str, onnx.ModelProto], list[str]]:
    """The graphs that see and read in their fastest form, and notes on it; a decoder, whose attention has a past,
    is left as it is."""
    found, notes = dict(nets), []
    with quiet():
        for name in nets:
            if name != DECODER:
                made = convert.rewritten(nets[name])
                found[name] = made.model
                notes += [f"{name}, {note}" for note in made.notes]
    return found, notes


def _component(
    plan: Plan,
    name: str,
    nets: Mapping[str, onnx.ModelProto],
    chosen: Sequence[str],
    feeds: Sequence[dict[str, NDArray[Any]]],
    build: Path,
    staging: Path,
    tell: Progress,
) -> tuple[Component, list[str]]:
    """One graph of `nets` in all variants, and notes on how they were made."""
    forms: dict[str, dict[str, Form]] = {}
    notes: list[str] = []
    net = nets[name]
    for variant in dict.fromkeys(chosen):
        making = plan.making(variant)
        tell(f"{name}: {variant}")
        with quiet():
            made, said = quantize.quantize(net, making.precision, feeds, of_graph(making.settings, name, nets))
        notes += [f"{name}, {one}" for one in said]
        form = graphs.written(made, build / name / variant, staging, optimized=graphs.is_fused(made))
        forms[variant] = {PADDED: form}
    bare = Component(graphs.specs(net.graph.input), graphs.specs(net.graph.output), {})
    return assembly.component(bare, forms), notes


def _is_told(name: str, net: onnx.ModelProto) -> bool:
    """Whether a graph is a decoder that is told what was heard or seen by keys and values, and not by tokens."""
    return name == DECODER and any(value.name.startswith(CROSS) for value in net.graph.input)


def _light(plan: Plan, chosen: Sequence[str]) -> Plan:
    """The plan of a decoder that is told what was heard or seen: where precisions are calibrated, its weights alone are
    8-bit.

    It reads one token at a time, of which reading the weights is most of the work.
    """
    made = {variant: plan.making(variant) for variant in chosen}
    light = {
        name: Making("int8-weight-only", one.settings) if one.precision in _CALIBRATED else one
        for name, one in made.items()
    }
    return dataclasses.replace(plan, makings=light)


def _voice(
    path: Path, rate: int, picked: Samples, known: Mapping[str, Component], build: Path, staging: Path
) -> tuple[Component, dict[str, NDArray[np.float32]]]:
    """The detector of voices, in every variant the same, and what it says of the golden sounds, by tensors' names."""
    graph = build / VOICE_ACTIVITY / graphs.GRAPH_NAME
    graph.parent.mkdir()
    model = voice.read(path, rate)
    onnx.save(model, graph)
    made = voice.component(model, graph.relative_to(staging).as_posix(), tuple(known[DECODER].variants))
    found = voice.answers(graph, made, [sound.samples for sound in picked.golden])
    return made, {f"sound-{place}.{VOICE_ACTIVITY}.output": chances for place, chances in enumerate(found, 1)}


def _manifest(
    plan: Plan,
    source: Original,
    components: Mapping[str, Component],
    files: GoldenFiles,
    build: Path,
    staging: Path,
    notes: Sequence[str],
) -> Manifest:
    known, prefix = source.description, build.relative_to(staging).as_posix()
    assert known.tokenizer is not None  # every model that generates has one
    assert known.text is not None
    (build / TOKENIZER_NAME).write_bytes(known.tokenizer)
    made = tuple(components[measures.last(components)].variants)
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=plan.name,
        family=TASKS[known.task][1],  # type: ignore[arg-type]
        task=known.task,
        default_variant=assembly.default_variant(plan, made),
        components=dict(components),
        preprocessing=Preprocessing(
            replace(known.text, tokenizer=f"{prefix}/{TOKENIZER_NAME}"),
            known.image,
            audio=known.audio,
            video=plan.options.video,
        ),
        postprocessing=known.head,
        golden=files,
        provenance=assembly.provenance(plan, build, staging, notes),
        files=sealing.list_files(staging),
    )
