"""What holds together in the manifest of a model that generates: graphs, their caches, tokens and settings."""

from __future__ import annotations

from collections.abc import Mapping

from sanderling.decode.names import CROSS, IMAGE, INPUT_IDS, PAST, PRESENT
from sanderling.errors import ManifestError
from sanderling.manifest import Manifest
from sanderling.schema.answers import CtcOutput
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.sounds import AudioPreprocessing, LogMel, VoiceActivity, Waveform
from sanderling.schema.variants import Component, TensorSpec

DECODER, VISION_ENCODER, TEXT_ENCODER = "decoder", "vision_encoder", "text_encoder"
AUDIO_ENCODER = "audio_encoder"
# Says where somebody speaks; a model that hears may have it.
VOICE_ACTIVITY = "voice_activity"
ANSWERING = "visual-question-answering"
# The components of each task that generates, and its family.
TASKS = {
    "text-generation": ((DECODER,), "general"),
    "image-to-text": ((VISION_ENCODER, DECODER), "multimodal"),
    ANSWERING: ((VISION_ENCODER, TEXT_ENCODER, DECODER), "multimodal"),
    "automatic-speech-recognition": ((AUDIO_ENCODER, DECODER), "multimodal"),
}


def check(manifest: Manifest, where: str) -> None:
    """Raise ManifestError for a contradiction; other tasks' manifests are only held to have no such postprocessing."""
    head = manifest.postprocessing
    if manifest.task == ANSWERING and not isinstance(head, GenerationOutput):
        return  # one that chooses among answers
    if isinstance(head, CtcOutput):
        return  # one that writes down what each frame says, without a decoder
    if (manifest.task in TASKS) != isinstance(head, GenerationOutput):
        raise ManifestError(
            f"{where}: a postprocessing of type 'generation' goes with the tasks {' and '.join(TASKS)}, and they with "
            "it."
        )
    if not isinstance(head, GenerationOutput):
        return
    names, family = TASKS[manifest.task]
    if head.picture is not None:
        names = _check_picture(head, manifest.task, where)
    if set(manifest.components) - {VOICE_ACTIVITY} != set(names) or manifest.family != family:
        raise ManifestError(
            f"{where} has the components {', '.join(sorted(manifest.components))}, family {manifest.family}; the "
            f"task {manifest.task} has {' and '.join(names)}, and is {family}."
        )
    text = manifest.preprocessing.text
    _check_speech(manifest, head, where)
    if text is None or (VISION_ENCODER in names and manifest.preprocessing.image is None):
        needed = "preprocessing.text and preprocessing.image" if VISION_ENCODER in names else "preprocessing.text"
        raise ManifestError(f"{where}: the task {manifest.task} needs {needed}.")
    if text.max_tokens > head.context:
        raise ManifestError(f"{where}: max_tokens is {text.max_tokens}, but the context {head.context}.")
    _check_tokens(head, manifest.task, where)
    if head.picture is not None and text.max_tokens + head.picture.count > head.context:
        raise ManifestError(
            f"{where}: max_tokens is {text.max_tokens}, with {head.picture.count} of a picture more than the context."
        )
    if TEXT_ENCODER in names:
        _check_reader(manifest.components, where)
    encoder = manifest.components[names[-2]] if len(names) > 1 else None
    _check_caches(manifest.components[DECODER], head, encoder, where)


def _check_picture(head: GenerationOutput, task: str, where: str) -> tuple[str, ...]:
    """The components of a model whose prompts hold a picture."""
    picture = head.picture
    assert picture is not None  # or this is not asked
    if task != ANSWERING or picture.template.count("{}") != 1 or picture.token >= head.vocabulary:
        raise ManifestError(
            f"{where}: postprocessing.picture goes with the task {ANSWERING}, a template with one {{}} for the "
            "question, and a token of the vocabulary."
        )
    return (VISION_ENCODER, DECODER)


