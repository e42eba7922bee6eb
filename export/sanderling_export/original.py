"""The original: a checkpoint in its original library, which every variant is measured against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError, SanderlingError
from sanderling.pairs import TextPair
from sanderling.reasons import first_line
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.basics import Task
from sanderling.surroundings import TEXT_ENCODER, VISION_ENCODER
from sanderling_export import description, features, images, late, sparse, timm_models, tokens, towers, vision_operators
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.speech import hearing
from sanderling_export.text_embedder import TextEmbedder
from sanderling_export.torch_modules import TorchModule, batches, torch_preprocess

Array = NDArray[Any]
# What a model of a single graph calls it.
COMPONENT = "model"


class Original(Protocol):
    """One checkpoint in its own library. An item is a text, a pair of texts, an RGB image, or a sound."""

    description: Description
    model: torch.nn.Module

    def inputs(self, item: Any, prompt: str | None = None) -> dict[str, Array]:
        """What the library's preprocessing makes of one item, by graph input, without the batch dimension.

        `prompt` names one of the model's prompts (default: its own default).
        """
        ...

    def answers(self, items: Sequence[Any], prompt: str | None = None) -> NDArray[np.float32]:
        """The final answers, (items, d): embeddings pooled and normalized, or logits."""
        ...


def load(checkpoint: Checkpoint, options: Options) -> Original:
    """Load a checkpoint in its original library. Raises CheckpointError where it says too little or cannot be read."""
    vision_operators.declare()  # transformers imports torchvision where it is installed
    try:
        if options.module is not None:
            return TorchModule(checkpoint, options.module, options)
        if timm_models.is_timm(checkpoint):
            return timm_models.TimmClassifier(checkpoint, options)
        task = description.task_of(checkpoint, options.task)
        library: Original = _LIBRARIES[task](checkpoint, options)
        return library
    except SanderlingError:
        raise
    except Exception as error:
        why = first_line(error).rstrip(".")
        raise CheckpointError(
            f"{checkpoint.path} cannot be loaded: {why}. Check that its files are whole, and that "
            "transformers knows its architecture."
        ) from error


def parts(source: Original) -> dict[str, Original]:
    """The originals of each of a bundle's components, by name: of most models the one there is."""
    if isinstance(source, towers.Towers):
        return {TEXT_ENCODER: source.text, VISION_ENCODER: source.vision}
    return {COMPONENT: source}


class TextClassifier:
    """A sequence classifier in transformers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = str(checkpoint.folder)
        settings = {"local_files_only": True, "trust_remote_code": False}
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, **settings).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **settings)
        config = self.model.config
        limit = description.token_limit(self.model, self._tokenizer, None, options.max_tokens)
        self._limit = limit
        head = description.classification(config, int(config.num_labels), options)
        text = tokens.settings(self._tokenizer, limit, False, {}, None)
        pairs, takes_pairs = description.made_for_pairs(head.labels, options.pairs), self._takes_pairs()
        if pairs and not takes_pairs:
            raise CheckpointError(
                "The tokenizer numbers two texts 0 and 1 (token_type_ids), but the model knows only one number "
                "(type_vocab_size 1), so that it takes no pairs. Export it with pairs = false."
            )
        self.description = Description(
            "text-classification",
            head,
            replace(text, pairs=pairs, long_text=description.windows_of(limit, options.long_text)),
            tokens.tokenizer_json(self._tokenizer),
            takes_pairs=takes_pairs,
        )

    def inputs(self, item: str | TextPair, prompt: str | None = None) -> dict[str, Array]:
        del prompt  # classifiers have none
        return {name: value[0] for name, value in self._tokens(item, "np").items()}

    def answers(self, items: Sequence[str | TextPair], prompt: str | None = None) -> NDArray[np.float32]:
        del prompt
        with torch.inference_mode():
            rows = [self.model(**self._tokens(item, "pt")).logits[0].numpy() for item in items]
        return np.stack(rows).astype(np.float32)

    def _tokens(self, item: str | TextPair, kind: str) -> Any:
        # Lists, for of a single pair transformers takes an empty second text for none.
        texts = ([item.text], [item.text_pair]) if isinstance(item, TextPair) else ([item],)
        cut = item.truncation if isinstance(item, TextPair) else True
        return self._tokenizer(*texts, truncation=cut, max_length=self._limit, return_tensors=kind)

    def _takes_pairs(self) -> bool:
        known = getattr(self.model.config, "type_vocab_size", None)
        numbers = self._tokens(TextPair("a", "b"), "np").get("token_type_ids")
        return numbers is None or known is None or int(numbers.max(initial=0)) < known


class TextRanker(TextClassifier):
    """A cross-encoder: a sequence classifier whose one logit says how relevant the second text is to the first."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        names = description.architectures(checkpoint)
        if not any(name.endswith("ForSequenceClassification") for name in names):
            raise CheckpointError(
                f"{checkpoint.folder} is a {', '.join(names) or 'model of no architecture'}; a ranker is exported from "
                "a sequence classifier (...ForSequenceClassification)."
            )
        super().__init__(checkpoint, dataclasses.replace(options, pairs=True))
        labels = self.description.head.labels  # type: ignore[union-attr]
        if len(labels) != 1:
            raise CheckpointError(
                f"The checkpoint has {len(labels)} outputs; a ranker has one, the relevance. Export it as a "
                "classifier: --task text-classification"
            )
        activation = description.ranking_activation(self.model.config)
        head = ClassificationOutput("logits", activation, labels)  # type: ignore[arg-type]
        self.description = dataclasses.replace(self.description, task="text-ranking", head=head)


