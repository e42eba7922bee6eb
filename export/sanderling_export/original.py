"""The original: a checkpoint in its original library, which every variant is measured against."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError, ExportError, RecipeError, SanderlingError
from sanderling.manifest import (
    CenterCrop,
    ClassificationOutput,
    DenseLayer,
    EmbeddingOutput,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
    Task,
)
from sanderling.pairs import TextPair
from sanderling.reasons import first_line
from sanderling.surroundings import TEXT_ENCODER, VISION_ENCODER
from sanderling_export import description, features, images, late, sparse, timm_models, tokens, towers, vision_operators
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.recipe import Module
from sanderling_export.speech import hearing

Array = NDArray[Any]
_IMAGES_A_RUN = 8
# What a model of a single graph calls it.
COMPONENT = "model"

_POOLINGS = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
}
_ACTIVATIONS = {"Identity": "none", "Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid"}
_PLAIN = "no modules.json: mean pooling without normalization, as sentence-transformers does it"


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


class TextEmbedder:
    """A text encoder in sentence-transformers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from sentence_transformers import SentenceTransformer

        folder = checkpoint.folder
        st = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
        st = _repooled(st, options)
        kinds = [type(module).__name__ for module in st]
        behind = kinds[2:-1] if kinds[-1] == "Normalize" else kinds[2:]
        if kinds[:2] != ["Transformer", "Pooling"] or any(kind != "Dense" for kind in behind):
            raise CheckpointError(
                f"{folder / 'modules.json'} stacks {' > '.join(kinds)}; Sanderling exports Transformer > Pooling, "
                "then any Dense layers, with or without Normalize at the end."
            )
        transformer, pooling = st[0], st[1]
        dense, weights = _dense([module for module in st if type(module).__name__ == "Dense"])
        pooled = pooling.pooling_mode
        mode = _POOLINGS.get(pooled if isinstance(pooled, str) else "+".join(pooled))
        if mode is None:
            raise CheckpointError(
                f"The checkpoint pools by {pooled!r}; expected one of {', '.join(_POOLINGS)}. "
                "Choose another: --pooling mean"
            )
        self.model = transformer.model
        tokenizer = transformer.tokenizer
        limit = description.token_limit(self.model, tokenizer, st.max_seq_length, options.max_tokens)
        st.max_seq_length = limit
        prompts = description.prompts_of(st, options)
        size = len(weights[dense[-1].weight]) if dense else int(pooling.pooling_output_dimension)
        notes = () if (folder / "modules.json").is_file() or options.pooling else (_PLAIN,)
        self._st = st
        self.description = Description(
            "feature-extraction",
            EmbeddingOutput(
                "last_hidden_state",
                mode,  # type: ignore[arg-type]
                "Normalize" in kinds,
                size,
                include_prompt=bool(pooling.include_prompt),
                dense=dense,
            ),
            tokens.settings(tokenizer, limit, bool(transformer.do_lower_case), prompts, st.default_prompt_name),
            tokens.tokenizer_json(tokenizer),
            weights=weights,
            dimensions=description.shorter(size, options.dimensions),
            notes=notes,
        )

    def inputs(self, item: str, prompt: str | None = None) -> dict[str, Array]:
        text = self.description.text
        assert text is not None
        name = prompt if prompt is not None else text.default_prompt
        prefix = text.prompts[name] if name else ""
        features = self._st[0].preprocess([prefix + item])
        return {name: value[0].numpy() for name, value in features.items() if torch.is_tensor(value)}

    def answers(self, items: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        rows = self._st.encode(
            list(items), prompt_name=prompt, batch_size=16, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(rows, dtype=np.float32)


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
                for batch in _batches(items)
            ]
        return np.concatenate(rows)


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
            rows = [self.model(self._pixels(batch)).numpy() for batch in _batches(items)]
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


def _repooled(st: Any, options: Options) -> Any:
    """The model with the pooling and normalization asked for in place of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize as NormalizeModule
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    if options.pooling is None and options.normalize is None:
        return st
    modules = list(st)
    if options.pooling is not None:
        wanted = next((theirs for theirs, ours in _POOLINGS.items() if ours == options.pooling), None)
        if wanted is None:
            raise ExportError(
                f"--pooling {options.pooling} is no pooling over tokens; choose {', '.join(_POOLINGS.values())}."
            )
        modules[1] = PoolingModule(modules[0].get_embedding_dimension(), pooling_mode=wanted)
    if options.normalize is not None:
        modules = [m for m in modules if type(m).__name__ != "Normalize"]
        modules += [NormalizeModule()] if options.normalize else []
    return SentenceTransformer(
        modules=modules, device="cpu", prompts=st.prompts, default_prompt_name=st.default_prompt_name
    )


def _dense(modules: Sequence[Any]) -> tuple[tuple[DenseLayer, ...], dict[str, NDArray[np.float32]]]:
    """sentence-transformers' Dense modules as the manifest's layers, and their tensors."""
    layers: list[DenseLayer] = []
    tensors: dict[str, NDArray[np.float32]] = {}
    for number, module in enumerate(modules, 1):
        if {module.module_input_name, module.module_output_name} != {"sentence_embedding"}:
            raise CheckpointError(
                f"The checkpoint's Dense layer {number} reads {module.module_input_name!r} and writes "
                f"{module.module_output_name!r}; Sanderling exports layers of the sentence embedding."
            )
        function = type(module.activation_function).__name__
        if function not in _ACTIVATIONS:
            raise CheckpointError(
                f"The checkpoint's Dense layer {number} has the activation {function}; expected one of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        bias = module.linear.bias
        tensors[f"{number}.weight"] = module.linear.weight.detach().float().numpy()
        if bias is not None:
            tensors[f"{number}.bias"] = bias.detach().float().numpy()
        name = f"{number}.bias" if bias is not None else None
        layers.append(DenseLayer(f"{number}.weight", name, _ACTIVATIONS[function]))  # type: ignore[arg-type]
    return tuple(layers), tensors


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


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _IMAGES_A_RUN] for start in range(0, len(items), _IMAGES_A_RUN))


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
