"""Moonshine as two graphs: an encoder of waveforms that gives each decoder layer its keys and values, and a decoder
with a cache. Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands" (2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.decode.names import CROSS, INPUT_IDS, MASK, PLACES, POSITIONS
from sanderling.errors import CheckpointError, ExportError
from sanderling.generation.rules import AUDIO_ENCODER, DECODER
from sanderling.hearing.sound_front import VALUES
from sanderling.schema.generation import GenerationOutput
from sanderling_export import graphs, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.generation import settings
from sanderling_export.generation.decoders import (
    LOGITS,
    OPSET,
    Past,
    Shape,
    additive,
    allowed,
    crossed,
    kept,
    stated,
    to_onnx,
)
from sanderling_export.passes.probe import SAMPLES
from sanderling_export.speech import listening
from sanderling_export.speech.hearing import fewest_samples

Array = NDArray[Any]
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
# The model was trained on stretches of up to half a minute: a longer sound is cut where it is quiet.
_MOST_SECONDS = 30
# Samples of the example that is traced.
_TRACED = 16_000


class MoonshineOriginal:
    """MoonshineForConditionalGeneration in transformers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoFeatureExtractor, AutoTokenizer, MoonshineForConditionalGeneration

        folder = str(checkpoint.folder)
        if options.voice_activity is not None:
            raise ExportError("Moonshine hears in windows cut where it is quiet; leave voice_activity out.")
        model = MoonshineForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **_LOCAL)
        model.set_attn_implementation("eager")  # plain products, which quantization knows
        self.model = model.eval()
        self._extractor = AutoFeatureExtractor.from_pretrained(folder, **_LOCAL)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **_LOCAL)
        config = model.config
        heads = int(config.decoder_num_attention_heads)
        if heads != int(config.decoder_num_key_value_heads):
            raise CheckpointError(
                f"The decoder has {heads} heads of {config.decoder_num_key_value_heads} keys; as many were expected."
            )
        generation = model.generation_config
        ends = settings.stop_tokens(generation.eos_token_id, config.eos_token_id)
        starts = settings.stop_tokens(generation.decoder_start_token_id, config.decoder_start_token_id)[:1]
        if not starts or not ends:
            raise CheckpointError("The checkpoint does not say with which tokens transcripts begin and end.")
        context = min(int(config.max_position_embeddings), options.max_tokens or int(config.max_position_embeddings))
        chosen = settings.of(generation, 0, options.generation)
        if options.generation is None and not generation.max_new_tokens:
            # `max_length` counts the beginning, too; without one the context is the limit.
            longest = generation.max_length if "max_length" in generation.to_diff_dict() else context
            chosen = replace(chosen, max_new_tokens=max(1, min(context, int(longest)) - len(starts)))
        head = GenerationOutput(LOGITS, int(config.vocab_size), context, ends, starts, chosen)
        text = tokens.settings(self._tokenizer, context, False, {}, None)
        rate = int(self._extractor.sampling_rate)
        least = fewest_samples(lambda values: self.model.model.encoder(values).last_hidden_state)
        self.audio = listening.described(self._extractor, least, _MOST_SECONDS * rate)
        self.description = Description(
            "automatic-speech-recognition",
            head,
            text=replace(text, padding_side="left", pad_token_id=ends[0]),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            audio=self.audio,
        )
        self.shape = Shape(
            int(config.decoder_num_hidden_layers), heads, int(config.hidden_size) // heads, int(config.vocab_size)
        )
        self.start_ids = starts

    def inputs(self, item: Audio) -> dict[str, Array]:
        """What the library's own feature extractor makes of a sound."""
        found = self._extractor(item.samples, sampling_rate=item.rate, return_tensors="np")
        return {VALUES: np.asarray(found[VALUES][0], np.float32)}

    def start(self, item: Audio) -> NDArray[np.int64]:
        """The tokens that every transcript begins with."""
        del item
        return np.array(self.start_ids, np.int64)

    def forced(self, item: Audio, following: Sequence[int]) -> NDArray[np.float32]:
        """Logits (n + 1, vocabulary) of the next token behind `start`, and behind each of `following` (n,)."""
        ids = [*self.start_ids, *following]
        return self._logits(self._states(item), ids)[len(self.start_ids) - 1 :]

    def greedy(self, item: Audio, count: int) -> list[int]:
        """The most probable token each time."""
        states, found = self._states(item), list[int]()
        for _ in range(count):
            found.append(int(self._logits(states, [*self.start_ids, *found])[-1].argmax()))
            if found[-1] in self.description.head.stop_token_ids:  # type: ignore[union-attr]
                break
        return found

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        """The encoder's and the decoder's."""
        with _traceable():
            return {
                AUDIO_ENCODER: _encoder_to_onnx(MoonshineEncoder(self.model, self.shape).eval(), folder),
                DECODER: to_onnx(MoonshineDecoder(self.model, self.shape).eval(), folder),
            }

    def _states(self, item: Audio) -> Any:
        with torch.inference_mode():
            return self.model.model.encoder(torch.from_numpy(np.array(self.inputs(item)[VALUES])[None]))

    def _logits(self, states: Any, ids: Sequence[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found = self.model(encoder_outputs=states, decoder_input_ids=torch.tensor([list(ids)]), use_cache=False)
            return np.asarray(found.logits[0].numpy(), np.float32)


class MoonshineEncoder(torch.nn.Module):  # type: ignore[misc]
    """The encoder, and the keys and values that each layer of the decoder makes of what it heard."""

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.encoder = model.model.encoder
        self.layers = torch.nn.ModuleList([layer.encoder_attn for layer in model.model.decoder.layers])
        self.shape = shape

    def forward(self, input_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.encoder(input_values).last_hidden_state
        found = [made(states) for layer in self.layers for made in (layer.k_proj, layer.v_proj)]
        return tuple(one.view(one.shape[0], -1, self.shape.heads, self.shape.size).transpose(1, 2) for one in found)


class MoonshineDecoder(torch.nn.Module):  # type: ignore[misc]
    """The decoder over plain keys and values."""

    inputs = (INPUT_IDS, MASK, POSITIONS, PLACES)

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.decoder = model.model.decoder
        self.head = model.get_output_embeddings()
        self.shape = shape
        self.crossed = int(model.config.hidden_size)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_positions: torch.Tensor,
        *states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = 2 * self.shape.layers
        past = Past(states[:count])
        hidden = self.decoder(
            input_ids=input_ids,
            attention_mask=additive(allowed(attention_mask, input_ids.shape[1])),
            position_ids=position_ids,
            use_cache=True,
            **crossed(past, states[count:], self.crossed),
        ).last_hidden_state
        return (self.head(kept(hidden, logits_positions)), *past.states())


@contextmanager
def _traceable() -> Iterator[None]:
    """While a graph is traced, rotations of queries and keys by operators that can be written to ONNX."""
    from transformers.models.moonshine import modeling_moonshine

    own = modeling_moonshine.apply_rotary_pos_emb
    modeling_moonshine.apply_rotary_pos_emb = _rotated
    try:
        yield
    finally:
        modeling_moonshine.apply_rotary_pos_emb = own


def _rotated(
    queries: torch.Tensor, keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys (batch, heads, tokens, size), whose first numbers are pairs that are turned by the angles
    (batch, tokens, numbers) of their places; both halves of these are the same."""
    half = cos.shape[-1] // 2
    wide = [torch.stack((one[..., :half],) * 2, dim=-1).flatten(-2)[:, None] for one in (cos, sin)]

    def turned(states: torch.Tensor) -> torch.Tensor:
        pairs, rest = states[..., : 2 * half], states[..., 2 * half :]
        across = torch.stack((-pairs[..., 1::2], pairs[..., 0::2]), dim=-1).flatten(-2)
        return torch.cat([pairs * wide[0] + across * wide[1], rest], dim=-1)

    return turned(queries), turned(keys)


def _encoder_to_onnx(encoder: MoonshineEncoder, folder: Path) -> onnx.ModelProto:
    """The encoder's graph for waveforms of any length, constants folded; scratch files go to `folder`."""
    names = encoder.shape.names(CROSS)
    path = folder / "encoder.onnx"
    torch.onnx.export(
        encoder,
        (torch.randn(2, _TRACED, generator=torch.Generator().manual_seed(0)),),
        str(path),
        input_names=[VALUES],
        output_names=names,
        dynamic_axes={VALUES: {0: "batch", 1: SAMPLES}, **{name: {0: "batch", 2: "seen"} for name in names}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = graphs.clean(path, folder / "encoder-clean.onnx")
    return stated(model, dict.fromkeys(names, ("batch", encoder.shape.heads, "seen", encoder.shape.size)))
