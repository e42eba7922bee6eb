"""The originals: models of transformers that generate, which every variant is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import CheckpointError
from sanderling.generation.rules import ANSWERING
from sanderling.schema.basics import Task
from sanderling.schema.generation import GenerationOutput
from sanderling_export import description, images, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.generation import settings, vision
from sanderling_export.generation.decoders import LOGITS, PIXELS, BlipDecoder, CausalDecoder, Shape, linear, to_onnx
from sanderling_export.torch_modules import final_size

Array = NDArray[Any]
LOCAL = {"local_files_only": True, "trust_remote_code": False}


class Original(Protocol):
    """One checkpoint in transformers. An item is a text, an RGB image, or Audio."""

    description: Description

    def inputs(self, item: Any) -> dict[str, Array]:
        """What the library's preprocessing makes of one item, by graph input, without the batch dimension."""
        ...

    def start(self, item: Any) -> NDArray[np.int64]:
        """The tokens that the item's sequence begins with (n,)."""
        ...

    def forced(self, item: Any, following: Sequence[int]) -> NDArray[np.float32]:
        """Logits (n + 1, vocabulary) of the next token behind `start`, and behind each of `following` (n,)."""
        ...

    def greedy(self, item: Any, count: int) -> list[int]:
        """The first `count` new tokens that `generate` gives without beams or drawing; the bundle's settings apart."""
        ...

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        """The fp32 graphs by component; scratch files go to `folder`."""
        ...


def load(checkpoint: Checkpoint, options: Options) -> Original:
    """Load a checkpoint that generates in transformers. Raises CheckpointError."""
    task = description.task_of(checkpoint, options.task)
    names = description.architectures(checkpoint)
    if task == "text-generation":
        return CausalLM(checkpoint, options)
    if task == "automatic-speech-recognition":
        if "MoonshineForConditionalGeneration" in names:
            from sanderling_export.speech.moonshine import MoonshineOriginal

            return MoonshineOriginal(checkpoint, options)
        from sanderling_export.speech.original import WhisperOriginal

        return WhisperOriginal(checkpoint, options)
    if "BlipForConditionalGeneration" in names:
        return BlipCaptioner(checkpoint, options)
    if "VisionEncoderDecoderModel" in names:
        return PairedCaptioner(checkpoint, options)
    if task == ANSWERING:
        from sanderling_export.generation import answerers

        return answerers.load(checkpoint, options, names)
    raise CheckpointError(
        f"{checkpoint.folder} is of the architecture {', '.join(names) or 'unknown'}; of captioners Sanderling exports "
        "BlipForConditionalGeneration and VisionEncoderDecoderModel."
    )


