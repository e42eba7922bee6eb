"""What a checkpoint is, as far as its own files say: task, limits, labels, licence. The rest is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.answers import ClassificationOutput, ContrastiveOutput, CtcOutput
from sanderling.schema.basics import Task
from sanderling.schema.generation import Chat, GenerationOutput, GenerationSettings
from sanderling.schema.preprocessing import ImagePreprocessing, LongText, TextPreprocessing, VideoPreprocessing
from sanderling.schema.sounds import AudioPreprocessing
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.recipe import Module, Pooling

# A tokenizer without a limit of its own says 10^30.
_NO_LIMIT = 1_000_000
# What says of a picture what is to be seen in it.
_CAPTIONERS = ("BlipForConditionalGeneration", "VisionEncoderDecoderModel")
# What answers questions about a picture.
_ANSWERERS = (
    "BlipForQuestionAnswering",
    "ViltForQuestionAnswering",
    "LlavaForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "SmolVLMForConditionalGeneration",
)
# What speaks.
SPEAKING = ("VitsModel", "SpeechT5ForTextToSpeech")
# What writes down what is said.
_HEARING = ("WhisperForConditionalGeneration", "MoonshineForConditionalGeneration")
# What their config calls models that hear sound as it is, or its bands, with a single graph.
_OF_SOUND = {
    "audio-spectrogram-transformer",
    "data2vec-audio",
    "hubert",
    "sew",
    "sew-d",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-conformer",
    "wavlm",
}
# Models of two towers: what their config calls them.
TWO_TOWERS = ("CLIPModel", "SiglipModel", "Siglip2Model")
# A score from which a label holds, where nothing else is said: as likely as not.
_HALF = 0.5
# Fewer numbers than this are not measured unasked.
_SHORTEST = 32
_CARD_LICENSE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """What the recipe and the command line say of a checkpoint; None leaves it to the checkpoint."""

    task: Task | None = None
    module: Module | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    prompts: Mapping[str, str] | None = None
    default_prompt: str | None = None
    dimensions: tuple[int, ...] = ()
    max_tokens: int | None = None
    labels: tuple[str, ...] | None = None
    pairs: bool | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    long_text: LongText | None = None
    image: ImagePreprocessing | None = None
    video: VideoPreprocessing | None = None
    voice_activity: Path | None = None
    generation: GenerationSettings | None = None
    chat: Chat | str | None = None
    templates: tuple[str, ...] = ()
    temperature: float | None = None
    same_from: float | None = None
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """All that the runtime has to know to answer as the original does. `tokenizer` is a tokenizer.json, `weights` the
    tensors of an embedding's dense layers. `dimensions` are lengths of vectors whose loss is to be measured.

    `takes_pairs` says that two texts can be one input, whether or not the model was made for that.
    """

    task: Task
    head: (
        EmbeddingOutput
        | TokenOutput
        | SparseOutput
        | ClassificationOutput
        | GenerationOutput
        | ContrastiveOutput
        | CtcOutput
    )
    text: TextPreprocessing | None = None
    tokenizer: bytes | None = None
    image: ImagePreprocessing | None = None
    audio: AudioPreprocessing | None = None
    takes_pairs: bool = False
    weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    dimensions: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def task_of(checkpoint: Checkpoint, asked: Task | None) -> Task:
    """The task asked for, or the one that the checkpoint's files say. Raises CheckpointError if they do not."""
    folder = checkpoint.folder
    config = read_json(folder / "config.json")
    if not config:
        raise CheckpointError(
            f"{folder} has no config.json, so nothing says what these weights are. Give the folder that "
            "save_pretrained wrote, or write a recipe with [module] for a plain torch module."
        )
    if "auto_map" in config:
        raise CheckpointError(
            f"{folder / 'config.json'} names code of its own (auto_map). Sanderling never runs a checkpoint's code "
            "(trust_remote_code); use a checkpoint of an architecture that transformers has itself."
        )
    if asked is not None:
        return asked
    if "suppress_ids" in config:  # as CTranslate2 writes it of a Whisper, and of nothing else
        return "automatic-speech-recognition"
    kind = read_json(folder / "config_sentence_transformers.json").get("model_type")
    if kind == "CrossEncoder" or "sentence_transformers" in config or "sbert_ce_default_activation_function" in config:
        return "text-ranking" if _labels(config) == 1 else "text-classification"
    # Stanford's ColBERT names a class that transformers does not have, and says of what it is in a file of its own.
    if (folder / "modules.json").is_file() or (folder / "artifact.metadata").is_file():
        return "feature-extraction"
    names = architectures(checkpoint)
    if of_sound(checkpoint):
        return _heard_as(names)
    for name in names:
        if name.endswith("ForSequenceClassification"):
            return "text-classification"
        if name.endswith("ForImageClassification"):
            return "image-classification"
        if generates(name):
            if name in _ANSWERERS:
                return "visual-question-answering"
            if name in _HEARING:
                return "automatic-speech-recognition"
            return "image-to-text" if name in _CAPTIONERS else "text-generation"
    if any(name in SPEAKING for name in names):
        return "text-to-speech"
    if any(name in TWO_TOWERS for name in names):
        return "zero-shot-image-classification"
    encoder = any(name.endswith(("Model", "ForMaskedLM", "ForPreTraining")) for name in names)
    if encoder and (folder / "tokenizer_config.json").is_file():
        return "feature-extraction"
    if encoder and (folder / "preprocessor_config.json").is_file():
        return "image-feature-extraction"
    raise CheckpointError(
        f"{folder / 'config.json'} does not say which task this checkpoint is for (architectures: "
        f"{', '.join(names) or 'none'}). Say it: --task {' | '.join(get_args(Task))}"
    )


