"""What a task needs of a manifest: its components and their outputs, what stands before them and behind them."""

from __future__ import annotations

from sanderling.errors import ManifestError
from sanderling.generation import rules as generation_rules
from sanderling.hearing import rules as audio_rules
from sanderling.manifest import Manifest
from sanderling.schema.answers import (
    ClassificationOutput,
    ContrastiveOutput,
    FaceOutput,
    ForecastOutput,
    RegressionOutput,
)
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.variants import Component
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.voices import rules as voice_rules


def check(manifest: Manifest, where: str) -> None:
    """Raise ManifestError for a manifest that is not what its task needs; `where` names it."""
    _check_components(manifest, where)
    _check_faces(manifest, where)
    _check_video(manifest, where)
    _check_contrastive(manifest, where)
    _check_sides(manifest, where)
    generation_rules.check(manifest, where)
    voice_rules.check(manifest, where)
    audio_rules.check(manifest, where)
    _check_task(manifest, where)


# The components of the tasks of several graphs: those that each needs, and those that it may have.
_COMPONENTS: dict[str, tuple[set[str], set[str]]] = {
    "face-recognition": ({"detector", "landmarks", "recognition"}, {"expression", "age_gender"}),
    # One tower may have been left out of the bundle: the other one answers without it.
    "zero-shot-image-classification": (set(), {"text_encoder", "vision_encoder"}),
}
_ANSWERS = {
    "detector": {"boxes", "scores"},
    "landmarks": {"landmarks"},
    "expression": {"logits"},
    "age_gender": {"age", "gender"},
}


def _check_components(manifest: Manifest, where: str) -> None:
    if manifest.task not in _COMPONENTS:
        return
    parts = set(manifest.components)
    needed, possible = _COMPONENTS[manifest.task]
    if not needed <= parts <= needed | possible:
        told = [", ".join(sorted(needed))] if needed else []
        told += [f"may have {', '.join(sorted(possible))}"] if possible else []
        raise ManifestError(
            f"{where} has the components {', '.join(sorted(parts))}; the task {manifest.task} has "
            f"{', and '.join(told)}."
        )


def _check_answers(component: Component, part: str, needed: set[str], where: str) -> None:
    found = {spec.name for spec in component.outputs}
    if not needed <= found:
        raise ManifestError(
            f"{where}: the component {part!r} has the outputs {', '.join(sorted(found))}; "
            f"{', '.join(sorted(needed))} were expected."
        )


def _check_faces(manifest: Manifest, where: str) -> None:
    head, faces = manifest.postprocessing, manifest.preprocessing.faces
    if faces is not None:
        squares = (faces.detector, faces.landmarks, faces.recognition, faces.attributes)
        if any(square.divisor == 0 for square in squares):
            raise ManifestError(f"{where}: preprocessing.faces divides by 0.")
    if (manifest.task == "face-recognition") != isinstance(head, FaceOutput):
        raise ManifestError(f"{where}: the task face-recognition and a postprocessing of type 'faces' go together.")
    if not isinstance(head, FaceOutput):
        return
    if faces is None or manifest.space is None or manifest.family != "general":
        raise ManifestError(
            f"{where}: the task face-recognition needs preprocessing.faces, the family general, and the fingerprint of "
            "its embedding space in `space`."
        )
    parts = set(manifest.components)
    for labels, part in ((head.expressions, "expression"), (head.genders, "age_gender")):
        if bool(labels) != (part in parts):
            raise ManifestError(f"{where}: postprocessing names what {part!r} answers exactly where it is a component.")
    for part, component in manifest.components.items():
        _check_answers(component, part, _ANSWERS.get(part, {head.output}), where)


def _check_video(manifest: Manifest, where: str) -> None:
    video = manifest.preprocessing.video
    if video is None:
        return
    if manifest.task != "image-to-text":
        raise ManifestError(f"{where}: preprocessing.video goes with the task image-to-text, not {manifest.task}.")
    if video.columns > video.frames:
        raise ManifestError(
            f"{where}: preprocessing.video has {video.columns} columns for {video.frames} frames; at most as many "
            "columns as frames were expected."
        )


