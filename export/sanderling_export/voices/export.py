"""The one way of an export of a voice: load -> cut -> quantize -> measure -> verify -> commit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray
from safetensors.numpy import save

from sanderling import sealing, verification
from sanderling.bundle import open_bundle
from sanderling.codec import encode
from sanderling.errors import ExportError, StorageError
from sanderling.golden import GoldenSample, read_golden
from sanderling.loading import load
from sanderling.manifest import (
    FORMAT,
    MAJOR_VERSION,
    MANIFEST_NAME,
    MINOR_VERSION,
    Component,
    Drift,
    Form,
    GoldenFiles,
    Invariance,
    Manifest,
    Metric,
    Preprocessing,
    Provenance,
    SpeechOutput,
    Tolerance,
    Variant,
)
from sanderling.preprocess import phonemes
from sanderling.speech import Phonemes
from sanderling.storage import staging_folder
from sanderling.tasks.text_to_speech import Voice
from sanderling.voice_front import VoiceFront
from sanderling.voice_rules import (
    DECODER,
    DURATION_NOISE,
    ENCODER,
    FLOW,
    IDS,
    LATENTS,
    LENGTH_SCALE,
    SPEAKER,
    SPECTRUM,
    TASK,
    VECTORS,
    VOCODER,
)
from sanderling.voice_verification import replay_speech
from sanderling_export import assembly, description, drift, graphs, measuring, quantize, references, speed, texts
from sanderling_export.plan import Making, Plan
from sanderling_export.progress import Progress
from sanderling_export.quiet import quiet
from sanderling_export.voices import imported, mel, piper, planes, sentences
from sanderling_export.voices.cleaning import cleaned
from sanderling_export.voices.original import Original
from sanderling_export.voices.surgery import WAVEFORM

FORM = "padded"
MEL_DISTANCE = "log_mel_distance"
# The encoder decides how long every sound is: rounded, it would say another length, and it takes little time.
_IN_FLOAT = (ENCODER,)
# Frames of a calibration sample of the decoder, all alike.
_CALIBRATION_FRAMES = 64
_SEED = 20261122
_VECTORS_NAME = "speaker_vectors.safetensors"
_FP32_COSINE, _FP32_MAX_ABS = 0.9999, 1e-3
_MARGIN, _SLACK, _MOST_APART = 2.0, 5e-3, 3.0


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
    calibration, check = (_symbols(front, some) for some in _texts(plan, source))
    tell("cut the graph")
    names = plan.options.variants or (("fp32",) if source.said.steps is not None else ("fp32", "int8-static"))
    if source.said.steps is not None and any(plan.making(name).precision != "fp32" for name in names):
        raise ExportError(
            f"The variants {', '.join(names)} were asked for; a voice that makes its frames step by step is exported "
            "as fp32 alone: what is rounded in one step is read by the next. Say --variants fp32"
        )
    with staging_folder(plan.output) as staging:
        build = sealing.build_folder(staging)
        with quiet():
            fp32 = {name: cleaned(part, staging / f".{name}.onnx") for name, part in source.parts.items()}
            quantized = any(plan.making(name).precision != "fp32" for name in names)
            feeds = _feeds(fp32, source, calibration) if quantized else {name: [] for name in fp32}
            paced: tuple[str, ...] = ()
            if DECODER in fp32:
                fp32[DECODER], paced = _paced(fp32[DECODER])
        components: dict[str, Component] = {}
        notes = [*plan.notes, *paced]
        for name, model in fp32.items():
            components[name], said = _component(plan, name, model, feeds[name], names, build, staging, tell)
            notes += said
        tell("write golden samples")
        golden = _golden(staging, build, source, front)
        draft = _draft(plan, source, components, golden, build, staging, notes)
        sealed = _measured(plan, draft, staging, source, check, tell)
        tell("verify")
        measuring.self_test(staging, sealed, plan.keep_failing)
        tell("commit")
        (staging / MANIFEST_NAME).unlink()
        sealing.commit_bundle(staging, sealed, plan.output)
    return plan.output


def _texts(plan: Plan, source: Original) -> tuple[Sequence[str], Sequence[str]]:
    own = plan.own_data
    if own is not None or plan.data.texts is not None:
        found = texts.read(own if own is not None else references.locate(str(plan.data.texts), plan.base))
        return found[::2], found[1::2]
    own_sentences = sentences.of(source.said.phonemes)
    return own_sentences.calibration, own_sentences.check


def _symbols(front: VoiceFront, some: Sequence[str]) -> list[tuple[str, ...]]:
    return [sentence for script in front.prepare(list(some), None) for sentence in script.sentences]


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


def _feeds(
    fp32: Mapping[str, onnx.ModelProto], source: Original, calibration: Sequence[tuple[str, ...]]
) -> dict[str, list[dict[str, NDArray[np.generic]]]]:
    """What each graph is given for the sentences that calibrate, with noise; the frames in parts of one length."""
    runners = {name: graphs.session(model) for name, model in fp32.items()}
    found: dict[str, list[dict[str, NDArray[np.generic]]]] = {name: [] for name in fp32}
    settings = source.said.settings
    speaker = {SPEAKER: np.array([next(iter(source.said.speakers.values()), 0)], np.int64)}

    def run(name: str, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
        taken = {one.name for one in runners[name].get_inputs()}
        given = {key: value for key, value in {**feeds, **speaker}.items() if key in taken}
        result: list[NDArray[np.float32]] = runners[name].run(None, given)
        return result

    for number, symbols in enumerate(calibration):
        ids = phonemes.ids(symbols, source.said.phonemes)
        draw = np.random.RandomState([_SEED, number])
        noise = draw.standard_normal((1, 2, ids.shape[1])).astype(np.float32) * np.float32(settings.duration_noise)
        length = np.ones(1, np.float32)
        mean, scale = run(ENCODER, {IDS: ids, DURATION_NOISE: noise, LENGTH_SCALE: length})
        drawn = draw.standard_normal(mean.shape).astype(np.float32)
        latents = mean + drawn * scale * np.float32(settings.noise)
        (spectrum,) = run(FLOW, {LATENTS: latents})
        for name, key, frames in ((FLOW, LATENTS, latents), (DECODER, SPECTRUM, spectrum)):
            for start in range(0, frames.shape[2] - _CALIBRATION_FRAMES + 1, _CALIBRATION_FRAMES):
                part = np.ascontiguousarray(frames[:, :, start : start + _CALIBRATION_FRAMES])
                taken = {one.name for one in runners[name].get_inputs()}
                found[name].append({key: part, **{k: v for k, v in speaker.items() if k in taken}})
    return found


def _component(
    plan: Plan,
    name: str,
    model: onnx.ModelProto,
    feeds: Sequence[dict[str, NDArray[np.generic]]],
    variants: Sequence[str],
    build: Path,
    staging: Path,
    tell: Progress,
) -> tuple[Component, list[str]]:
    """One graph in all variants, and notes on how they were made."""
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
        with quiet():
            made, said = quantize.quantize(model, making.precision, feeds, making.settings)
        notes += [f"{name}, {one}" for one in said]
        folder = build / name / variant
        graphs.save(made, folder)
        prefix = folder.relative_to(staging).as_posix()
        data = (f"{prefix}/{graphs.WEIGHTS_NAME}",) if (folder / graphs.WEIGHTS_NAME).exists() else ()
        forms[variant] = Form(f"{prefix}/{graphs.GRAPH_NAME}", data)
    made_variants = {variant: Variant({FORM: form}, Tolerance(-1.0)) for variant, form in forms.items()}
    return Component(graphs.specs(model.graph.input), graphs.specs(model.graph.output), made_variants), notes


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
    license_file = None
    if plan.license_file is not None:
        shutil.copyfile(plan.license_file, build / assembly.LICENSE_NAME)
        license_file = f"{build.relative_to(staging).as_posix()}/{assembly.LICENSE_NAME}"
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
        provenance=Provenance(
            plan.checkpoint.source,
            plan.checkpoint.sha256,
            plan.license,
            license_file,
            assembly.versions(),
            tuple(notes),
        ),
        files=sealing.list_files(staging),
    )


def _measured(
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
        short = drift.shortfalls(found, floor) if floor is not None else []
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
    return replace(
        draft,
        components={
            name: replace(component, variants=components[name]) for name, component in draft.components.items()
        },
        provenance=replace(draft.provenance, notes=(*draft.provenance.notes, *timed)),
    )


def _drift(
    model: Voice, check: Sequence[tuple[str, ...]], expected: Sequence[NDArray[np.float32]]
) -> tuple[Drift, Invariance]:
    """Of the waveforms of sentences, beside the original's; and how far they move when they are said together."""
    said = [_said(model, symbols, _SEED + number) for number, symbols in enumerate(check)]
    rows, wanted = np.empty(len(said), object), np.empty(len(said), object)
    rows[:], wanted[:] = said, list(expected)
    measured = drift.measure(rows, wanted, labels=False, names=[f"sentence {n}" for n in range(1, len(said) + 1)])
    distances = [mel.distance(one, other, model.sample_rate) for one, other in zip(said, expected, strict=True)]
    metric = Metric(float(np.mean(distances)), 0.0, len(distances))
    together = [one.audio for one in model([Phonemes((symbols,)) for symbols in check])]
    alone = [model(Phonemes((symbols,))).audio for symbols in check]
    moved = min(
        float(verification.cosines(a[None], b[None])[0]) if a.shape == b.shape else -1.0
        for a, b in zip(together, alone, strict=True)
    )
    return replace(measured, metrics={MEL_DISTANCE: metric}), Invariance(moved)


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