def of_sound(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of a model that hears sound with a single graph."""
    return read_json(checkpoint.folder / "config.json").get("model_type") in _OF_SOUND


def _heard_as(names: list[str]) -> Task:
    if any(name.endswith("ForCTC") for name in names):
        return "automatic-speech-recognition"
    if any(name.endswith(("ForSequenceClassification", "ForAudioClassification")) for name in names):
        return "audio-classification"
    return "feature-extraction"


def architectures(checkpoint: Checkpoint) -> list[str]:
    """The names of the classes that the config says the weights are of."""
    listed = read_json(checkpoint.folder / "config.json").get("architectures")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def generates(architecture: str) -> bool:
    """Whether a class of transformers is one that generates text: a causal language model, a captioner, one that
    answers questions about pictures, or one that hears."""
    known = (*_CAPTIONERS, *_ANSWERERS, *_HEARING)
    return architecture in known or architecture.endswith(("ForCausalLM", "LMHeadModel"))


def _labels(config: Mapping[str, object]) -> int:
    """How many outputs a classifier's config says it has; transformers' default of 2 where it says nothing."""
    named = config.get("id2label")
    count = config.get("num_labels", len(named) if isinstance(named, Mapping) else 2)
    return count if isinstance(count, int) else 2


def ranking_activation(config: Any) -> str:
    """How a cross-encoder's logit becomes its score: as its config says, else by a sigmoid, as sentence-transformers.

    Raises CheckpointError for a function other than the identity and the sigmoid.
    """
    stated = getattr(config, "sentence_transformers", None) or {}
    path = stated.get("activation_fn") or getattr(config, "sbert_ce_default_activation_function", None)
    if path is None or str(path).endswith(".Sigmoid"):
        return "sigmoid"
    if str(path).endswith(".Identity"):
        return "none"
    raise CheckpointError(f"The cross-encoder's scores are by {path}; Sanderling knows Sigmoid and Identity.")


def token_limit(model: Any, tokenizer: Any, own: int | None, asked: int | None) -> int:
    """Tokens an input may have: the least of what was asked for, the checkpoint's own limit, and its positions."""
    positions = _positions(model)
    if asked is not None and positions is not None and asked > positions:
        raise ExportError(
            f"max_tokens is {asked}, but the model has positions for {positions} tokens. Give at most {positions}."
        )
    stated = asked or own or tokenizer.model_max_length
    limits = [n for n in (stated, positions) if n is not None and n < _NO_LIMIT]
    if not limits:
        raise CheckpointError(
            "Neither the tokenizer (model_max_length) nor the model (position embeddings) says how many tokens an "
            "input may have. Say it: --max-tokens 512"
        )
    return int(min(limits))


def _positions(model: Any) -> int | None:
    """Positions that tokens can take; RoBERTa and its kin begin to count behind the padding id."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "num_embeddings"):
            padding = module.padding_idx
            return int(module.num_embeddings) - (0 if padding is None else int(padding) + 1)
    stated = getattr(model.config, "max_position_embeddings", None)
    return int(stated) if isinstance(stated, int) and stated > 0 else None


def labels_of(config: Any, count: int, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the outputs: those given, or the config's id2label (transformers' LABEL_i where it has none)."""
    if asked is not None:
        if len(asked) != count:
            raise ExportError(f"The model has {count:,} outputs, but {len(asked):,} labels were given (--labels).")
        return asked
    found = {int(index): str(label) for index, label in (config.id2label or {}).items()}
    if sorted(found) != list(range(count)):
        raise CheckpointError(
            f"The model has {count} outputs, but its config names {len(found)} (id2label). "
            "Give a file with one label a line: --labels FILE"
        )
    return tuple(found[index] for index in range(count))


def activation_of(config: Any, count: int) -> str:
    """How logits become scores, as transformers' pipelines do it."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or count == 1 else "softmax"


def classification(config: Any, count: int, options: Options) -> ClassificationOutput:
    """The head of a classifier with `count` logits, as its config and the options say."""
    labels = labels_of(config, count, options.labels)
    activation = activation_of(config, count)
    thresholds = thresholds_of(config, labels, activation, options.thresholds)
    return ClassificationOutput("logits", activation, labels, thresholds)  # type: ignore[arg-type]


def thresholds_of(
    config: Any, labels: tuple[str, ...], activation: str, asked: Mapping[str, float]
) -> tuple[float, ...] | None:
    """What each label's score must reach where several may hold: as asked for, else one half; None where one label
    is the answer. Raises ExportError for a label that the model does not have, or one that is no rival of its own."""
    unknown = [label for label in asked if label not in labels]
    if unknown:
        raise ExportError(f"thresholds names {unknown[0]!r}; the model's labels are {', '.join(labels[:20])}.")
    several = activation == "sigmoid" and (
        len(labels) > 1 or getattr(config, "problem_type", None) == "multi_label_classification"
    )
    if asked and not several:
        raise ExportError(
            "thresholds go with a model of which several labels may hold (problem_type multi_label_classification); "
            f"this one's scores are by {activation}."
        )
    return tuple(float(asked.get(label, _HALF)) for label in labels) if several else None


def made_for_pairs(labels: tuple[str, ...], asked: bool | None) -> bool:
    """Whether an input is two texts: as asked for, else where the labels are those of inference between two texts."""
    return any(label.lower().startswith("entail") for label in labels) if asked is None else asked


def prompts_of(model: Any, options: Options) -> dict[str, str]:
    """The prompts of a model of sentence-transformers, or those asked for, which it is then given; empty if all are.

    Its default prompt becomes the one asked for, and none where it is not among them.
    """
    if options.prompts is not None:
        model.prompts = dict(options.prompts)
    prompts = dict(model.prompts) if any(model.prompts.values()) else {}
    default = options.default_prompt or model.default_prompt_name
    model.default_prompt_name = default if default in prompts else None
    return prompts


def shorter(size: int, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of cut vectors whose loss is measured: as asked for, else a half and a quarter of all numbers.

    Raises ExportError for more than there are.
    """
    if any(dimensions >= size for dimensions in asked):
        raise ExportError(f"dimensions are {', '.join(map(str, asked))}; the vectors have {size} numbers to cut.")
    return asked or tuple(cut for cut in (size // 2, size // 4) if cut >= _SHORTEST)


def windows_of(limit: int, asked: LongText | None) -> LongText:
    """How windows of long texts are made: as asked for, else sharing a quarter, and the mean of their scores.

    Raises ExportError for windows that share all they have.
    """
    if asked is not None and asked.stride >= limit:
        raise ExportError(f"long_text.stride is {asked.stride}; windows of {limit} tokens cannot share so many.")
    return asked or LongText(limit // 4)


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line, UTF-8. Raises ExportError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read as labels: {error}. Expected UTF-8, one label a line.") from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise ExportError(f"{path} is empty; expected one label a line.")
    return labels


def license_of(checkpoint: Checkpoint) -> str:
    """The licence a model card states, else "unknown"."""
    card = checkpoint.folder / "README.md"
    if not card.is_file():
        return "unknown"
    head = card.read_text(encoding="utf-8", errors="replace")[:4096]
    found = _CARD_LICENSE.search(head) if head.startswith("---") else None
    return found[1] if found else "unknown"
