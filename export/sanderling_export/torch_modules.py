"""A plain torch module as the original: built by a recipe's factory, with its preprocessing by Pillow and torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError, RecipeError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
)
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import features
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.recipe import Module

Array = NDArray[Any]
# Images that the original answers in one run.
_A_RUN = 8


class TorchModule:
    """A plain torch module from a recipe's factory, with its preprocessing by Pillow and torch."""

    def __init__(self, checkpoint: Checkpoint, module: Module, options: Options) -> None:
        if options.task not in ("image-classification", "image-feature-extraction") or options.image is None:
            raise RecipeError(
                "A torch module is exported for image-classification or image-feature-extraction, with image.steps."
            )
        if not checkpoint.path.is_file():
            raise CheckpointError(f"{checkpoint.path} is a folder; a torch module's checkpoint is a weight file.")
        self.model = _build(module)
        self.model.load_state_dict(_state(checkpoint), strict=True)
        self.model.eval()
        self._settings = options.image
        self.size = final_size(options.image)
        if options.task == "image-feature-extraction":
            if options.pooling not in (None, "penultimate"):
                raise RecipeError(f"A torch module's features are penultimate; pooling is {options.pooling!r}.")
            # On noise, for of an even image many layers may answer alike.
            probe = torch.rand((1, 3, *self.size), generator=torch.Generator().manual_seed(0))
            self.model = features.headless(self.model, lambda model: model(probe))
            self.description = features.described(
                features.Features(self.model, "penultimate"), probe, options, options.image
            )
            return
        with torch.inference_mode():
            count = self.model(torch.zeros(1, 3, *self.size)).shape[1]
        if options.labels is None:
            raise RecipeError(f"The module has {count} outputs and no names for them; give the recipe a labels file.")
        if len(options.labels) != count:
            raise RecipeError(f"The module has {count} outputs, the labels file {len(options.labels)} names.")
        self.description = Description(
            "image-classification",
            ClassificationOutput("logits", "softmax", options.labels),
            image=options.image,
        )

    def inputs(self, item: Image.Image, prompt: str | None = None) -> dict[str, Array]:
        del prompt  # images have none
        return {"pixel_values": torch_preprocess(item, self._settings).numpy()}

    def answers(self, items: Sequence[Image.Image], prompt: str | None = None) -> NDArray[np.float32]:
        del prompt
        if isinstance(self.description.head, EmbeddingOutput):
            return features.vectors(features.Features(self.model, "penultimate"), self._pixels, items, self.description)
        with torch.inference_mode():
            rows = [self.model(self._pixels(batch)).numpy() for batch in batches(items)]
        return np.concatenate(rows)

    def _pixels(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([torch_preprocess(item, self._settings) for item in batch])


def torch_preprocess(image: Image.Image, settings: ImagePreprocessing) -> torch.Tensor:
    """One RGB image through the steps with Pillow and torch, as torchvision's transforms work: (3, h, w) float32.

    Raises RecipeError for a step that these two do not take.
    """
    for step in settings.steps:
        if isinstance(step, Resize):
            image = image.resize((step.width, step.height), Image.Resampling[step.resample.upper()])
        elif isinstance(step, ResizeShortest):
            short, long = sorted(image.size)
            longer = int(step.size * long / short)
            size = (step.size, longer) if image.width <= image.height else (longer, step.size)
            image = image.resize(size, Image.Resampling[step.resample.upper()])
        elif isinstance(step, CenterCrop):
            image = _cut(image, step)
        elif isinstance(step, ResizeFit):
            raise RecipeError("A recipe's image.steps do not take resize_fit; use resize or resize_shortest.")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32)
    if settings.channels == "BGR":
        tensor = tensor.flip(0)
    for step in settings.steps:
        if isinstance(step, Rescale):
            tensor = tensor.div(step.divisor) if step.divisor else tensor.mul(step.factor or 1.0)
        elif isinstance(step, Normalize):
            mean, std = torch.tensor(step.mean), torch.tensor(step.std)
            tensor = (tensor - mean[:, None, None]) / std[:, None, None]
    return tensor


def _cut(image: Image.Image, step: CenterCrop) -> Image.Image:
    if any(step.fill):
        raise RecipeError("A recipe's image.steps pad with zeros; leave out the fill of center_crop.")
    left, top = (_begin(*sides, step.rounding) for sides in ((image.width, step.width), (image.height, step.height)))
    return image.crop((left, top, left + step.width, top + step.height))


def _begin(side: int, cut: int, rounding: str) -> int:
    if rounding == "floor":
        return (side - cut) // 2
    # torchvision pads a smaller image first, by the smaller half before it.
    return -((cut - side) // 2) if cut > side else round((side - cut) / 2)


def _build(module: Module) -> torch.nn.Module:
    name, _, path = module.factory.partition(":")
    try:
        factory: Any = importlib.import_module(name)
    except ImportError as error:
        raise RecipeError(
            f"The recipe's factory needs the package {name!r}, which is not installed. "
            f"Install it with: pip install {name.partition('.')[0].replace('_', '-')}"
        ) from error
    for part in path.split("."):
        factory = getattr(factory, part, None)
    if factory is None:
        raise RecipeError(f"{name!r} has no {path!r}; check the recipe's factory.")
    built = factory(*module.arguments)
    if not isinstance(built, torch.nn.Module):
        raise RecipeError(f"{module.factory} gave a {type(built).__name__}; a torch.nn.Module was expected.")
    return built


def _state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    if checkpoint.path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: dict[str, torch.Tensor] = load_file(str(checkpoint.path))
        return tensors
    # Never weights_only=False: a pickle may run code.
    loaded = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return dict(loaded)


def final_size(settings: ImagePreprocessing) -> tuple[int, int]:
    """Height and width of what the steps make. Raises RecipeError where they end in no fixed size."""
    fixed = [step for step in settings.steps if isinstance(step, Resize | CenterCrop)]
    if not fixed:
        raise RecipeError("The image steps end in no fixed size; add a resize or a center_crop.")
    return fixed[-1].height, fixed[-1].width


def batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The items, as many at a time as the original answers in one run."""
    return (items[start : start + _A_RUN] for start in range(0, len(items), _A_RUN))
