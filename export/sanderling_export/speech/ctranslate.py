"""Whisper from a CTranslate2 folder: its weights and special tokens converted back to those of transformers.

A `model.bin` (version 6) is: the version, the model's kind and its revision; the count of tensors, and of each its
name, shape, type and bytes; the count of aliases, and of each its name and the tensor's. Numbers are little-endian,
names end in a zero byte and are preceded by their length. Layers of attention that read the same input are one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from sanderling.errors import CheckpointError
from sanderling_export.checkpoint import Checkpoint, read_json

Tensors = dict[str, NDArray[Any]]

_VERSION = 6
_KIND = "WhisperSpec"
_TYPES: tuple[Any, ...] = (np.float32, np.int8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16)
_MOST = 100_000
_LAYER = re.compile(r"^(encoder|decoder)/layer_(\d+)/")
# What a Whisper of several languages has at least in its vocabulary.
_SEVERAL_LANGUAGES = 51_865


def is_folder(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is a Whisper as CTranslate2 converts it, in a folder or in parts of its file."""
    config = read_json(checkpoint.folder / "config.json")
    return "suppress_ids" in config and (bool(checkpoint.parts) or (checkpoint.folder / "model.bin").is_file())


def read(checkpoint: Checkpoint) -> Tensors:
    """All tensors by their names, aliases included. Raises CheckpointError: damaged, of another version or kind."""
    paths = checkpoint.parts or (checkpoint.folder / "model.bin",)
    stream = _Parts(paths)
    try:
        return _read(stream, str(paths[0]))
    finally:
        stream.close()


def _read(stream: _Parts, where: str) -> Tensors:
    version = stream.number(4)
    if version != _VERSION:
        raise CheckpointError(f"{where} is a CTranslate2 model of version {version}; {_VERSION} was expected.")
    kind = stream.name()
    if kind != _KIND:
        raise CheckpointError(f"{where} holds a {kind}; of CTranslate2's models Sanderling exports {_KIND}.")
    stream.number(4)  # the revision of the kind
    found: Tensors = {}
    for _ in range(stream.count()):
        name = stream.name()
        shape = tuple(stream.number(4) for _ in range(stream.number(1)))
        kind_of, size = stream.number(1), stream.number(4)
        if kind_of >= len(_TYPES) or int(np.prod(shape, dtype=np.int64)) * np.dtype(_TYPES[kind_of]).itemsize != size:
            raise CheckpointError(f"{where}: the tensor {name[:80]!r} does not fit its shape. Fetch it again.")
        found[name] = np.frombuffer(stream.bytes(size), _TYPES[kind_of]).reshape(shape)
    for _ in range(stream.count()):
        alias, name = stream.name(), stream.name()
        if name not in found:
            raise CheckpointError(f"{where}: the alias {alias[:80]!r} is of no tensor. Fetch it again.")
        found[alias] = found[name]
    return found


