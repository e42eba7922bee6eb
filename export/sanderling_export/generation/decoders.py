"""Decoders of transformers as modules whose caches are plain inputs and outputs, and their ONNX graphs.

One graph serves the prompt and every later token: its past may be empty. It is told which of its tokens' logits are
wanted, so that a long prompt's are not all computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import torch
from transformers import DynamicCache, EncoderDecoderCache

from sanderling.decode.names import CROSS, IMAGE, INPUT_IDS, MASK, PAST, PLACES, POSITIONS, PRESENT
from sanderling.errors import CheckpointError
from sanderling_export import graphs

OPSET = 18
LOGITS = "logits"
PIXELS = "pixel_values"

# The sizes of an example that is traced; none of them becomes a constant.
_BATCH, _PAST, _NEW, _KEPT = 2, 3, 4, 2


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a decoder's cache: layers, heads of keys and values, numbers of each head; and the vocabulary."""

    layers: int
    heads: int
    size: int
    vocabulary: int

    def names(self, prefix: str) -> list[str]:
        """Names of the keys and values of all layers."""
        return [f"{prefix}{layer}.{kind}" for layer in range(self.layers) for kind in ("key", "value")]


class Past(DynamicCache):  # type: ignore[misc]
    """A cache that begins with given keys and values, whatever their lengths, and keeps what it has after a run."""

    def __init__(self, states: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._keys, self._values = list(states[::2]), list(states[1::2])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        del cache_kwargs
        self._keys[layer_idx] = torch.cat([self._keys[layer_idx], key_states], dim=2)
        self._values[layer_idx] = torch.cat([self._values[layer_idx], value_states], dim=2)
        return self._keys[layer_idx], self._values[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        # While a graph is traced this is no constant: it must not be made an int.
        length: int = self._keys[layer_idx].shape[2]
        return length

    def states(self) -> list[torch.Tensor]:
        """Keys and values of each layer in turn."""
        return [state for pair in zip(self._keys, self._values, strict=True) for state in pair]


class Crossed(DynamicCache):  # type: ignore[misc]
    """Cross-attention's keys and values, computed already; nothing is added to them."""

    def __init__(self, states: Sequence[torch.Tensor]) -> None:
        super().__init__()
        pairs = zip(states[::2], states[1::2], strict=True)
        self.layers = [SimpleNamespace(keys=keys, values=values, is_sliding=False) for keys, values in pairs]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        length: int = self.layers[layer_idx].keys.shape[2]
        return length


def allowed(attention_mask: torch.Tensor, new: int) -> torch.Tensor:
    """Which tokens each new one may see, (batch, new, past and new): those before it and itself, without padding."""
    total = attention_mask.shape[1]
    places = torch.arange(total)
    causal = places[None, :] <= places[total - new :, None]
    return causal[None] & (attention_mask[:, None, :] != 0)


def additive(seen: torch.Tensor) -> torch.Tensor:
    """0 where a token is seen, and the least number where not: (batch, 1, new, all)."""
    least = torch.finfo(torch.float32).min
    return torch.where(seen, 0.0, least)[:, None]


def kept(hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The states (batch, kept, d) at the places (batch, kept) of (batch, new, d)."""
    return torch.gather(hidden, 1, places[:, :, None].expand(-1, -1, hidden.shape[2]))


class CausalDecoder(torch.nn.Module):  # type: ignore[misc]
    """A causal language model; with cross-attention where `crossed` says of which width its encoder's states are."""

    inputs = (INPUT_IDS, MASK, POSITIONS, PLACES)

    def __init__(self, model: Any, shape: Shape, crossed: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self.crossed = crossed

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
        more: dict[str, Any] = {"past_key_values": past}
        if self.crossed is not None:
            more = crossed(past, states[count:], self.crossed)
        hidden = self.model.base_model(
            input_ids=input_ids,
            attention_mask=additive(allowed(attention_mask, input_ids.shape[1])),
            position_ids=position_ids,
            use_cache=True,
            **more,
        ).last_hidden_state
        logits = self.model.get_output_embeddings()(kept(hidden, logits_positions))
        return (logits, *past.states())


class PrefixDecoder(torch.nn.Module):  # type: ignore[misc]
    """A causal language model that reads what a vision encoder says of a picture in the places of a token.

    The n-th of these tokens of a row is the n-th state of the row's picture, `width` numbers; later steps, which hold
    none of them, only read past it.
    """

    inputs = (INPUT_IDS, MASK, POSITIONS, PLACES)
    crossed = None

    def __init__(self, language: Any, head: Any, shape: Shape, token: int, seen: int, width: int) -> None:
        super().__init__()
        self.language = language
        self.head = head
        self.shape = shape
        self.token = token
        self.pictured = (seen, width)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_positions: torch.Tensor,
        *states: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        past, picture = Past(states[:-1]), states[-1]
        here = input_ids == self.token
        words = self.language.get_input_embeddings()(torch.where(here, 0, input_ids))
        place = (here.to(torch.int64).cumsum(dim=1) - 1).clamp(0, self.pictured[0] - 1)
        seen = kept(picture, place)
        hidden = self.language(
            inputs_embeds=torch.where(here[:, :, None], seen, words),
            attention_mask=additive(allowed(attention_mask, input_ids.shape[1])),
            position_ids=position_ids,
            use_cache=True,
            past_key_values=past,
        ).last_hidden_state
        return (self.head(kept(hidden, logits_positions)), *past.states())


class BlipDecoder(torch.nn.Module):  # type: ignore[misc]
    """BLIP's text decoder, which numbers positions from the length of its past."""

    inputs = (INPUT_IDS, MASK, POSITIONS, PLACES)
    crossed: int

    def __init__(self, model: Any, shape: Shape) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self.crossed = int(model.config.encoder_hidden_size)

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
        hidden = self.model.bert(
            input_ids=input_ids,
            attention_mask=allowed(attention_mask, input_ids.shape[1]).to(torch.float32),
            position_ids=position_ids,
            is_decoder=True,
            use_cache=True,
            **crossed(past, states[count:], self.crossed),
        ).last_hidden_state
        return (self.model.cls(kept(hidden, logits_positions)), *past.states())


def crossed(past: Past, states: Sequence[torch.Tensor], width: int) -> dict[str, Any]:
    """Arguments that give a decoder its encoder's keys and values, computed already.

    It asks for the encoder's states too, but only looks at their number.
    """
    both = EncoderDecoderCache(past, Crossed(states))
    both.is_updated = dict.fromkeys(range(len(states) // 2), True)
    batch, _, tokens, _ = states[0].shape
    return {"past_key_values": both, "encoder_hidden_states": torch.zeros(1).expand(batch, tokens, width)}


def to_onnx(decoder: Any, folder: Path, more: Mapping[str, tuple[int | str, ...]] | None = None) -> onnx.ModelProto:
    """The graph of a decoder (with `shape`, `inputs` and `crossed`), constants folded; scratch files go to `folder`.

    `more` are the shapes of outputs behind the caches."""
    more = dict(more or {})
    shape = decoder.shape
    past, present = shape.names(PAST), shape.names(PRESENT)
    cross = shape.names(CROSS) if decoder.crossed is not None else []
    states = [torch.zeros(_BATCH, shape.heads, _PAST, shape.size) for _ in past]
    states += [torch.zeros(_BATCH, shape.heads, _PAST + _NEW + 1, shape.size) for _ in cross]
    pictured = [IMAGE] if isinstance(decoder, PrefixDecoder) else []
    if isinstance(decoder, PrefixDecoder):
        states.append(torch.zeros(_BATCH, *decoder.pictured))
    example = (
        torch.ones(_BATCH, _NEW, dtype=torch.int64),
        torch.ones(_BATCH, _PAST + _NEW, dtype=torch.int64),
        torch.arange(_PAST, _PAST + _NEW).repeat(_BATCH, 1),
        torch.ones(_BATCH, _KEPT, dtype=torch.int64),
    )
    axes = {
        INPUT_IDS: {0: "batch", 1: "new"},
        MASK: {0: "batch", 1: "total"},
        POSITIONS: {0: "batch", 1: "new"},
        PLACES: {0: "batch", 1: "kept"},
        LOGITS: {0: "batch", 1: "kept"},
        **{name: {0: "batch", 2: "past"} for name in past},
        **{name: {0: "batch", 2: "total"} for name in present},
        **{name: {0: "batch", 2: "seen"} for name in cross},
        **{name: {0: "batch"} for name in pictured},
        **{
            name: {place: one for place, one in enumerate(shape) if isinstance(one, str)}
            for name, shape in more.items()
        },
    }
    path = folder / "decoder.onnx"
    torch.onnx.export(
        decoder,
        (*example, *states),
        str(path),
        input_names=[*decoder.inputs, *past, *cross, *pictured],
        output_names=[LOGITS, *present, *more],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    model = graphs.clean(path, folder / "decoder-clean.onnx")
    sizes: dict[str, tuple[int | str, ...]] = {LOGITS: ("batch", "kept", shape.vocabulary)}
    sizes |= more | dict.fromkeys(present, ("batch", shape.heads, "total", shape.size))
    return stated(model, sizes)


def stated(model: onnx.ModelProto, sizes: dict[str, tuple[int | str, ...]]) -> onnx.ModelProto:
    """The graph with these shapes of its outputs, which tracing leaves open where they are known."""
    for value in model.graph.output:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for extent in sizes[value.name]:
            dimension = shape.dim.add()
            if isinstance(extent, int):
                dimension.dim_value = extent
            else:
                dimension.dim_param = extent
    read = {name for node in model.graph.node for name in node.input}
    unread = [value.name for value in model.graph.input if value.name not in read]
    if unread:
        raise CheckpointError(
            f"The decoder does not read {', '.join(unread[:3])}: it numbers or masks its tokens in another way than "
            "Sanderling's decoding does, so that it would answer wrongly."
        )
    return model


def linear(model: torch.nn.Module) -> torch.nn.Module:
    """The model with GPT-2's transposed layers as linear ones: products that quantization knows."""
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if not isinstance(module, Conv1D):
            continue
        inputs, outputs = module.weight.shape
        made = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            made.weight.copy_(module.weight.T)
            made.bias.copy_(module.bias)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, made)
    return model