class ImageClassifier:
    """An image classifier in transformers, with its numpy image processor (`use_fast=False`)."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        folder = checkpoint.folder
        if options.image is None and not (folder / "preprocessor_config.json").is_file():
            raise CheckpointError(
                f"{folder} has no preprocessor_config.json, so nothing says how images are brought to the model. "
                "Fetch it with the checkpoint, or write a recipe with [[image.steps]]."
            )
        settings = {"local_files_only": True, "trust_remote_code": False}
        self.model = AutoModelForImageClassification.from_pretrained(str(folder), **settings).eval()
        # What a recipe says of the images goes before what the checkpoint says.
        self._settings = options.image
        self._processor = (
            AutoImageProcessor.from_pretrained(str(folder), use_fast=False, **settings)
            if options.image is None
            else None
        )
        config = self.model.config
        self.description = Description(
            "image-classification",
            description.classification(config, int(config.num_labels), options),
            image=options.image or images.steps(self._processor),
        )

    def inputs(self, item: Image.Image, prompt: str | None = None) -> dict[str, Array]:
        del prompt  # images have none
        if self._settings is not None:
            return {"pixel_values": torch_preprocess(item, self._settings).numpy()}
        assert self._processor is not None  # one of the two is there
        return {"pixel_values": self._processor(images=item, return_tensors="np")["pixel_values"][0]}

    def answers(self, items: Sequence[Image.Image], prompt: str | None = None) -> NDArray[np.float32]:
        del prompt
        with torch.inference_mode():
            rows = [
                self.model(
                    pixel_values=torch.from_numpy(np.stack([self.inputs(item)["pixel_values"] for item in batch]))
                ).logits.numpy()
                for batch in batches(items)
            ]
        return np.concatenate(rows)


def _embedder(checkpoint: Checkpoint, options: Options) -> Original:
    if description.of_sound(checkpoint):
        return hearing.SoundEmbedder(checkpoint, options)
    kind: Any = TextEmbedder
    if sparse.is_sparse(checkpoint, options):
        kind = sparse.SparseEmbedder
    elif late.is_late(checkpoint, options):
        kind = late.LateEmbedder
    made: Original = kind(checkpoint, options)
    return made


_LIBRARIES: dict[Task, Any] = {
    "feature-extraction": _embedder,
    "audio-classification": hearing.SoundClassifier,
    "automatic-speech-recognition": hearing.CtcOriginal,
    "text-classification": TextClassifier,
    "text-ranking": TextRanker,
    "image-classification": ImageClassifier,
    "image-feature-extraction": features.ImageEmbedder,
    "zero-shot-image-classification": towers.Towers,
}
