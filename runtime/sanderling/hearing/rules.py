"""What holds together in the manifest of a model that hears with a single graph: its features, and what is made of
its answers."""

from __future__ import annotations

from sanderling.errors import ManifestError
from sanderling.manifest import Manifest
from sanderling.schema.answers import CtcOutput
from sanderling.schema.sounds import AudioPreprocessing, Filterbank, LogMel, Waveform
from sanderling.schema.vectors import EmbeddingOutput

CLASSIFICATION = "audio-classification"
RECOGNITION = "automatic-speech-recognition"
# Models of one graph that may hear; what each gives is looked at where all tasks are.
_TASKS = {CLASSIFICATION, RECOGNITION, "feature-extraction"}


def check(manifest: Manifest, where: str) -> None:
    """Raise ManifestError for a contradiction; manifests of models that do not hear are left alone."""
    head, audio = manifest.postprocessing, manifest.preprocessing.audio
    if isinstance(head, EmbeddingOutput) and head.same_from is not None and audio is None:
        raise ManifestError(f"{where}: postprocessing.same_from goes with vectors of sounds.")
    if audio is not None and audio.short is not None and not isinstance(audio.features, LogMel):
        raise ManifestError(f"{where}: preprocessing.audio.short goes with features of the type log_mel.")
    if isinstance(head, CtcOutput):
        _check_ctc(manifest, head, where)
    if audio is None or isinstance(audio.features, LogMel):
        if manifest.task == CLASSIFICATION and audio is not None:
            raise ManifestError(f"{where}: the task {CLASSIFICATION} takes a waveform or a filterbank.")
        return
    if isinstance(audio.features, Waveform) and "audio_encoder" in manifest.components:
        return  # of a model that generates, whose own rules look at it
    if manifest.task not in _TASKS or len(manifest.components) != 1 or audio.voice is not None:
        raise ManifestError(
            f"{where}: features of the type waveform or filterbank go with the tasks {', '.join(sorted(_TASKS))}, a "
            "single component, and without preprocessing.audio.voice."
        )
    if manifest.preprocessing.text is not None or manifest.preprocessing.image is not None:
        raise ManifestError(f"{where}: preprocessing.audio stands alone in a bundle of the task {manifest.task}.")
    _check_features(audio, where)
    (component,) = manifest.components.values()
    shape: tuple[int | None, ...] = (None, None)
    if isinstance(audio.features, Filterbank):
        shape = (None, audio.features.frames, audio.features.bands)
    given = component.inputs
    fits = len(given) == 1 and given[0].dtype == "float32" and len(given[0].shape) == len(shape)
    if not fits or any(want is not None and want != met for want, met in zip(shape, given[0].shape, strict=True)):
        wanted = ", ".join(str(extent or "any") for extent in shape)
        raise ManifestError(
            f"{where}: the graph takes one input, float32 of the shape ({wanted}), as preprocessing.audio makes it."
        )


def _check_features(audio: AudioPreprocessing, where: str) -> None:
    features = audio.features
    if isinstance(features, Waveform) and features.most is not None and features.most < features.least:
        raise ManifestError(f"{where}: preprocessing.audio.features has a most below its least.")
    if not isinstance(features, Filterbank):
        return
    if not features.hop <= features.window <= features.fft:
        raise ManifestError(f"{where}: of preprocessing.audio.features hop is at most window, and window at most fft.")
    whole = all(abs(value) < float("inf") for value in (features.mean, features.divisor))
    if not whole or features.divisor == 0 or features.lowest >= audio.rate / 2:
        raise ManifestError(
            f"{where}: of preprocessing.audio.features mean and divisor are finite numbers, the latter not 0, and "
            "lowest is below half the rate."
        )


def _check_ctc(manifest: Manifest, head: CtcOutput, where: str) -> None:
    audio = manifest.preprocessing.audio
    if manifest.task != RECOGNITION or manifest.family != "multimodal" or audio is None:
        raise ManifestError(
            f"{where}: a postprocessing of type 'ctc' goes with the task {RECOGNITION}, the family multimodal, and "
            "preprocessing.audio."
        )
    features = audio.features
    if not isinstance(features, Waveform) or features.most is not None or features.least < head.field:
        raise ManifestError(
            f"{where}: a postprocessing of type 'ctc' takes waveforms of any length from {head.field:,} samples "
            "(field) on."
        )
    for name, token in (("blank", head.blank), ("delimiter", head.delimiter)):
        if token is not None and token >= len(head.tokens):
            raise ManifestError(f"{where}: {name} is {token:,}, but there are {len(head.tokens):,} tokens.")
    if head.delimiter == head.blank:
        raise ManifestError(f"{where}: blank and delimiter are two tokens.")
    if head.window <= 2 * head.margin:
        raise ManifestError(f"{where}: a window of {head.window} frames leaves none between margins of {head.margin}.")
