"""The originals that answer questions about pictures: models of transformers, each item a PictureQuestion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from sanderling.decode.names import INPUT_IDS
from sanderling.errors import CheckpointError
from sanderling.generation.questions import PictureQuestion
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.basics import Task
from sanderling_export import description, images, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.generation import vilt, vision
from sanderling_export.generation.decoders import LOGITS, PIXELS, BlipDecoder, to_onnx
from sanderling_export.generation.llava import IdeficsAnswerer, LlavaAnswerer, SmolAnswerer
from sanderling_export.generation.originals import LOCAL, Array, Captioner, Original, until


def load(checkpoint: Checkpoint, options: Options, names: Sequence[str]) -> Original:
    """Load a checkpoint that answers questions; `names` are its architectures. Raises CheckpointError."""
    if "BlipForQuestionAnswering" in names:
        return BlipAnswerer(checkpoint, options)
    if "ViltForQuestionAnswering" in names:
        return ViltAnswerer(checkpoint, options)
    for kind in (LlavaAnswerer, IdeficsAnswerer, SmolAnswerer):
        if kind.architecture in names:
            return kind(checkpoint, options)
    raise CheckpointError(
        f"{checkpoint.folder} is of the architecture {', '.join(names) or 'unknown'}; of what answers questions about "
        "pictures Sanderling exports BlipForQuestionAnswering, ViltForQuestionAnswering, "
        "LlavaForConditionalGeneration, Idefics3ForConditionalGeneration and SmolVLMForConditionalGeneration."
    )


class BlipAnswerer(Captioner):
    """BlipForQuestionAnswering: a vision tower, a reader of the question that looks at it, and a decoder of answers.

    An item is a PictureQuestion of an RGB image.
    """

    task: Task = "visual-question-answering"

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import BlipForQuestionAnswering

        model = BlipForQuestionAnswering.from_pretrained(str(checkpoint.folder), dtype=torch.float32, **LOCAL)
        super().__init__(checkpoint, options, model, model.text_decoder)

    def _special(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (int(self.model.decoder_start_token_id),), (int(self.decoder.config.sep_token_id),)

    def _generation(self) -> Any:
        return self.decoder.generation_config

    def inputs(self, item: PictureQuestion) -> dict[str, Array]:
        ids = np.array(self._tokenizer(item.question)["input_ids"], np.int64)
        return {**super().inputs(item.image), INPUT_IDS: ids}

    def _given(self, item: PictureQuestion) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(np.asarray(self.inputs(item)[INPUT_IDS])[None])
        return {"pixel_values": self._pixels(item), "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def forced(self, item: PictureQuestion, following: Sequence[int]) -> NDArray[np.float32]:
        ids = torch.tensor([[*self.start_ids, *following]])
        given = self._given(item)
        with torch.inference_mode():
            states = self.model.vision_model(pixel_values=given.pop("pixel_values"))[0]
            read = self.model.text_encoder(**given, encoder_hidden_states=states)[0]
            logits = self.decoder(input_ids=ids, encoder_hidden_states=read, return_dict=True).logits[0]
        return np.asarray(logits[len(self.start_ids) - 1 :].numpy(), np.float32)

    def greedy(self, item: PictureQuestion, count: int) -> list[int]:
        with torch.inference_mode():
            found = self.model.generate(
                **self._given(item), max_new_tokens=count, do_sample=False, num_beams=1, min_length=0
            )
        return until(found[0, len(self.start_ids) :].tolist(), self.description.head)

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        width = int(self.model.config.vision_config.hidden_size)
        sight = vision.BlipSight(self.model).eval()
        with torch.inference_mode():
            seen = sight(torch.zeros(1, 3, *self._size)).shape[1]
        reader = vision.BlipReader(self.model, self.shape).eval()
        return {
            "vision_encoder": vision.sight_to_onnx(sight, self._size, width, folder),
            "text_encoder": vision.reader_to_onnx(reader, seen, width, folder),
            "decoder": to_onnx(BlipDecoder(self.decoder, self.shape).eval(), folder),
        }


class ViltAnswerer:
    """ViltForQuestionAnswering: a picture's patches and a question's tokens through one encoder, and a choice among
    answers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer, ViltForQuestionAnswering

        folder = str(checkpoint.folder)
        self.model = ViltForQuestionAnswering.from_pretrained(folder, dtype=torch.float32, **LOCAL).eval()
        config = self.model.config
        if config.max_image_length is not None and config.max_image_length > 0:
            raise CheckpointError(
                f"{checkpoint.folder} draws {config.max_image_length} patches of a picture at random "
                "(max_image_length), so that no two answers need be alike; set it to -1 in its config.json."
            )
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        self._processor = AutoImageProcessor.from_pretrained(folder, use_fast=False, **LOCAL)
        labels = options.labels or tuple(str(config.id2label[place]) for place in range(config.num_labels))
        limit = description.token_limit(self.model, self._tokenizer, None, options.max_tokens)
        self.description = Description(
            "visual-question-answering",
            ClassificationOutput(LOGITS, "sigmoid", labels),
            text=tokens.settings(self._tokenizer, limit, False, {}, None),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            image=options.image or images.steps(self._processor),
        )

    def inputs(self, item: PictureQuestion) -> dict[str, Array]:
        ids = np.array(self._tokenizer(item.question)["input_ids"], np.int64)
        return {PIXELS: self._processor(images=item.image, return_tensors="np")[PIXELS][0], INPUT_IDS: ids}

    def start(self, item: PictureQuestion) -> NDArray[np.int64]:
        del item  # nothing is written
        return np.zeros(0, np.int64)

    def forced(self, item: PictureQuestion, following: Sequence[int]) -> NDArray[np.float32]:
        del following
        given = {name: torch.from_numpy(np.asarray(value)[None]) for name, value in self.inputs(item).items()}
        mask = torch.ones_like(given[PIXELS][:, 0], dtype=torch.int64)
        with torch.inference_mode():
            found = self.model(**given, attention_mask=torch.ones_like(given[INPUT_IDS]), pixel_mask=mask)
        return np.asarray(found.logits.numpy(), np.float32)

    def greedy(self, item: PictureQuestion, count: int) -> list[int]:
        del item, count
        return []

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        return {"model": vilt.to_onnx(self.model, folder)}
