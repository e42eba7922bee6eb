"""Models of two towers (CLIP, SigLIP) in transformers: texts and images to vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError
from sanderling.schema.answers import ContrastiveOutput
from sanderling.schema.basics import Task
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import description, images, siglip_tokens, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options

Array = NDArray[Any]
_TASK: Task = "zero-shot-image-classification"
TEXT_OUTPUT, IMAGE_OUTPUT = "text_embeds", "image_embeds"
# As transformers' pipeline words a label.
_TEMPLATE = "This is a photo of {}."
_ITEMS_A_RUN = 8
_EXAMPLE_TOKENS = 9


class _TextGraph(torch.nn.Module):  # type: ignore[misc]
    """Token ids, with their mask where the model has one, to vectors (batch, d) as they are before normalization."""

    def __init__(self, model: torch.nn.Module, masked: bool) -> None:
        super().__init__()
        self.tower = model.text_model
        self.projection = getattr(model, "text_projection", None)
        self._masked = masked

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        mask = inputs[1] if self._masked else None
        pooled: torch.Tensor = self.tower(input_ids=inputs[0], attention_mask=mask).pooler_output
        return pooled if self.projection is None else self.projection(pooled)


class _VisionGraph(torch.nn.Module):  # type: ignore[misc]
    """Pixels to vectors (batch, d) as they are before normalization."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.tower = model.vision_model
        self.projection = getattr(model, "visual_projection", None)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.tower(pixel_values=inputs[0]).pooler_output
        return pooled if self.projection is None else self.projection(pooled)