def _check_contrastive(manifest: Manifest, where: str) -> None:
    head, preprocessing = manifest.postprocessing, manifest.preprocessing
    if (manifest.task == "zero-shot-image-classification") != isinstance(head, ContrastiveOutput):
        raise ManifestError(
            f"{where}: the task zero-shot-image-classification and a postprocessing of type 'contrastive' go together."
        )
    if not isinstance(head, ContrastiveOutput):
        return
    if preprocessing.text is None or preprocessing.image is None or manifest.space is None:
        raise ManifestError(
            f"{where}: the task {manifest.task} needs preprocessing.text, preprocessing.image, and the fingerprint of "
            "the embedding space in `space`."
        )
    if manifest.family != "multimodal":
        raise ManifestError(f"{where}: the task {manifest.task} is one of multimodal models, not {manifest.family}.")
    for part, own in (("text_encoder", head.text), ("vision_encoder", head.image)):
        if part in manifest.components:
            _check_answers(manifest.components[part], part, {own.output}, where)
        _check_dense(own, where)
    if head.text.dimension != head.image.dimension or head.text.normalize != head.image.normalize:
        raise ManifestError(f"{where}: vectors of texts and of images are of one space, of one dimension and length.")
    if head.image.pooling != "none":
        raise ManifestError(f"{where}: images have no tokens to pool; the pooling of postprocessing.image is 'none'.")
    if not all(abs(value) < float("inf") for value in (head.logit_scale, head.logit_bias, head.temperature)):
        raise ManifestError(f"{where}: logit_scale, logit_bias and temperature are finite numbers.")
    for template in head.templates:
        if template.count("{}") != 1:
            raise ManifestError(f"{where}: the template {template[:80]!r} needs one {{}}, for the label.")


# Every query is filled up to so many tokens, however short: more is no query's length, but a way to use up memory.
_MOST_EXPANDED = 4096
# The form that is told of each token whether others see it.
_MASKED = "padded"


def _check_sides(manifest: Manifest, where: str) -> None:
    head, text = manifest.postprocessing, manifest.preprocessing.text
    if not isinstance(head, TokenOutput) or text is None:
        return
    for name, side in (("query", head.query), ("document", head.document)):
        if name not in text.prompts:
            raise ManifestError(f"{where}: a postprocessing of type 'tokens' needs the prompt {name!r}, if only empty.")
        if side.max_tokens > text.max_tokens:
            raise ManifestError(
                f"{where}: postprocessing.{name} takes {side.max_tokens:,} tokens, the model {text.max_tokens:,}."
            )
        if side.attended and side.expansion is None:
            raise ManifestError(f"{where}: postprocessing.{name} has nothing that is attended (expansion is null).")
        if side.expansion is not None and side.max_tokens > _MOST_EXPANDED:
            raise ManifestError(
                f"{where}: postprocessing.{name} fills texts up to {side.max_tokens:,} tokens; at most "
                f"{_MOST_EXPANDED:,} were expected."
            )
    if text.padding != "longest":
        raise ManifestError(f"{where}: a postprocessing of type 'tokens' says itself what fills texts up (padding).")
    for component in manifest.components.values():
        for variant_name, variant in component.variants.items():
            if set(variant.forms) != {_MASKED}:
                raise ManifestError(
                    f"{where}: the variant {variant_name!r} has the forms {', '.join(variant.forms)}; vectors of "
                    f"tokens are made by the form {_MASKED} alone."
                )


# What a task reads and gives, where both follow from it.
_OF_NUMBERS: dict[str, tuple[str, type[RegressionOutput | ClassificationOutput | ForecastOutput], str]] = {
    "tabular-regression": ("tabular", RegressionOutput, "regression"),
    "tabular-classification": ("tabular", ClassificationOutput, "classification"),
    "time-series-forecasting": ("series", ForecastOutput, "forecast"),
}