def _check_reader(components: Mapping[str, Component], where: str) -> None:
    """The graph that reads a question is given its tokens, and what the vision encoder says of the picture."""
    given = {spec.name: spec.dtype for spec in components[TEXT_ENCODER].inputs}
    seen = {spec.name: spec.dtype for spec in components[VISION_ENCODER].outputs}
    if given != {INPUT_IDS: "int64", IMAGE: seen.get(IMAGE, "")}:
        raise ManifestError(
            f"{where}: the text encoder takes {', '.join(sorted(given))}; {INPUT_IDS} of int64 and {IMAGE}, an output "
            "of the vision encoder, were expected."
        )


def _check_tokens(head: GenerationOutput, task: str, where: str) -> None:
    for name in ("stop_token_ids", "start_token_ids"):
        beyond = [token for token in getattr(head, name) if token >= head.vocabulary]
        if beyond:
            raise ManifestError(f"{where}: {name} has {beyond[0]}, but the vocabulary has {head.vocabulary:,} tokens.")
    prompted = task == "text-generation" or head.picture is not None
    if prompted == bool(head.start_token_ids):
        raise ManifestError(f"{where}: start_token_ids are there where a sequence does not begin with a prompt.")
    if len(head.start_token_ids) >= head.context:
        raise ManifestError(f"{where}: start_token_ids leave no room in the context.")
    if head.settings.do_sample and head.settings.num_beams > 1:
        raise ManifestError(f"{where}: settings have do_sample, which goes with num_beams = 1.")


def _check_speech(manifest: Manifest, head: GenerationOutput, where: str) -> None:
    """A model that hears has what it hears with, and its special tokens; others have neither."""
    speech, audio = head.speech, manifest.preprocessing.audio
    hears = AUDIO_ENCODER in manifest.components
    if (VOICE_ACTIVITY in manifest.components) != (audio is not None and audio.voice is not None):
        raise ManifestError(f"{where}: preprocessing.audio.voice and the component {VOICE_ACTIVITY!r} go together.")
    if not hears and speech is None and audio is None:
        return
    if hears and speech is None and audio is not None and isinstance(audio.features, Waveform):
        _check_waves(manifest, audio.features, where)
        return
    if not hears or speech is None or audio is None:
        raise ManifestError(
            f"{where}: preprocessing.audio, postprocessing.speech and the component {AUDIO_ENCODER!r} go together."
        )
    if not head.stop_token_ids:
        raise ManifestError(f"{where}: a transcript needs a token that ends it (stop_token_ids).")
    features, inputs = audio.features, manifest.components[AUDIO_ENCODER].inputs
    if not isinstance(features, LogMel):
        raise ManifestError(f"{where}: the {AUDIO_ENCODER} takes features of the type log_mel.")
    _check_window(manifest, audio, where)
    _, bands, frames = inputs[0].shape if len(inputs[0].shape) == 3 else (None, None, None)
    fits = frames == features.frames if audio.short is None else isinstance(frames, str)
    if len(inputs) != 1 or inputs[0].dtype != "float32" or bands != features.bands or not fits:
        raise ManifestError(
            f"{where}: the {AUDIO_ENCODER} takes one input, float32 of the shape (batch, {features.bands}, "
            f"{features.frames if audio.short is None else 'any number of frames'}), as preprocessing.audio makes it."
        )
    if features.fft % 2 or not 1 <= features.hop <= features.fft:
        raise ManifestError(f"{where}: a spectrum is of an even number of samples (fft), and hop is at most as many.")
    if audio.voice is not None:
        _check_voice(audio.voice, manifest.components[VOICE_ACTIVITY], where)
    named = {
        "no_timestamps": (speech.no_timestamps,),
        "timestamps": (speech.timestamps,),
        "languages": tuple(speech.languages.values()),
        "suppressed": speech.suppressed,
        "suppressed_first": speech.suppressed_first,
    }
    for name in ("transcribe", "translate", "no_speech", "previous"):
        token = getattr(speech, name)
        named[name] = () if token is None else (token,)
    for name, tokens in named.items():
        if any(token >= head.vocabulary for token in tokens):
            raise ManifestError(f"{where}: speech.{name} has a token beyond the vocabulary of {head.vocabulary:,}.")
    if speech.languages and speech.transcribe is None:
        raise ManifestError(f"{where}: a model of several languages has a token that says: transcribe.")


