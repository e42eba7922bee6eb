"""Images to vectors: a vision checkpoint, or a classifier without its last layer, in its original library."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.basics import Task
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import description, images
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options

Array = NDArray[Any]
_TASK: Task = "image-feature-extraction"
_IMAGES_A_RUN = 8

# The name of the graph's output by pooling: vectors of another pooling are of another space.
OUTPUTS = {"cls": "cls_token", "mean": "mean_token", "pooler": "pooler_output", "penultimate": "penultimate"}


class Features(torch.nn.Module):  # type: ignore[misc]
    """`pixel_values` to one vector an image, (batch, d): pooled tokens, the model's own pooler, or a classifier's
    features behind which its last layer was taken out."""

    def __init__(self, model: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The vectors, float32. Raises CheckpointError where the model has nothing to pool so."""
        found = self.model(pixel_values)
        if self.pooling == "penultimate":
            return found if isinstance(found, torch.Tensor) else found.logits
        if self.pooling == "pooler":
            pooled = getattr(found, "pooler_output", None)
            if pooled is None:
                raise CheckpointError(
                    "The model has no pooler; choose another pooling: --pooling cls or --pooling mean"
                )
            return pooled.flatten(1)
        hidden = found.last_hidden_state
        if hidden.ndim == 3:
            return hidden[:, 0] if self.pooling == "cls" else hidden.mean(dim=1)
        if self.pooling == "cls":
            raise CheckpointError("The model has no tokens to take the first of; choose --pooling pooler or mean")
        return hidden.mean(dim=(2, 3))


class ImageEmbedder:
    """A vision model in transformers, with its numpy image processor (`use_fast=False`).

    Without a pooling that was asked for, a classifier gives what its last layer reads, a model of tokens its first
    one, and any other its pooler's output.
    """

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

        folder = checkpoint.folder
        if not (folder / "preprocessor_config.json").is_file():
            raise CheckpointError(
                f"{folder} has no preprocessor_config.json, so nothing says how images are brought to the model. "
                "Fetch it with the checkpoint."
            )
        settings = {"local_files_only": True, "trust_remote_code": False}
        names = description.architectures(checkpoint)
        classifies = any(name.endswith("ForImageClassification") for name in names)
        whole = classifies and options.pooling in (None, "penultimate")
        self._processor = AutoImageProcessor.from_pretrained(str(folder), use_fast=False, **settings)
        self._steps = images.steps(self._processor)
        loader = AutoModelForImageClassification if whole else AutoModel
        model = loader.from_pretrained(str(folder), **settings).eval()
        probe = self._pixels([Image.new("RGB", (64, 48), (90, 120, 150))])
        if whole:
            model = headless(model, lambda found: found(probe).logits)
        self.model = model
        pooling = options.pooling or ("penultimate" if whole else _usual(model, probe))
        # Not in training, as the exporter would leave it: it puts back what it found.
        self.features = Features(model, _known(pooling, whole)).eval()
        self.description = described(self.features, probe, options, self._steps)

    def inputs(self, item: Image.Image, prompt: str | None = None) -> dict[str, Array]:
        """What the processor makes of an image."""
        del prompt  # images have none
        return {"pixel_values": self._processor(images=item, return_tensors="np")["pixel_values"][0]}

    def answers(self, items: Sequence[Image.Image], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors (images, d), normalized if the description says so."""
        del prompt
        return vectors(self.features, self._pixels, items, self.description)

    def _pixels(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.inputs(item)["pixel_values"] for item in batch]))


def vectors(
    features: Features,
    pixels: Callable[[Sequence[Image.Image]], torch.Tensor],
    items: Sequence[Image.Image],
    known: Description,
) -> NDArray[np.float32]:
    """The vectors of images by torch, (images, d), as `known` says."""
    assert isinstance(known.head, EmbeddingOutput)
    with torch.inference_mode():
        batches = (items[start : start + _IMAGES_A_RUN] for start in range(0, len(items), _IMAGES_A_RUN))
        rows = torch.cat([features(pixels(batch)) for batch in batches]).float()
        if known.head.normalize:
            rows = torch.nn.functional.normalize(rows, dim=1)
    return np.asarray(rows.numpy(), np.float32)


def headless(model: torch.nn.Module, run: Callable[[torch.nn.Module], torch.Tensor]) -> torch.nn.Module:
    """A copy of a classifier whose last linear layer, the one that gives its logits, hands on what it reads.

    `run` gives the logits of some input. Raises CheckpointError where no one layer gives them.
    """
    made = copy.deepcopy(model)
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, found, name=name: seen.__setitem__(name, found))
        for name, module in made.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    with torch.inference_mode():
        logits = run(made)
    for hook in hooks:
        hook.remove()
    last = [name for name, found in seen.items() if found.shape == logits.shape and torch.equal(found, logits)]
    if len(last) != 1:
        raise CheckpointError(
            f"The classifier's logits are what {len(last)} of its linear layers give; one was expected, whose input "
            "are its features. Export it as a classifier: --task image-classification"
        )
    made.set_submodule(last[0], torch.nn.Identity())
    return made


def described(features: Features, probe: torch.Tensor, options: Options, steps: Any) -> Description:
    """What the runtime has to know of a model's features; `probe` is an input of it."""
    with torch.inference_mode():
        found = features(probe)
    if found.ndim != 2:
        raise CheckpointError(f"The model's features have the shape {tuple(found.shape)}, not (batch, numbers).")
    size = int(found.shape[1])
    head = EmbeddingOutput(OUTPUTS[features.pooling], "none", bool(options.normalize), size)
    return Description(_TASK, head, image=steps, dimensions=description.shorter(size, options.dimensions))


def _usual(model: torch.nn.Module, probe: torch.Tensor) -> str:
    with torch.inference_mode():
        return "cls" if model(probe).last_hidden_state.ndim == 3 else "pooler"


def _known(pooling: str, classifies: bool) -> str:
    if pooling not in OUTPUTS or (pooling == "penultimate" and not classifies):
        choices = [name for name in OUTPUTS if name != "penultimate" or classifies]
        raise ExportError(f"--pooling {pooling} is none of an image model; choose {', '.join(choices)}.")
    return pooling
