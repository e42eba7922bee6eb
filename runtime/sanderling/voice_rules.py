"""What holds together in the manifest of a voice: its three graphs, its sounds, and what it says of its speech."""

from __future__ import annotations

from sanderling.errors import ManifestError
from sanderling.manifest import Component, Manifest, PhonemesPreprocessing, SpeechOutput, TensorSpec

TASK = "text-to-speech"
ENCODER, FLOW, DECODER = "encoder", "flow", "decoder"

# Inputs and outputs of each graph, by name: their dtype and rank.
IDS, DURATION_NOISE, LENGTH_SCALE, SPEAKER = "input_ids", "duration_noise", "length_scale", "speaker_id"
MEAN, SCALE, LATENTS, SPECTRUM = "prior_mean", "prior_scale", "latents", "spectrum"
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
