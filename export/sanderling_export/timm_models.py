"""A timm checkpoint: a folder with timm's `config.json`, whose `pretrained_cfg` says how images are brought to it."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError, MissingExtraError
from sanderling.preprocess.image import ImagePipeline
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
)
from sanderling_export import images, vision_operators
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.description import Description, Options

Array = NDArray[Any]
_IMAGES_A_RUN = 8
_RESAMPLES = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_CROP_MODES = ("center", "squash", "border")
# timm's own defaults, for what a config leaves out.
_MEAN, _STD, _CROP_PCT, _RESAMPLE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875, "bicubic"

_READ = {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"}
# Where weights and labels came from, how the network is built, and what else it could be run with.
_INERT = {
    "url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag", "custom_load",
    "test_input_size", "min_input_size", "fixed_input_size", "test_crop_pct", "num_classes", "label_offset",
    "label_names", "label_descriptions", "pool_size", "test_pool_size", "first_conv", "classifier", "license",
    "description", "origin_url", "paper_name", "paper_ids", "notes",
}  # fmt: skip
# In the checkpoints that transformers saves, the timm model is a part of another one.
_WRAPPED = "timm_model."


def is_timm(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is one of timm's. Raises CheckpointError: a config.json that cannot be read."""
    config = read_json(checkpoint.folder / "config.json")
    return isinstance(config.get("architecture"), str) and isinstance(config.get("pretrained_cfg"), Mapping)


def steps(pretrained: Mapping[str, Any]) -> ImagePreprocessing:
    """The steps of timm's `create_transform` for evaluation, as a `pretrained_cfg` sets it.

    Raises CheckpointError naming a setting that is unknown, or whose value is.
    """
    unknown = sorted(name for name, value in pretrained.items() if name not in _READ | _INERT and value is not None)
    if unknown:
        raise CheckpointError(
            f"pretrained_cfg sets {', '.join(unknown[:5])}, which Sanderling does not know. Update it (pip install -U "
            "sanderling), or take that out of config.json if it has nothing to do with how images are prepared."
        )
    channels, height, width = _size(pretrained.get("input_size") or (3, 224, 224))
    if channels != 3:
        raise CheckpointError(f"pretrained_cfg.input_size has {channels} channels; Sanderling takes images of 3.")
    resample = _one_of(pretrained, "interpolation", _RESAMPLE, _RESAMPLES)
    mode = _one_of(pretrained, "crop_mode", "center", _CROP_MODES)
    share = _number(pretrained.get("crop_pct") or _CROP_PCT, "crop_pct")
    if not 0.0 < share <= 1.0:
        raise CheckpointError(f"pretrained_cfg.crop_pct is {share!r}; a share above 0 and up to 1 was expected.")
    mean, std = _three(pretrained, "mean", _MEAN), _three(pretrained, "std", _STD)
    tall, wide = math.floor(height / share), math.floor(width / share)
    crop, resize = CenterCrop(height, width, "half_even"), _resize(mode, tall, wide, resample)
    if mode == "border":
        crop = CenterCrop(height, width, "half_even", tuple(round(255 * value) for value in mean))  # type: ignore[arg-type]
    found: tuple[ImageStep, ...] = (resize, crop, Rescale(divisor=255.0), Normalize(mean, std))
    return ImagePreprocessing(found)


def _resize(mode: str, height: int, width: int, resample: Any) -> ImageStep:
    if mode == "squash":
        return Resize(height, width, resample)
    if mode == "border":
        return ResizeFit(height, width, "contain", resample)
    return ResizeShortest(height, resample) if height == width else ResizeFit(height, width, "cover", resample)