class _Parts:
    """Files read one after the other, as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files: list[IO[bytes]] = [path.open("rb") for path in paths]
        self._where = str(paths[0])

    def bytes(self, size: int) -> bytes:
        """Exactly so many bytes. Raises CheckpointError where there are fewer."""
        found: list[bytes] = []
        left = size
        while left and self._files:
            piece = self._files[0].read(left)
            if not piece:
                self._files.pop(0).close()
            found.append(piece)
            left -= len(piece)
        if left:
            raise CheckpointError(f"{self._where} ends early: {left:,} bytes are missing. Fetch it again.")
        return b"".join(found)

    def number(self, size: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.bytes(size), "little")

    def count(self) -> int:
        """How many of something there are."""
        found = self.number(4)
        if found > _MOST:
            raise CheckpointError(f"{self._where} says that it holds {found:,} tensors. Fetch it again.")
        return found

    def name(self) -> str:
        """A name, without the zero byte at its end."""
        return self.bytes(self.number(2)).rstrip(b"\0").decode("utf-8", "replace")

    def close(self) -> None:
        """Close what is still open."""
        for file in self._files:
            file.close()


def model(checkpoint: Checkpoint) -> Any:
    """A WhisperForConditionalGeneration of transformers with these weights, and its generation config."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    tensors = read(checkpoint)
    weights = {name: _float(name, tensors) for name in tensors if not name.endswith("_scale")}
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in _state(weights)}
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    heads = int(np.asarray(tensors.get("decoder/num_heads", width // 64)).reshape(-1)[0])
    stated = read_json(checkpoint.folder / "config.json")
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=weights["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=_layers(weights, "encoder"),
        decoder_layers=_layers(weights, "decoder"),
        encoder_attention_heads=int(np.asarray(tensors.get("encoder/num_heads", heads)).reshape(-1)[0]),
        decoder_attention_heads=heads,
        encoder_ffn_dim=weights["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=weights["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        max_source_positions=weights["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=weights["decoder/position_encodings/encodings"].shape[0],
        **_special(stated),
    )
    found = WhisperForConditionalGeneration(config)
    missing, unknown = found.load_state_dict(state, strict=False)
    missing = [name for name in missing if name != "proj_out.weight"]
    if missing or unknown:
        raise CheckpointError(
            f"{checkpoint.folder}: the weights do not make a whole Whisper; {(missing or unknown)[0]} "
            f"{'is missing' if missing else 'has no place'}. Fetch it again."
        )
    found.tie_weights()
    found.generation_config = GenerationConfig(
        is_multilingual=vocabulary >= _SEVERAL_LANGUAGES,
        alignment_heads=stated.get("alignment_heads"),
        suppress_tokens=stated.get("suppress_ids"),
        begin_suppress_tokens=stated.get("suppress_ids_begin"),
        max_initial_timestamp_index=50,
        max_length=config.max_target_positions,
        **_special(stated),
    )
    return found


def _special(stated: Mapping[str, object]) -> dict[str, int]:
    """The ends and the beginning, which CTranslate2 does not state: suppressed at first is, beside a blank, the end."""
    first = stated.get("suppress_ids_begin")
    if not isinstance(first, list) or not first:
        raise CheckpointError("The checkpoint's config.json does not say what a transcript ends with.")
    end = int(first[-1])
    return {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "decoder_start_token_id": end + 1}


def _layers(weights: Tensors, part: str) -> int:
    return 1 + max(int(found[2]) for name in weights if (found := _LAYER.match(name)) and found[1] == part)


def _float(name: str, tensors: Tensors) -> NDArray[np.float32]:
    """A tensor as float32: an integer one of rows divided by the scale of each."""
    found = tensors[name].astype(np.float32)
    scale = tensors.get(f"{name}_scale")
    if scale is not None and found.ndim == 2:
        found = found / scale.astype(np.float32).reshape(-1, 1)
    return np.asarray(found, np.float32)


def _state(weights: Tensors) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """transformers' names of the parameters, and their values."""
    for part in ("encoder", "decoder"):
        to = f"model.{part}"
        yield f"{to}.embed_positions.weight", weights[f"{part}/position_encodings/encodings"]
        yield from _normal(weights, f"{part}/layer_norm", f"{to}.layer_norm")
        for number in range(_layers(weights, part)):
            yield from _layer(weights, f"{part}/layer_{number}", f"{to}.layers.{number}", crossed=part == "decoder")
    yield "model.decoder.embed_tokens.weight", weights["decoder/embeddings/weight"]
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            yield f"model.encoder.{name}.{kind}", weights[f"encoder/{name}/{kind}"]


def _layer(weights: Tensors, name: str, to: str, *, crossed: bool) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield from _normal(weights, f"{name}/self_attention/layer_norm", f"{to}.self_attn_layer_norm")
    yield from _split(weights, f"{name}/self_attention/linear_0", to + ".self_attn", ("q_proj", "k_proj", "v_proj"))
    yield from _split(weights, f"{name}/self_attention/linear_1", to + ".self_attn", ("out_proj",))
    if crossed:
        yield from _normal(weights, f"{name}/attention/layer_norm", f"{to}.encoder_attn_layer_norm")
        yield from _split(weights, f"{name}/attention/linear_0", to + ".encoder_attn", ("q_proj",))
        yield from _split(weights, f"{name}/attention/linear_1", to + ".encoder_attn", ("k_proj", "v_proj"))
        yield from _split(weights, f"{name}/attention/linear_2", to + ".encoder_attn", ("out_proj",))
    yield from _normal(weights, f"{name}/ffn/layer_norm", f"{to}.final_layer_norm")
    yield from _split(weights, f"{name}/ffn/linear_0", to, ("fc1",))
    yield from _split(weights, f"{name}/ffn/linear_1", to, ("fc2",))


def _normal(weights: Tensors, name: str, to: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield f"{to}.weight", weights[f"{name}/gamma"]
    yield f"{to}.bias", weights[f"{name}/beta"]


def _split(weights: Tensors, name: str, to: str, into: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for kind in ("weight", "bias"):
        parts = np.split(weights[f"{name}/{kind}"], len(into))
        for one, value in zip(into, parts, strict=True):
            if not (kind == "bias" and one == "k_proj"):  # Whisper's keys have none: here it is all zeros
                yield f"{to}.{one}.{kind}", value
