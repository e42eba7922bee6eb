"""What holds together in the manifest of a voice: its three graphs, its sounds, and what it says of its speech."""

from __future__ import annotations

from sanderling.decode.names import CROSS, PAST, PRESENT
from sanderling.errors import ManifestError
from sanderling.manifest import Manifest
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.variants import Component, TensorSpec
from sanderling.schema.voices import FrameSteps, SpeechOutput

TASK = "text-to-speech"
ENCODER, FLOW, DECODER = "encoder", "flow", "decoder"
# Of a voice that makes frames step by step.
FRAME_DECODER, POSTNET, VOCODER = "frame_decoder", "postnet", "vocoder"

# Inputs and outputs of each graph, by name: their dtype and rank.
IDS, DURATION_NOISE, LENGTH_SCALE, SPEAKER = "input_ids", "duration_noise", "length_scale", "speaker_id"
MEAN, SCALE, LATENTS, SPECTRUM = "prior_mean", "prior_scale", "latents", "spectrum"
FRAME, STEP, DROPOUT, VECTOR, RAW, END = "frame", "step", "dropout", "speaker_vector", "frames", "end"
# The tensor of speakers' vectors in their file.
VECTORS = "speaker_vectors"
_SPEAKER = {SPEAKER: ("int64", 1)}
_INPUTS: dict[str, dict[str, tuple[str, int]]] = {
    ENCODER: {IDS: ("int64", 2), DURATION_NOISE: ("float32", 3), LENGTH_SCALE: ("float32", 1)},
    FLOW: {LATENTS: ("float32", 3)},
    DECODER: {SPECTRUM: ("float32", 3)},
}
_OUTPUTS: dict[str, dict[str, tuple[str, int]]] = {
    ENCODER: {MEAN: ("float32", 3), SCALE: ("float32", 3)},
    FLOW: {SPECTRUM: ("float32", 3)},
}
# The same of a voice of steps, but for its caches.
_STEP_INPUTS: dict[str, dict[str, tuple[str, int]]] = {
    ENCODER: {IDS: ("int64", 2)},
    FRAME_DECODER: {
        FRAME: ("float32", 3), STEP: ("int64", 1), DROPOUT: ("float32", 3), VECTOR: ("float32", 2)
    },
    POSTNET: {RAW: ("float32", 3)},
    VOCODER: {SPECTRUM: ("float32", 3)},
}  # fmt: skip
_STEP_OUTPUTS: dict[str, dict[str, tuple[str, int]]] = {
    ENCODER: {},
    FRAME_DECODER: {RAW: ("float32", 3), END: ("float32", 2)},
    POSTNET: {SPECTRUM: ("float32", 3)},
}


def check(manifest: Manifest, where: str) -> None:
    """Raise ManifestError for a contradiction; other tasks' manifests are only held to have no such postprocessing."""
    head = manifest.postprocessing
    if (manifest.task == TASK) != isinstance(head, SpeechOutput):
        raise ManifestError(f"{where}: the task {TASK} and a postprocessing of type 'speech' go together.")
    if not isinstance(head, SpeechOutput):
        return
    sounds = manifest.preprocessing.phonemes
    if sounds is None or manifest.family != "multimodal":
        raise ManifestError(f"{where}: the task {TASK} needs preprocessing.phonemes, and the family multimodal.")
    if head.steps is not None:
        _check_steps(manifest, head, head.steps, where)
        _check_sounds(sounds, where)
        return
    if set(manifest.components) != {ENCODER, FLOW, DECODER}:
        raise ManifestError(
            f"{where} has the components {', '.join(sorted(manifest.components))}; the task {TASK} has {ENCODER}, "
            f"{FLOW} and {DECODER}."
        )
    for name, component in manifest.components.items():
        _check_tensors(component.inputs, _INPUTS[name], _SPEAKER, f"{where}: the component {name!r} takes")
        made = _OUTPUTS.get(name, {head.output: ("float32", 2)})
        _check_tensors(component.outputs, made, {}, f"{where}: the component {name!r} gives")
    _check_speakers(manifest, head, where)
    _check_channels(manifest.components, where)
    _check_sounds(sounds, where)


