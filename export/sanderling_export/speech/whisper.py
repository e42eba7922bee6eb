"""Whisper as two graphs: an encoder that gives each decoder layer its keys and values, and a decoder with a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from sanderling.decode.names import CROSS, INPUT_IDS, MASK, PLACES, POSITIONS
from sanderling.hearing.audio_front import FEATURES
from sanderling_export import graphs
from sanderling_export.generation.decoders import OPSET, Shape, additive, allowed, kept, stated, to_onnx

ALIGNMENT = "alignment"


class WhisperEncoder(torch.nn.Module):  # type: ignore[misc]
    """The encoder, and the keys and values that each layer of the decoder makes of what it heard.

    Of fewer frames than the model's window only the first positions are used: transformers' own refuses them.
    """

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.encoder = model.model.encoder
        self.layers = torch.nn.ModuleList([layer.encoder_attn for layer in model.model.decoder.layers])
        config = model.config
        heads = int(config.encoder_attention_heads)
        self.own = Shape(int(config.encoder_layers), heads, int(config.d_model) // heads, int(config.vocab_size))
        self.shape = shape

    def forward(self, input_features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        known = self.encoder
        heard = torch.nn.functional.gelu(known.conv1(input_features))
        heard = torch.nn.functional.gelu(known.conv2(heard)).transpose(1, 2)
        hidden = heard + known.embed_positions.weight[: heard.shape[1]]
        for layer in known.layers:
            normal = layer.self_attn_layer_norm(hidden)
            keys, values = (_by_head(made(normal), self.own) for made in _keys_and_values(layer.self_attn))
            attended, _ = _attended(layer.self_attn, normal, keys, values, None, self.own)
            hidden = hidden + attended
            normal = layer.final_layer_norm(hidden)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(normal)))
        states = known.layer_norm(hidden)
        found = [made(states) for layer in self.layers for made in _keys_and_values(layer)]
        return tuple(_by_head(one, self.shape) for one in found)


class WhisperDecoder(torch.nn.Module):  # type: ignore[misc]
    """The decoder over plain keys and values. `heads` are layers and heads whose attention is an output, too."""

    inputs = (INPUT_IDS, MASK, POSITIONS, PLACES)

    def __init__(self, model: Any, shape: Shape, heads: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.decoder = model.model.decoder
        self.head = model.get_output_embeddings()
        self.shape = shape
        self.crossed = int(model.config.d_model)
        self.heads = heads

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_positions: torch.Tensor,
        *states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = 2 * self.shape.layers
        past, cross = states[:count], states[count:]
        hidden = self.decoder.embed_tokens(input_ids) + self.decoder.embed_positions.weight[position_ids]
        unseen = additive(allowed(attention_mask, input_ids.shape[1]))
        present, weights = [], []
        for number, layer in enumerate(self.decoder.layers):
            places = slice(2 * number, 2 * number + 2)
            own, listening = layer.self_attn, layer.encoder_attn
            normal = layer.self_attn_layer_norm(hidden)
            keys, values = (
                torch.cat([before, _by_head(made(normal), self.shape)], dim=2)
                for before, made in zip(past[places], _keys_and_values(own), strict=True)
            )
            present += [keys, values]
            attended, _ = _attended(own, normal, keys, values, unseen, self.shape)
            hidden = hidden + attended
            normal = layer.encoder_attn_layer_norm(hidden)
            heard_keys, heard_values = cross[places]
            attended, chances = _attended(listening, normal, heard_keys, heard_values, None, self.shape)
            weights.append(chances)
            hidden = hidden + attended
            normal = layer.final_layer_norm(hidden)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(normal)))
        logits = self.head(kept(self.decoder.layer_norm(hidden), logits_positions))
        if not self.heads:
            return (logits, *present)
        return (logits, *present, torch.stack([weights[layer][:, head] for layer, head in self.heads], dim=1))


def _attended(
    attention: Any,
    hidden: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    shape: Shape,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What attention makes of states, and how much it looks where (batch, heads, new, seen)."""
    queries = _by_head(attention.q_proj(hidden) * attention.scaling, shape)
    found = torch.matmul(queries, keys.transpose(2, 3))
    chances = torch.softmax(found if mask is None else found + mask, dim=-1)
    joined = torch.matmul(chances, values).transpose(1, 2).flatten(2)
    return attention.out_proj(joined), chances


def _keys_and_values(attention: Any) -> tuple[Any, Any]:
    return attention.k_proj, attention.v_proj


def _by_head(states: torch.Tensor, shape: Shape) -> torch.Tensor:
    return states.view(states.shape[0], -1, shape.heads, shape.size).transpose(1, 2)


def encoder_to_onnx(encoder: WhisperEncoder, bands: int, frames: int, folder: Path) -> onnx.ModelProto:
    """The encoder's graph, constants folded; scratch files go to `folder`."""
    names = encoder.shape.names(CROSS)
    path = folder / "encoder.onnx"
    torch.onnx.export(
        encoder,
        (torch.zeros(2, bands, frames),),
        str(path),
        input_names=[FEATURES],
        output_names=names,
        dynamic_axes={FEATURES: {0: "batch", 2: "frames"}, **{name: {0: "batch", 2: "seen"} for name in names}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = graphs.clean(path, folder / "encoder-clean.onnx")
    return stated(model, dict.fromkeys(names, ("batch", encoder.shape.heads, "seen", encoder.shape.size)))


def decoder_to_onnx(decoder: WhisperDecoder, folder: Path) -> onnx.ModelProto:
    """The decoder's graph, with the attention of its alignment heads (batch, heads, new, seen) where it has any."""
    more: dict[str, tuple[int | str, ...]] = {}
    if decoder.heads:
        more[ALIGNMENT] = ("batch", len(decoder.heads), "new", "seen")
    return to_onnx(decoder, folder, more)