class TextTower:
    """The tower of texts. `any_length` says that texts are padded to the longest of their batch, and masked; else each
    is padded to the model's full length, and the model sees the padding."""

    def __init__(self, model: Any, tokenizer: Any, options: Options, dimension: int, masked: bool) -> None:
        self.model = model
        self.any_length = masked
        self.graph = _TextGraph(model, masked).eval()
        self._tokenizer = tokenizer
        self._limit = description.token_limit(model.text_model, tokenizer, None, options.max_tokens)
        text = tokens.settings(tokenizer, self._limit, False, {}, None)
        self.description = Description(
            _TASK,
            EmbeddingOutput(TEXT_OUTPUT, "none", True, dimension),
            text if masked else replace(text, padding="max_tokens"),
            siglip_tokens.tokenizer_json(tokenizer),
            dimensions=description.shorter(dimension, options.dimensions),
        )

    def inputs(self, item: str, prompt: str | None = None) -> dict[str, Array]:
        """What the tokenizer makes of a text."""
        del prompt  # towers have none
        return {name: value[0] for name, value in self._tokens([item]).items()}

    def answers(self, items: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors (texts, d) of length 1, one text at a time."""
        del prompt
        rows = []
        with torch.inference_mode():
            for item in items:
                found = self._tokens([item])
                rows.append(self.graph(*(torch.from_numpy(found[name]) for name in self.names)))
            return _unit(torch.cat(rows))

    @property
    def names(self) -> tuple[str, ...]:
        """The graph's inputs."""
        return ("input_ids", "attention_mask") if self.any_length else ("input_ids",)

    def example(self) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
        """Inputs of the graph, and their names."""
        length = _EXAMPLE_TOKENS if self.any_length else self._limit
        ids = torch.full((2, length), 1, dtype=torch.int64)
        return (ids, torch.ones_like(ids))[: len(self.names)], self.names

    def _tokens(self, texts: list[str]) -> dict[str, Array]:
        padding: Any = True if self.any_length else "max_length"
        found = self._tokenizer(texts, padding=padding, truncation=True, max_length=self._limit, return_tensors="np")
        return {name: np.asarray(found[name], np.int64) for name in self.names}


class VisionTower:
    """The tower of images, with the numpy image processor (`use_fast=False`)."""

    any_length = False

    def __init__(self, model: Any, processor: Any, options: Options, dimension: int) -> None:
        self.model = model
        self.graph = _VisionGraph(model).eval()
        self._processor = processor
        self.description = Description(
            _TASK,
            EmbeddingOutput(IMAGE_OUTPUT, "none", True, dimension),
            image=images.steps(processor),
            dimensions=description.shorter(dimension, options.dimensions),
        )

    def inputs(self, item: Image.Image, prompt: str | None = None) -> dict[str, Array]:
        """What the processor makes of an image."""
        del prompt  # images have none
        return {"pixel_values": self._processor(images=item, return_tensors="np")["pixel_values"][0]}

    def answers(self, items: Sequence[Image.Image], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors (images, d) of length 1."""
        del prompt
        rows = []
        with torch.inference_mode():
            for start in range(0, len(items), _ITEMS_A_RUN):
                pixels = [self.inputs(item)["pixel_values"] for item in items[start : start + _ITEMS_A_RUN]]
                rows.append(self.graph(torch.from_numpy(np.stack(pixels))))
            return _unit(torch.cat(rows))

    def example(self) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
        """An input of the graph, and its name."""
        pixels = self.inputs(Image.new("RGB", (64, 48), (90, 120, 150)))["pixel_values"]
        return (torch.from_numpy(np.stack([pixels, pixels])),), ("pixel_values",)


class Towers:
    """A CLIP or SigLIP model with both towers, and what becomes of their cosines."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoImageProcessor, AutoModel

        folder = checkpoint.folder
        names = description.architectures(checkpoint)
        if "Siglip2Model" in names:
            raise CheckpointError(
                f"{folder} is a Siglip2Model, whose images keep their own shapes (NaFlex); Sanderling exports the "
                "SigLIP 2 checkpoints of one resolution, which are SiglipModel."
            )
        if not any(name in description.TWO_TOWERS for name in names):
            raise CheckpointError(
                f"{folder} is a {', '.join(names) or 'model of no architecture'}; the task {_TASK} is exported from a "
                "CLIPModel or a SiglipModel."
            )
        if not (folder / "preprocessor_config.json").is_file():
            raise CheckpointError(
                f"{folder} has no preprocessor_config.json, so nothing says how images are brought to the model. "
                "Fetch it with the checkpoint."
            )
        settings = {"local_files_only": True, "trust_remote_code": False}
        self.model = AutoModel.from_pretrained(str(folder), **settings).eval()
        tokenizer = siglip_tokens.load(folder)
        processor = AutoImageProcessor.from_pretrained(str(folder), use_fast=False, **settings)
        clip = "CLIPModel" in names
        config = self.model.config
        dimension = int(config.projection_dim if clip else config.vision_config.hidden_size)
        self.text = TextTower(self.model, tokenizer, options, dimension, masked=clip)
        self.vision = VisionTower(self.model, processor, options, dimension)
        bias = getattr(self.model, "logit_bias", None)
        text, image = self.text.description, self.vision.description
        assert isinstance(text.head, EmbeddingOutput)
        assert isinstance(image.head, EmbeddingOutput)
        self.description = Description(
            _TASK,
            ContrastiveOutput(
                text=text.head,
                image=image.head,
                activation="softmax" if clip else "sigmoid",
                logit_scale=float(self.model.logit_scale.exp()),
                logit_bias=float(bias) if bias is not None else 0.0,
                temperature=1.0 if options.temperature is None else options.temperature,
                templates=options.templates or (_TEMPLATE,),
            ),
            text.text,
            text.tokenizer,
            image.image,
        )

    def inputs(self, item: Any, prompt: str | None = None) -> dict[str, Array]:
        """What the preprocessing of its tower makes of a text or an image."""
        tower: Any = self.text if isinstance(item, str) else self.vision
        found: dict[str, Array] = tower.inputs(item, prompt)
        return found

    def answers(self, items: Sequence[Any], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors (items, d) of texts and images in turn, each by its tower."""
        towers: list[Any] = [self.text if isinstance(item, str) else self.vision for item in items]
        return np.concatenate([tower.answers([item], prompt) for tower, item in zip(towers, items, strict=True)])


def _unit(rows: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.nn.functional.normalize(rows.float(), dim=1).numpy(), np.float32)