class CausalLM:
    """A causal language model in transformers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = str(checkpoint.folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="sdpa", dtype=torch.float32, **LOCAL
        )  # fmt: skip
        self.model = linear(model.eval())
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        config = self.model.config
        self.context = description.token_limit(self.model, self._tokenizer, None, options.max_tokens)
        refuse_windows(config, self.context)
        generation = self.model.generation_config
        chat, notes = settings.chat_of(options.chat, getattr(self._tokenizer, "chat_template", None))
        head = GenerationOutput(
            LOGITS,
            int(config.vocab_size),
            self.context,
            settings.stop_tokens(generation.eos_token_id, config.eos_token_id, self._tokenizer.eos_token_id),
            (),
            settings.of(generation, 0, options.generation),
            _cleans(self._tokenizer),
            chat,
        )
        text = tokens.settings(self._tokenizer, self.context, False, {}, None)
        self.description = Description(
            "text-generation",
            head,
            text=replace(text, padding_side="left", pad_token_id=pad_token(self._tokenizer, head)),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            notes=notes,
        )

    def inputs(self, item: str) -> dict[str, Array]:
        ids = self.start(item)
        count = np.arange(len(ids), dtype=np.int64)
        return {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": count,
            "logits_positions": count[-1:],
        }

    def start(self, item: str) -> NDArray[np.int64]:
        return np.array(self._tokenizer(item)["input_ids"], np.int64)

    def forced(self, item: str, following: Sequence[int]) -> NDArray[np.float32]:
        ids = np.concatenate([self.start(item), np.array(following, np.int64)])
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor(ids[None])).logits[0]
        return np.asarray(logits[len(ids) - len(following) - 1 :].numpy(), np.float32)

    def greedy(self, item: str, count: int) -> list[int]:
        ids = torch.tensor(self.start(item)[None])
        return _greedy(self.model, ids, count, self.description.head, attention_mask=torch.ones_like(ids))

    def cut(self, text: str, most: int) -> str | None:
        """The beginning of a text that has at most `most` tokens; None where it has none."""
        encoding = self._tokenizer(text, return_offsets_mapping=True)
        if len(encoding["input_ids"]) > most:
            text = text[: max(end for _, end in encoding["offset_mapping"][:most])]
        return text if 0 < len(self.start(text)) <= most else None

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = Shape(int(config.num_hidden_layers), int(heads), int(size), int(config.vocab_size))
        return {"decoder": to_onnx(CausalDecoder(self.model, shape).eval(), folder)}


class Captioner:
    """What captioners have in common: an image processor, a tokenizer, and a decoder that listens to an encoder."""

    task: Task = "image-to-text"

    def __init__(self, checkpoint: Checkpoint, options: Options, model: Any, decoder: Any) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer

        folder = str(checkpoint.folder)
        self.model = linear(model.eval())
        self.decoder = decoder
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        self._processor = AutoImageProcessor.from_pretrained(folder, use_fast=False, **LOCAL)
        config = decoder.config
        self.start_ids, stops = self._special()
        context = int(config.max_position_embeddings)
        head = GenerationOutput(
            LOGITS,
            int(config.vocab_size),
            min(context, options.max_tokens or context),
            stops,
            self.start_ids,
            settings.of(self._generation(), len(self.start_ids), options.generation),
            _cleans(self._tokenizer),
        )
        text = tokens.settings(self._tokenizer, head.context, False, {}, None)
        self.description = Description(
            self.task,
            head,
            text=replace(text, padding_side="left", pad_token_id=pad_token(self._tokenizer, head)),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            image=options.image or images.steps(self._processor),
        )
        heads = int(config.num_attention_heads)
        self.shape = Shape(
            int(config.num_hidden_layers), heads, int(config.hidden_size) // heads, int(config.vocab_size)
        )

    def _special(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens that every caption begins with, and those that end one."""
        raise NotImplementedError

    def _generation(self) -> Any:
        """transformers' GenerationConfig of the captions."""
        raise NotImplementedError

    def inputs(self, item: Any) -> dict[str, Array]:
        return {PIXELS: self._processor(images=item, return_tensors="np")[PIXELS][0]}

    def start(self, item: Any) -> NDArray[np.int64]:
        del item  # all captions begin alike
        return np.array(self.start_ids, np.int64)

    def _pixels(self, item: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.inputs(item)[PIXELS])[None])

    @property
    def _size(self) -> tuple[int, int]:
        assert self.description.image is not None  # every captioner has it
        return final_size(self.description.image)