def _check_window(manifest: Manifest, audio: AudioPreprocessing, where: str) -> None:
    """A short window is no longer than the full one, and variants that were measured with it have it."""
    if audio.short is not None and audio.short > audio.mel.frames:
        raise ManifestError(f"{where}: a short window of {audio.short} frames is longer than {audio.mel.frames}.")
    for component in manifest.components.values():
        for name, variant in component.variants.items():
            if variant.short_window is not None and audio.short is None:
                raise ManifestError(f"{where}: the variant {name!r} has a short_window, but no audio.short.")


def _check_waves(manifest: Manifest, features: Waveform, where: str) -> None:
    """A model that hears sound as it is knows how much of it at once."""
    given = manifest.components[AUDIO_ENCODER].inputs
    if len(given) != 1 or given[0].dtype != "float32" or len(given[0].shape) != 2:
        raise ManifestError(f"{where}: the {AUDIO_ENCODER} takes one input, float32 of the shape (batch, samples).")
    if features.most is None or features.most < features.least:
        raise ManifestError(
            f"{where}: preprocessing.audio.features needs a most, the samples that are heard at once, no less than its "
            "least."
        )


def _check_voice(voice: VoiceActivity, component: Component, where: str) -> None:
    found = ({spec.name for spec in component.inputs}, {spec.name for spec in component.outputs})
    if found[0] != {"input", "h", "c"} or not {"speech_probs", "hn", "cn"} <= found[1]:
        raise ManifestError(
            f"{where}: the component {VOICE_ACTIVITY!r} takes input, h and c, and answers with speech_probs, hn and cn."
        )
    if voice.context > voice.frame or voice.release > voice.threshold:
        raise ManifestError(
            f"{where}: of preprocessing.audio.voice context is at most frame, and release at most threshold."
        )


def _check_caches(decoder: Component, head: GenerationOutput, encoder: Component | None, where: str) -> None:
    given = {spec.name: spec for spec in decoder.inputs}
    made = {spec.name: spec for spec in decoder.outputs}
    if "input_ids" not in given or head.output not in made:
        raise ManifestError(f"{where}: the decoder needs the input 'input_ids' and the output {head.output!r}.")
    past = {name.removeprefix(PAST) for name in given if name.startswith(PAST)}
    present = {name.removeprefix(PRESENT) for name in made if name.startswith(PRESENT)}
    if not past or past != present:
        raise ManifestError(
            f"{where}: each of the decoder's inputs {PAST}* needs an output {PRESENT}* of the same name, and at least "
            "one is expected."
        )
    for name in past:
        _check_cache(given[PAST + name], made[PRESENT + name], where)
    from_image = {spec.name: spec for spec in encoder.outputs} if encoder is not None else {}
    if (IMAGE in given) != (head.picture is not None):
        raise ManifestError(f"{where}: the decoder's input {IMAGE!r} and postprocessing.picture go together.")
    for name, spec in given.items():
        if (name.startswith(CROSS) or name == IMAGE) and (
            name not in from_image or from_image[name].dtype != spec.dtype
        ):
            raise ManifestError(f"{where}: the decoder's input {name!r} is no output of the encoder before it.")


def _check_cache(past: TensorSpec, present: TensorSpec, where: str) -> None:
    rank = len(past.shape) == len(present.shape) == 4
    fixed = rank and all(isinstance(spec.shape[axis], int) for spec in (past, present) for axis in (1, 3))
    same = fixed and past.shape[1] == present.shape[1] and past.shape[3] == present.shape[3]
    if not same or past.dtype != present.dtype or past.dtype not in ("float32", "float16"):
        raise ManifestError(
            f"{where}: the decoder's {past.name!r} and {present.name!r} need one dtype, float32 or float16, and shapes "
            "(batch, heads, tokens, size) with the same numbers of heads and sizes."
        )