def _check_steps(manifest: Manifest, head: SpeechOutput, steps: FrameSteps, where: str) -> None:
    components = manifest.components
    if set(components) != set(_STEP_INPUTS):
        raise ManifestError(
            f"{where} has the components {', '.join(sorted(components))}; a voice of steps has "
            f"{', '.join(_STEP_INPUTS)}."
        )
    for name, component in components.items():
        inputs = tuple(spec for spec in component.inputs if not spec.name.startswith((PAST, CROSS)))
        outputs = tuple(spec for spec in component.outputs if not spec.name.startswith((PRESENT, CROSS)))
        _check_tensors(inputs, _STEP_INPUTS[name], {}, f"{where}: the component {name!r} takes")
        made = _STEP_OUTPUTS.get(name, {head.output: ("float32", 2)})
        _check_tensors(outputs, made, {}, f"{where}: the component {name!r} gives")
    _check_caches(components, where)
    if not head.speakers or steps.vectors not in manifest.files:
        raise ManifestError(f"{where}: a voice of steps has speakers, and their vectors in a listed file.")
    spectrum = components[VOCODER].inputs[0].shape[1]
    frame, dropout = ({spec.name: spec.shape for spec in components[FRAME_DECODER].inputs}[n] for n in (FRAME, DROPOUT))
    sizes = {spectrum, frame[2], components[POSTNET].inputs[0].shape[1], components[POSTNET].outputs[0].shape[1]}
    if len(sizes) != 1 or not isinstance(spectrum, int) or dropout[1:] != (steps.layers, steps.units):
        raise ManifestError(
            f"{where}: the frames between the graphs of a voice have one size, a number, and {DROPOUT} has the layers "
            "and units of postprocessing.steps."
        )


def _check_caches(components: dict[str, Component], where: str) -> None:
    """What each step leaves is what the next one takes, and what the encoder gives is what every step takes."""
    taken = {spec.name: spec for spec in components[FRAME_DECODER].inputs}
    given = {spec.name: spec for one in (ENCODER, FRAME_DECODER) for spec in components[one].outputs}
    past = {name.removeprefix(PAST) for name in taken if name.startswith(PAST)}
    present = {name.removeprefix(PRESENT) for name in given if name.startswith(PRESENT)}
    crossed = {name for name in taken if name.startswith(CROSS)}
    if not past or past != present or crossed != {name for name in given if name.startswith(CROSS)}:
        raise ManifestError(
            f"{where}: the caches that {FRAME_DECODER} takes ({PAST}, {CROSS}) are not those that it and {ENCODER} "
            "give."
        )


def _check_tensors(
    found: tuple[TensorSpec, ...], needed: dict[str, tuple[str, int]], possible: dict[str, tuple[str, int]], where: str
) -> None:
    kinds = {spec.name: (spec.dtype, len(spec.shape)) for spec in found}
    wrong = [name for name, kind in kinds.items() if (needed | possible).get(name) != kind]
    if wrong or not set(needed) <= set(kinds) or len(kinds) != len(found):
        expected = ", ".join(f"{name} of {dtype} and rank {rank}" for name, (dtype, rank) in needed.items())
        given = ", ".join(f"{name} of {dtype} and rank {rank}" for name, (dtype, rank) in kinds.items())
        raise ManifestError(f"{where} {given}; {expected} were expected.")


def _check_speakers(manifest: Manifest, head: SpeechOutput, where: str) -> None:
    told = [name for name, one in manifest.components.items() if any(spec.name == SPEAKER for spec in one.inputs)]
    if bool(told) != bool(head.speakers):
        raise ManifestError(f"{where}: postprocessing names speakers exactly where a graph takes a {SPEAKER}.")


def _check_channels(components: dict[str, Component], where: str) -> None:
    """All that goes from graph to graph has frames of one size."""
    tensors = [*components[ENCODER].outputs, *components[FLOW].inputs, *components[FLOW].outputs]
    tensors += components[DECODER].inputs
    sizes = {spec.shape[1] for spec in tensors if spec.name != SPEAKER}
    noise = next(spec for spec in components[ENCODER].inputs if spec.name == DURATION_NOISE)
    if len(sizes) != 1 or not all(isinstance(size, int) and 1 <= size <= 65_536 for size in (*sizes, noise.shape[1])):
        raise ManifestError(f"{where}: the frames between the graphs of a voice have one size, a number.")


def _check_sounds(sounds: PhonemesPreprocessing, where: str) -> None:
    if (sounds.alphabet == "espeak") != (sounds.voice is not None):
        raise ManifestError(f"{where}: preprocessing.phonemes has a voice exactly where its alphabet is 'espeak'.")
    if sounds.alphabet == "espeak" and (sounds.lowercase or sounds.blanks != "kept"):
        raise ManifestError(
            f"{where}: lowercase and blanks of preprocessing.phonemes go with the alphabet 'characters'."
        )
    for cluster in sounds.clusters:
        if "".join(cluster) not in sounds.ids:
            raise ManifestError(f"{where}: the cluster {'+'.join(cluster)!r} has no ids in preprocessing.phonemes.")