def _check_task(manifest: Manifest, where: str) -> None:
    if manifest.task in _OF_NUMBERS:
        _check_numbers(manifest, where)
    elif manifest.task == generation_rules.ANSWERING and not isinstance(manifest.postprocessing, GenerationOutput):
        _check_chosen(manifest, where)
    elif manifest.task not in {*_COMPONENTS, *generation_rules.TASKS, voice_rules.TASK}:  # those have been looked at
        _check_perception(manifest, where)
    head = manifest.postprocessing
    if isinstance(head, ClassificationOutput) and head.thresholds is not None:
        if len(head.thresholds) != len(head.labels):
            raise ManifestError(f"{where} has {len(head.thresholds)} thresholds for {len(head.labels)} labels.")
        if head.activation != "sigmoid":
            raise ManifestError(f"{where} has thresholds, which go with the activation 'sigmoid' alone.")
    if isinstance(head, ContrastiveOutput):  # each tower has its own
        return
    outputs = {spec.name for component in manifest.components.values() for spec in component.outputs}
    if head.output not in outputs:
        raise ManifestError(
            f"{where}: postprocessing reads the output {head.output!r}; the graphs have {', '.join(sorted(outputs))}."
        )


def _check_numbers(manifest: Manifest, where: str) -> None:
    modality, head, tag = _OF_NUMBERS[manifest.task]
    if getattr(manifest.preprocessing, modality) is None:
        raise ManifestError(f"{where}: the task {manifest.task} needs preprocessing.{modality}.")
    if not isinstance(manifest.postprocessing, head):
        raise ManifestError(f"{where}: the task {manifest.task} needs a postprocessing of type {tag!r}.")
    if manifest.family != "general":
        raise ManifestError(f"{where}: the task {manifest.task} is one of general models, not {manifest.family}.")


def _check_chosen(manifest: Manifest, where: str) -> None:
    """Of a model that chooses among answers to questions about pictures: one graph, which sees and reads."""
    if not isinstance(manifest.postprocessing, ClassificationOutput) or manifest.family != "multimodal":
        raise ManifestError(
            f"{where}: the task {manifest.task} needs a postprocessing of type 'generation' or 'classification', and "
            "the family multimodal."
        )
    if manifest.preprocessing.text is None or manifest.preprocessing.image is None or len(manifest.components) != 1:
        raise ManifestError(
            f"{where}: the task {manifest.task} needs preprocessing.text, preprocessing.image, and where answers are "
            "chosen a single component."
        )
    (component,) = manifest.components.values()
    given = {spec.name: spec.dtype for spec in component.inputs}
    if given != {"pixel_values": "float32", "input_ids": "int64"}:
        raise ManifestError(
            f"{where}: the graph takes {', '.join(sorted(given))}; pixel_values of float32 and input_ids of int64 were "
            "expected."
        )


def _check_perception(manifest: Manifest, where: str) -> None:
    kind = manifest.task.partition("-")[0]
    modality = kind if kind in ("image", "audio") else "text"
    wants_embedding = manifest.task in ("feature-extraction", "image-feature-extraction")
    if wants_embedding and manifest.preprocessing.text is None:
        heard = manifest.task == "feature-extraction" and manifest.preprocessing.audio is not None
        modality = "audio" if heard else "image"
    if getattr(manifest.preprocessing, modality) is None:
        raise ManifestError(f"{where}: the task {manifest.task} needs preprocessing.{modality}.")
    found = EmbeddingOutput if wants_embedding else ClassificationOutput
    of_texts = isinstance(manifest.postprocessing, SparseOutput | TokenOutput)
    if of_texts and manifest.task == "feature-extraction" and manifest.preprocessing.text is None:
        raise ManifestError(f"{where}: a postprocessing of type 'sparse' or 'tokens' needs preprocessing.text.")
    if not isinstance(manifest.postprocessing, found) and not (of_texts and manifest.task == "feature-extraction"):
        expected = "embedding" if wants_embedding else "classification"
        raise ManifestError(f"{where}: the task {manifest.task} needs a postprocessing of type {expected!r}.")
    head = manifest.postprocessing
    if manifest.task == "text-ranking" and (not isinstance(head, ClassificationOutput) or len(head.labels) != 1):
        raise ManifestError(f"{where}: the task text-ranking needs a single label, whose score is the relevance.")
    if isinstance(head, EmbeddingOutput | TokenOutput):
        _check_dense(head, where)
    if wants_embedding and manifest.space is None:
        raise ManifestError(f"{where}: an embedding model needs the fingerprint of its space in `space`.")


def _check_dense(head: EmbeddingOutput | TokenOutput, where: str) -> None:
    if bool(head.dense) != (head.weights is not None):
        raise ManifestError(f"{where}: dense layers need a file of weights, and a file of weights needs dense layers.")
