"""LLaVA, Idefics 3 and SmolVLM: a picture's states among the words of a prompt, which a language model continues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.decode.names import INPUT_IDS
from sanderling.errors import CheckpointError, ExportError
from sanderling.generation.questions import PictureQuestion
from sanderling.schema.generation import GenerationOutput, PicturePrompt
from sanderling_export import description, images, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.generation import settings, vision
from sanderling_export.generation.decoders import LOGITS, PIXELS, PrefixDecoder, Shape, linear, to_onnx
from sanderling_export.generation.originals import LOCAL, Array, pad_token, refuse_windows, until
from sanderling_export.torch_modules import final_size


class LlavaAnswerer:
    """LlavaForConditionalGeneration. An item is a PictureQuestion of an RGB image."""

    architecture = "LlavaForConditionalGeneration"
    # The words around a question that LLaVA 1.5 was trained with.
    template = "USER: <image>\n{} ASSISTANT:"

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        import transformers
        from transformers import AutoImageProcessor, AutoTokenizer

        folder = str(checkpoint.folder)
        kind = getattr(transformers, self.architecture)
        model = kind.from_pretrained(folder, dtype=torch.float32, **LOCAL)
        self.model = linear(model.eval())
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        self._processor = AutoImageProcessor.from_pretrained(folder, use_fast=False, **LOCAL)
        config, language = model.config, model.config.text_config
        image = options.image or images.steps(self._processor)
        self._size = final_size(image)
        self._sight = self._seeing().eval()
        with torch.inference_mode():
            self._seen = int(self._sight(torch.zeros(1, 3, *self._size)).shape[1])
        context = description.token_limit(self._language, self._tokenizer, None, options.max_tokens)
        refuse_windows(language, context)
        if context <= self._seen + 1:
            raise ExportError(f"A picture has {self._seen} places, and the context {context}: no room for a question.")
        prompt, notes = self._prompt(options)
        generation = model.generation_config
        head = GenerationOutput(
            LOGITS,
            int(language.vocab_size),
            context,
            settings.stop_tokens(generation.eos_token_id, language.eos_token_id, self._tokenizer.eos_token_id),
            (),
            settings.of(generation, 0, options.generation),
            bool(getattr(self._tokenizer, "clean_up_tokenization_spaces", False)),
            picture=prompt,
        )
        text = tokens.settings(self._tokenizer, context - self._seen, False, {}, None)
        self.description = Description(
            "visual-question-answering",
            head,
            text=replace(text, padding_side="left", pad_token_id=pad_token(self._tokenizer, head)),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            image=image,
            notes=notes,
        )
        self._picture = prompt
        heads = int(language.num_key_value_heads or language.num_attention_heads)
        size = int(getattr(language, "head_dim", None) or language.hidden_size // language.num_attention_heads)
        self._shape = Shape(int(language.num_hidden_layers), heads, size, int(language.vocab_size))
        self._token, self._width = int(config.image_token_id), int(language.hidden_size)

    def _prompt(self, options: Options) -> tuple[PicturePrompt, tuple[str, ...]]:
        token = int(self.model.config.image_token_id)
        picture = self._tokenizer.convert_ids_to_tokens(token)
        if len(options.templates) > 1:
            raise ExportError(f"templates has {len(options.templates)} sentences; a question is put into one.")
        template = options.templates[0] if options.templates else self.template
        ids = self._tokenizer(template.replace("{}", "what"))["input_ids"]
        if template.count("{}") != 1 or ids.count(token) != 1:
            raise CheckpointError(
                f"The template {template!r} needs {picture!r} once, for the picture, and {{}} once, for the question. "
                "Say it in a recipe: templates = [...]."
            )
        note = () if options.templates else (f"no template was given; questions are asked as {template!r}",)
        return PicturePrompt(token, self._seen, template), note

    def _seeing(self) -> torch.nn.Module:
        """The vision tower and what brings its states to words' width, as one module."""
        return vision.LlavaSight(self.model)

    @property
    def _language(self) -> Any:
        """The language model, without its head."""
        return self.model.model.language_model

    def _shown(self, pixels: Array) -> torch.Tensor:
        """One picture (3, height, width) as the model takes it."""
        return _row(pixels)

    def inputs(self, item: PictureQuestion) -> dict[str, Array]:
        ids: list[int] = self._tokenizer(self._picture.template.replace("{}", item.question))["input_ids"]
        here = ids.index(self._token)
        ids = [*ids[:here], *[self._token] * self._picture.count, *ids[here + 1 :]]
        pixels = self._processor(images=item.image, return_tensors="np")[PIXELS][0]
        pixels = pixels.reshape(pixels.shape[-3:])  # of processors that make a list of pictures, the only one
        return {PIXELS: pixels, INPUT_IDS: np.array(ids, np.int64)}

    def start(self, item: PictureQuestion) -> NDArray[np.int64]:
        return np.asarray(self.inputs(item)[INPUT_IDS], np.int64)

    def forced(self, item: PictureQuestion, following: Sequence[int]) -> NDArray[np.float32]:
        given = self.inputs(item)
        ids = torch.tensor([[*given[INPUT_IDS].tolist(), *following]])
        with torch.inference_mode():
            found = self.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=self._shown(given[PIXELS])
            )
        return np.asarray(found.logits[0, len(given[INPUT_IDS]) - 1 :].numpy(), np.float32)

    def greedy(self, item: PictureQuestion, count: int) -> list[int]:
        given = self.inputs(item)
        ids, head = _row(given[INPUT_IDS]), self.description.head
        assert isinstance(head, GenerationOutput)  # as it was made
        stops = list(head.stop_token_ids) or None
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=self._shown(given[PIXELS]),
                max_new_tokens=count, do_sample=False, num_beams=1, eos_token_id=stops,
                pad_token_id=0 if stops is None else stops[0], repetition_penalty=1.0, no_repeat_ngram_size=0,
            )  # fmt: skip
        return until(found[0, ids.shape[1] :].tolist(), head)

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        decoder = PrefixDecoder(self._language, self.model.lm_head, self._shape, self._token, self._seen, self._width)
        return {
            "vision_encoder": vision.sight_to_onnx(self._sight, self._size, self._width, folder),
            "decoder": to_onnx(decoder.eval(), folder),
        }


class IdeficsAnswerer(LlavaAnswerer):
    """Idefics3ForConditionalGeneration, whose pictures are seen whole and not in tiles."""

    architecture = "Idefics3ForConditionalGeneration"
    template = (
        "<|im_start|>User:<fake_token_around_image><global-img><image><fake_token_around_image>{}<end_of_utterance>\n"
        "Assistant:"
    )

    def _seeing(self) -> torch.nn.Module:
        return vision.IdeficsSight(self.model, self._size)

    @property
    def _language(self) -> Any:
        return self.model.model.text_model

    def _shown(self, pixels: Array) -> torch.Tensor:
        return _row(pixels)[None]


class SmolAnswerer(IdeficsAnswerer):
    """SmolVLMForConditionalGeneration, of the same shape."""

    architecture = "SmolVLMForConditionalGeneration"


def _row(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values)[None])
