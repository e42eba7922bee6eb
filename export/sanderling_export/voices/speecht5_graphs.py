"""The graphs of a SpeechT5: encoder, one step of its frame decoder, postnet and vocoder, traced of its modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from sanderling.decode.names import CROSS, PAST, PRESENT
from sanderling.voices import rules
from sanderling_export.voices.surgery import WAVEFORM
from sanderling_export.voices.traced import traced

# Sizes of the sentence that is traced; any are said.
_TOKENS, _PAST, _FRAMES = 17, 5, 23


def to_graphs(model: Any, vocoder: Any, scratch: Path) -> dict[str, onnx.ModelProto]:
    """The four graphs of a voice. Scratch files go to `scratch`."""
    config = model.config
    layers, heads = int(config.decoder_layers), int(config.decoder_attention_heads)
    size, bands = int(config.hidden_size) // heads, int(config.num_mel_bins)
    kinds = [f"{number}.{kind}" for number in range(layers) for kind in ("key", "value")]
    past, present, cross = ([prefix + kind for kind in kinds] for prefix in (PAST, PRESENT, CROSS))
    frames = torch.zeros(1, bands, _FRAMES)
    step = (
        torch.zeros(1, 1, bands),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, config.speech_decoder_prenet_layers, config.speech_decoder_prenet_units),
        torch.ones(1, config.speaker_embedding_dim),
    )
    caches = [torch.zeros(1, heads, _PAST, size) for _ in past] + [torch.zeros(1, heads, _TOKENS, size) for _ in cross]
    of_frames: tuple[int | str, ...] = (1, bands, "frames")
    reduced = int(config.reduction_factor)
    return {
        rules.ENCODER: traced(
            _Encoder(model, heads, size),
            (torch.ones(1, _TOKENS, dtype=torch.int64),),
            {rules.IDS: {1: "tokens"}},
            dict.fromkeys(cross, (1, heads, "tokens", size)),
            scratch,
        ),
        rules.FRAME_DECODER: traced(
            _FrameDecoder(model, heads, size),
            (*step, *caches),
            {rules.FRAME: {}, rules.STEP: {}, rules.DROPOUT: {}, rules.VECTOR: {}}
            | {name: {2: "past"} for name in past}
            | {name: {2: "tokens"} for name in cross},
            {rules.RAW: (1, reduced, bands), rules.END: (1, reduced)}
            | dict.fromkeys(present, (1, heads, "total", size)),
            scratch,
        ),
        rules.POSTNET: traced(
            _Postnet(model), (frames,), {rules.RAW: {2: "frames"}}, {rules.SPECTRUM: of_frames}, scratch
        ),
        rules.VOCODER: traced(
            _Vocoder(vocoder), (frames,), {rules.SPECTRUM: {2: "frames"}}, {WAVEFORM: (1, "samples")}, scratch
        ),
    }


class _Encoder(torch.nn.Module):  # type: ignore[misc]
    """The encoder, and the keys and values that each layer of the frame decoder makes of what it read."""

    def __init__(self, model: Any, heads: int, size: int) -> None:
        super().__init__()
        self.encoder = model.speecht5.encoder
        self.layers = torch.nn.ModuleList([one.encoder_attn for one in model.speecht5.decoder.wrapped_decoder.layers])
        self.shape = (heads, size)

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        wrapped = self.encoder.wrapped_encoder
        states = wrapped.layer_norm(self.encoder.prenet(input_ids))
        places = torch.arange(input_ids.shape[1])
        far = wrapped.embed_positions.max_length
        apart = torch.clamp(places[:, None] - places[None, :], -far, far - 1) + far
        bias = wrapped.embed_positions.pe_k(apart)
        for layer in wrapped.layers:
            states = layer(states, position_bias=bias)[0]
        return tuple(_by_head(made(states), self.shape) for one in self.layers for made in (one.k_proj, one.v_proj))


class _FrameDecoder(torch.nn.Module):  # type: ignore[misc]
    """One step: the frame before, its number, the prenet's dropout, who speaks, and the caches."""

    def __init__(self, model: Any, heads: int, size: int) -> None:
        super().__init__()
        self.prenet = model.speecht5.decoder.prenet
        self.layers = model.speecht5.decoder.wrapped_decoder.layers
        self.postnet = model.speech_decoder_postnet
        self.shape = (heads, size)

    def forward(
        self,
        frame: torch.Tensor,
        step: torch.Tensor,
        dropout: torch.Tensor,
        speaker_vector: torch.Tensor,
        *states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = 2 * len(self.layers)
        past, cross = states[:count], states[count:]
        hidden = frame
        for number, layer in enumerate(self.prenet.layers):
            hidden = torch.relu(layer(hidden)) * dropout[:, number : number + 1]
        positions = self.prenet.encode_positions
        hidden = self.prenet.final_layer(hidden) + positions.alpha * positions.pe[:, step]
        speaker = torch.nn.functional.normalize(speaker_vector)[:, None]
        hidden = torch.relu(self.prenet.speaker_embeds_layer(torch.cat([hidden, speaker], dim=-1)))
        present = []
        for number, layer in enumerate(self.layers):
            places = slice(2 * number, 2 * number + 2)
            own = layer.self_attn
            keys, values = (
                torch.cat([before, _by_head(made(hidden), self.shape)], dim=2)
                for before, made in zip(past[places], (own.k_proj, own.v_proj), strict=True)
            )
            present += [keys, values]
            hidden = layer.self_attn_layer_norm(hidden + self._attended(own, hidden, keys, values))
            read = self._attended(layer.encoder_attn, hidden, *cross[places])
            hidden = layer.encoder_attn_layer_norm(hidden + read)
            hidden = layer.final_layer_norm(hidden + layer.feed_forward(hidden))
        bands = self.postnet.config.num_mel_bins
        frames = self.postnet.feat_out(hidden).reshape(1, -1, bands)
        end = torch.sigmoid(self.postnet.prob_out(hidden)).reshape(1, -1)
        return (frames, end, *present)

    def _attended(self, attention: Any, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        asked = _by_head(attention.q_proj(hidden) * attention.scaling, self.shape)
        weights = torch.softmax(asked @ keys.transpose(2, 3), dim=-1)
        heads, size = self.shape
        return attention.out_proj((weights @ values).transpose(1, 2).reshape(1, -1, heads * size))


class _Postnet(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.postnet = model.speech_decoder_postnet

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.postnet.postnet(frames.transpose(1, 2)).transpose(1, 2)


class _Vocoder(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, vocoder: Any) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        return self.vocoder(spectrum.transpose(1, 2)).reshape(1, -1)


def _by_head(states: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(1, tokens, width) as (1, heads, tokens, size)."""
    return states.reshape(1, -1, *shape).transpose(1, 2)