class TimmClassifier:
    """A classifier in timm, with its own transform for evaluation."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        timm = load_timm()
        config = read_json(checkpoint.folder / "config.json")
        pretrained: Any = config["pretrained_cfg"]
        self.model = _built(timm, config, checkpoint).eval()
        from timm.data import create_transform, resolve_data_config

        settings = steps(pretrained)
        data = resolve_data_config(pretrained_cfg=dict(pretrained))
        self._transform = create_transform(**data, is_training=False)
        self._compare(settings)
        crop = settings.steps[1]
        assert isinstance(crop, CenterCrop)  # steps() puts it there
        self.size = (crop.height, crop.width)
        count = int(self.model.num_classes)
        self.description = Description(
            "image-classification",
            ClassificationOutput("logits", "softmax", _labels(config, count, options.labels, self.model)),
            image=settings,
        )

    def inputs(self, item: Image.Image, prompt: str | None = None) -> dict[str, Array]:
        del prompt  # images have none
        return {"pixel_values": self._transform(item).numpy()}

    def answers(self, items: Sequence[Image.Image], prompt: str | None = None) -> NDArray[np.float32]:
        del prompt
        with torch.inference_mode():
            rows = [
                self.model(
                    torch.stack([self._transform(item) for item in items[start : start + _IMAGES_A_RUN]])
                ).numpy()
                for start in range(0, len(items), _IMAGES_A_RUN)
            ]
        return np.concatenate(rows).astype(np.float32, copy=False)

    def _compare(self, settings: ImagePreprocessing) -> None:
        pipeline = ImagePipeline(settings)
        for image in images.noise():
            expected, (values, _) = self._transform(image).numpy(), pipeline(image)
            if values.shape != expected.shape or np.abs(values - expected).max() > images.TOLERANCE:
                raise CheckpointError(
                    "This version of timm prepares images otherwise than pretrained_cfg says. Install another one "
                    '(pip install "sanderling[timm]"), or report it.'
                )


def load_timm() -> Any:
    """The module `timm`. Raises MissingExtraError where it, or the torchvision it needs, is not installed."""
    for package in ("timm", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("Exporting a timm checkpoint", "timm", package)
    try:
        vision_operators.declare()
        timm = importlib.import_module("timm")
        importlib.import_module("timm.layers").set_exportable(True)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise CheckpointError(
            f"timm cannot be loaded: {lines[0][:200] if lines else type(error).__name__}. It needs the torchvision of "
            f"the release of torch {torch.__version__}."
        ) from error
    return timm


def _built(timm: Any, config: Mapping[str, object], checkpoint: Checkpoint) -> torch.nn.Module:
    name = str(config["architecture"])
    if not timm.is_model(name):
        raise CheckpointError(
            f"config.json names the architecture {name[:80]!r}, which timm {timm.__version__} does not have. "
            "Install a newer one: pip install -U timm"
        )
    arguments: dict[str, Any] = {}
    if isinstance(config.get("model_args"), Mapping):
        arguments |= dict(config["model_args"])  # type: ignore[call-overload]
    if isinstance(config.get("global_pool"), str):
        arguments.setdefault("global_pool", config["global_pool"])
    classes = config.get("num_classes")
    if isinstance(classes, int):
        arguments.setdefault("num_classes", classes)
    model: torch.nn.Module = timm.create_model(name, pretrained=False, **arguments)
    model.load_state_dict(_state(checkpoint), strict=True)
    return model


def _state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    files = sorted(checkpoint.folder.glob("*.safetensors")) if checkpoint.path.is_dir() else [checkpoint.path]
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise CheckpointError(
            f"{checkpoint.path} holds {len(files)} safetensors files; a timm checkpoint has one, model.safetensors. "
            "Save it so: timm.models.save_for_hf(model, folder, safe_serialization=True)"
        )
    from safetensors.torch import load_file

    return {name.removeprefix(_WRAPPED): tensor for name, tensor in load_file(str(files[0])).items()}


def _labels(
    config: Mapping[str, Any], count: int, asked: tuple[str, ...] | None, model: torch.nn.Module
) -> tuple[str, ...]:
    """The names of the outputs: those given, the config's own, or those of the ImageNet subset that timm finds."""
    found = asked or _own_labels(config) or _imagenet(model)
    if found is None:
        raise CheckpointError(
            f"The model has {count:,} outputs, and config.json names none (label_names). Give a file with one label a "
            "line: --labels FILE"
        )
    if len(found) != count:
        raise CheckpointError(
            f"The model has {count:,} outputs, but {len(found):,} labels are named. Give a file with one label a "
            "line: --labels FILE"
        )
    return found


def _own_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    said = config.get("label_names") or config["pretrained_cfg"].get("label_names")
    names = [said[key] for key in sorted(said, key=int)] if isinstance(said, Mapping) else said
    known = config.get("label_descriptions") or config["pretrained_cfg"].get("label_descriptions") or {}
    if names:
        return tuple(str(known.get(name, name)) for name in names)
    by_id = config.get("id2label")
    return tuple(str(by_id[key]) for key in sorted(by_id, key=int)) if isinstance(by_id, Mapping) and by_id else None


def _imagenet(model: torch.nn.Module) -> tuple[str, ...] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    return tuple(map(str, ImageNetInfo(subset).label_descriptions())) if subset else None


def _size(value: object) -> tuple[int, int, int]:
    try:
        return msgspec.convert(value, tuple[int, int, int])
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"pretrained_cfg.input_size is {value!r}; channels, height and width were expected."
        ) from error


def _one_of(pretrained: Mapping[str, Any], name: str, default: str, known: tuple[str, ...]) -> str:
    value = pretrained.get(name) or default
    if value not in known:
        raise CheckpointError(f"pretrained_cfg.{name} is {value!r}; one of {', '.join(known)} was expected.")
    return str(value)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"pretrained_cfg.{name} is {value!r}; a number was expected.")
    return float(value)


def _three(pretrained: Mapping[str, Any], name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    listed = pretrained.get(name) or default
    if not isinstance(listed, list | tuple) or len(listed) != 3:
        raise CheckpointError(f"pretrained_cfg.{name} is {listed!r}; three numbers were expected.")
    first, second, third = (_number(value, name) for value in listed)
    return first, second, third