class BlipCaptioner(Captioner):
    """BlipForConditionalGeneration: a vision tower and a text decoder with cross-attention."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import BlipForConditionalGeneration

        model = BlipForConditionalGeneration.from_pretrained(str(checkpoint.folder), dtype=torch.float32, **LOCAL)
        super().__init__(checkpoint, options, model, model.text_decoder)

    def _special(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        config = self.decoder.config
        return (int(config.bos_token_id),), (int(config.sep_token_id),)

    def _generation(self) -> Any:
        return self.decoder.generation_config

    def forced(self, item: Image.Image, following: Sequence[int]) -> NDArray[np.float32]:
        ids = torch.tensor([[*self.start_ids, *following]])
        with torch.inference_mode():
            states = self.model.vision_model(pixel_values=self._pixels(item))[0]
            logits = self.decoder(input_ids=ids, encoder_hidden_states=states, return_dict=True).logits[0]
        return np.asarray(logits[len(self.start_ids) - 1 :].numpy(), np.float32)

    def greedy(self, item: Image.Image, count: int) -> list[int]:
        with torch.inference_mode():
            found = self.model.generate(
                pixel_values=self._pixels(item), max_new_tokens=count, do_sample=False, num_beams=1, min_length=0
            )
        return until(found[0, len(self.start_ids) :].tolist(), self.description.head)

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        seen = vision.to_onnx(vision.BlipVision(self.model, self.shape).eval(), self._size, folder)
        return {"vision_encoder": seen, "decoder": to_onnx(BlipDecoder(self.decoder, self.shape).eval(), folder)}


class PairedCaptioner(Captioner):
    """VisionEncoderDecoderModel: any vision encoder of transformers, and GPT-2 with cross-attention."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import VisionEncoderDecoderModel

        model = VisionEncoderDecoderModel.from_pretrained(str(checkpoint.folder), dtype=torch.float32, **LOCAL)
        if model.decoder.config.model_type != "gpt2":
            raise CheckpointError(
                f"{checkpoint.folder} has a decoder of the type {model.decoder.config.model_type}; of vision encoders "
                "with a decoder Sanderling exports those with GPT-2."
            )
        super().__init__(checkpoint, options, model, model.decoder)

    def _special(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        own, config = self.model.generation_config, self.model.config
        starts = settings.stop_tokens(own.decoder_start_token_id, config.decoder_start_token_id, own.bos_token_id)
        stops = settings.stop_tokens(own.eos_token_id, config.eos_token_id, self.decoder.config.eos_token_id)
        if not starts:
            raise CheckpointError(
                "The checkpoint does not say with which token captions begin (decoder_start_token_id)."
            )
        return starts[:1], stops

    def _generation(self) -> Any:
        return self.model.generation_config

    def forced(self, item: Image.Image, following: Sequence[int]) -> NDArray[np.float32]:
        ids = torch.tensor([[*self.start_ids, *following]])
        with torch.inference_mode():
            logits = self.model(pixel_values=self._pixels(item), decoder_input_ids=ids).logits[0]
        return np.asarray(logits[len(self.start_ids) - 1 :].numpy(), np.float32)

    def greedy(self, item: Image.Image, count: int) -> list[int]:
        ids = torch.tensor([self.start_ids])
        return _greedy(
            self.model, None, count, self.description.head, pixel_values=self._pixels(item), decoder_input_ids=ids
        )  # fmt: skip

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        seen = vision.to_onnx(vision.PairedVision(self.model, self.shape).eval(), self._size, folder)
        decoder = CausalDecoder(self.decoder, self.shape, int(self.decoder.config.hidden_size)).eval()
        return {"vision_encoder": seen, "decoder": to_onnx(decoder, folder)}


def answers(original: Original, items: Sequence[Any]) -> NDArray[np.float32]:
    """The logits of each item's next token (items, vocabulary), one item at a time."""
    return np.concatenate([original.forced(item, ()) for item in items])


def _greedy(model: Any, ids: torch.Tensor | None, count: int, head: Any, **more: Any) -> list[int]:
    stops = list(head.stop_token_ids) or None
    given = {} if ids is None else {"input_ids": ids}
    begun = (ids if ids is not None else more["decoder_input_ids"]).shape[1]
    with torch.inference_mode():
        found = model.generate(
            **given, max_new_tokens=count, do_sample=False, num_beams=1, eos_token_id=stops,
            pad_token_id=0 if stops is None else stops[0], min_length=0, repetition_penalty=1.0,
            no_repeat_ngram_size=0, **more,
        )  # fmt: skip
    return until(found[0, begun:].tolist(), head)


def until(new: list[int], head: Any) -> list[int]:
    """The new tokens up to the first stop token."""
    for place, token in enumerate(new):
        if token in head.stop_token_ids:
            return new[: place + 1]
    return new


def pad_token(tokenizer: Any, head: GenerationOutput) -> int:
    """A token for places where there is none: it is masked, so that any does."""
    stated = tokenizer.pad_token_id
    return int(stated) if stated is not None else next(iter(head.stop_token_ids), 0)


def _cleans(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))


def refuse_windows(config: Any, context: int) -> None:
    """Raise CheckpointError for attention that sees only the last tokens, where that is less than the context."""
    window = getattr(config, "sliding_window", None)
    used = getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention"} or (not kinds and window is not None and used and window < context):
        raise CheckpointError(
            f"This model's attention sees the last {window} tokens alone (sliding_window), which Sanderling's decoders "
            f"do not. Export it with fewer tokens: --max-tokens {window}"
        )
