"""Encoders that give a decoder its cross-attention's keys and values: of a picture, or of a question about one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from sanderling.decode.names import CROSS, IMAGE, INPUT_IDS
from sanderling_export import graphs
from sanderling_export.generation.decoders import OPSET, PIXELS, Shape, stated


class BlipVision(torch.nn.Module):  # type: ignore[misc]
    """BLIP's vision tower, and the keys and values that each layer of its text decoder makes of it."""

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.vision = model.vision_model
        self.layers = torch.nn.ModuleList(
            [layer.crossattention.self for layer in model.text_decoder.bert.encoder.layer]
        )
        self.shape = shape

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.vision(pixel_values=pixel_values).last_hidden_state
        found = [made(states) for layer in self.layers for made in (layer.key, layer.value)]
        return tuple(_by_head(one, self.shape) for one in found)


class PairedVision(torch.nn.Module):  # type: ignore[misc]
    """The encoder of a VisionEncoderDecoderModel, and the keys and values that each layer of its GPT-2 makes of it."""

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.encoder = model.encoder
        projected = hasattr(model, "enc_to_dec_proj")
        self.projection = model.enc_to_dec_proj if projected else torch.nn.Identity()
        self.layers = torch.nn.ModuleList([block.crossattention.c_attn for block in model.decoder.transformer.h])
        self.shape = shape

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.projection(self.encoder(pixel_values=pixel_values).last_hidden_state)
        found = [part for layer in self.layers for part in layer(states).chunk(2, dim=2)]
        return tuple(_by_head(one, self.shape) for one in found)


class BlipSight(torch.nn.Module):  # type: ignore[misc]
    """The vision tower of a BLIP that answers questions: the states that its reader of questions looks at."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.vision(pixel_values=pixel_values).last_hidden_state
        return states


class LlavaSight(torch.nn.Module):  # type: ignore[misc]
    """A LLaVA's vision tower and the projection of its states to words' width."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        config = self.model.config
        states = self.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states
        layers = config.vision_feature_layer
        skipped = 1 if config.vision_feature_select_strategy == "default" else 0
        chosen = [states[layer][:, skipped:] for layer in ([layers] if isinstance(layers, int) else layers)]
        projected: torch.Tensor = self.model.multi_modal_projector(torch.cat(chosen, dim=-1))
        return projected


class IdeficsSight(torch.nn.Module):  # type: ignore[misc]
    """The vision tower of Idefics 3 and SmolVLM, and its connector, for pictures of one size (height, width).

    The positions of patches depend on a picture's size alone; for one that is seen whole they are a constant.
    """

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower = model.model.vision_model
        self.connector = model.model.connector
        with torch.inference_mode():
            blank = torch.zeros(1, 3, *size)
            whole = torch.ones(1, *(side // self.tower.patch_size for side in size), dtype=torch.bool)
            placed = self.tower.embeddings(pixel_values=blank, patch_attention_mask=whole)
            patches = self.tower.embeddings.patch_embedding(blank).flatten(2).transpose(1, 2)
        self.register_buffer("places", (placed - patches).clone())

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        patches = self.tower.embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        states = self.tower.encoder(inputs_embeds=patches + self.places).last_hidden_state
        connected: torch.Tensor = self.connector(self.tower.post_layernorm(states))
        return connected


class BlipReader(torch.nn.Module):  # type: ignore[misc]
    """BLIP's reader of questions, and the keys and values that each layer of its decoder of answers makes of it."""

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.text = model.text_encoder
        self.layers = torch.nn.ModuleList(
            [layer.crossattention.self for layer in model.text_decoder.bert.encoder.layer]
        )
        self.shape = shape

    def forward(self, input_ids: torch.Tensor, image_embeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.text(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            encoder_hidden_states=image_embeds,
            encoder_attention_mask=torch.ones_like(image_embeds[:, :, 0], dtype=torch.int64),
        ).last_hidden_state
        return tuple(_by_head(made(states), self.shape) for layer in self.layers for made in (layer.key, layer.value))


def _by_head(states: torch.Tensor, shape: Shape) -> torch.Tensor:
    return states.view(states.shape[0], -1, shape.heads, shape.size).transpose(1, 2)


def sight_to_onnx(sight: torch.nn.Module, size: tuple[int, int], width: int, folder: Path) -> onnx.ModelProto:
    """The graph of a vision tower whose states, `width` numbers each, another graph looks at; as `to_onnx`."""
    path = folder / "sight.onnx"
    torch.onnx.export(
        sight,
        (torch.zeros(2, 3, *size),),
        str(path),
        input_names=[PIXELS],
        output_names=[IMAGE],
        dynamic_axes={PIXELS: {0: "batch"}, IMAGE: {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return stated(graphs.clean(path, folder / "sight-clean.onnx"), {IMAGE: ("batch", "seen", width)})


def reader_to_onnx(reader: BlipReader, seen: int, width: int, folder: Path) -> onnx.ModelProto:
    """The graph of a reader of questions, which looks at `seen` states of a picture, each of `width` numbers."""
    names = reader.shape.names(CROSS)
    path = folder / "reader.onnx"
    torch.onnx.export(
        reader,
        (torch.ones(2, 5, dtype=torch.int64), torch.zeros(2, seen, width)),
        str(path),
        input_names=[INPUT_IDS, IMAGE],
        output_names=names,
        dynamic_axes={
            INPUT_IDS: {0: "batch", 1: "tokens"},
            IMAGE: {0: "batch", 1: "seen"},
            **{name: {0: "batch", 2: "tokens"} for name in names},
        },
        opset_version=OPSET,
        dynamo=False,
    )
    model = graphs.clean(path, folder / "reader-clean.onnx")
    return stated(model, dict.fromkeys(names, ("batch", reader.shape.heads, "tokens", reader.shape.size)))


def to_onnx(vision: BlipVision | PairedVision, size: tuple[int, int], folder: Path) -> onnx.ModelProto:
    """The encoder's graph for pictures of `size` (height, width), constants folded; scratch files go to `folder`."""
    names = vision.shape.names(CROSS)
    path = folder / "vision.onnx"
    torch.onnx.export(
        vision,
        (torch.zeros(2, 3, *size),),
        str(path),
        input_names=[PIXELS],
        output_names=names,
        dynamic_axes={PIXELS: {0: "batch"}, **{name: {0: "batch"} for name in names}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = graphs.clean(path, folder / "vision-clean.onnx")
    return stated(model, dict.fromkeys(names, ("batch", vision.shape.heads, "seen", vision.shape.size)))
