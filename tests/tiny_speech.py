"""Tiny Whispers in the real classes of transformers with random weights, and a CTranslate2 folder of one."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tiny_generators import byte_tokenizer
from tokenizers import AddedToken

from sanderling.audio import Audio

RATE = 16_000
SECONDS = 2
LANGUAGES = ("en", "de", "fr")
SPECIAL = (
    "<|startoftranscript|>", *(f"<|{name}|>" for name in LANGUAGES), "<|translate|>", "<|transcribe|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Layers of encoder and decoder, bands of the spectrogram, and the sizes of what is between."""

    encoder: int
    decoder: int
    bands: int
    width: int = 32
    heads: int = 4
    inner: int = 64
    seconds: int = SECONDS
    context: int = 40
    std: float = 0.3


# As checkpoints of different sizes have them, in little.
SHAPES = {"tiny": Shape(2, 2, 16), "small": Shape(3, 3, 16), "distil": Shape(3, 1, 24)}
# And in full: of the models on the hub, but for the vocabulary.
FULL = {
    "tiny": Shape(4, 4, 80, 384, 6, 1536, 30, 448, 0.02),
    "small": Shape(12, 12, 80, 768, 12, 3072, 30, 448, 0.02),
    "distil-small": Shape(12, 4, 80, 768, 12, 3072, 30, 448, 0.02),
}


def tokenizer(seconds: int = SECONDS) -> Any:
    """Byte-level BPE with Whisper's special tokens behind it, and its tokens of time, which are not special."""
    found = byte_tokenizer()
    found.add_special_tokens({"additional_special_tokens": [AddedToken(one, special=True) for one in SPECIAL]})
    times = [AddedToken(f"<|{place * 0.02:.2f}|>", special=False) for place in range(seconds * 50 + 1)]
    found.add_tokens(times)
    return found


def whisper(folder: Path, shape: str | Shape = "tiny", seed: int = 0) -> Path:
    """WhisperForConditionalGeneration of a shape; the little ones hear two seconds at once."""
    sizes = SHAPES[shape] if isinstance(shape, str) else shape
    encoder, decoder, bands = sizes.encoder, sizes.decoder, sizes.bands
    words = tokenizer(sizes.seconds)
    ids = {name: words.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=len(words), num_mel_bins=bands, d_model=sizes.width, encoder_layers=encoder, decoder_layers=decoder,
        encoder_attention_heads=sizes.heads, decoder_attention_heads=sizes.heads, encoder_ffn_dim=sizes.inner,
        decoder_ffn_dim=sizes.inner, max_source_positions=sizes.seconds * 50, max_target_positions=sizes.context,
        init_std=sizes.std,
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=0, bos_token_id=0, pad_token_id=0,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        # What is heard weighs more than what was said before: else random weights say the same of every sound.
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.mul_(4)
    model.generation_config = transformers.GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        alignment_heads=[[decoder - 1, 1], [decoder - 1, 3]],
        suppress_tokens=[5, 6, 7, *(ids[name] for name in SPECIAL if name != "<|nospeech|>")],
        begin_suppress_tokens=[9, 0],
        max_initial_timestamp_index=20,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=0, bos_token_id=0, pad_token_id=0, max_length=40, return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=bands, chunk_length=sizes.seconds).save_pretrained(folder)
    return folder


def sounds(count: int = 4, seconds: float = 1.5, seed: int = 0) -> list[Audio]:
    """Noises of different colours."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        noise = random.normal(0, 0.1, int(RATE * seconds))
        colour = np.convolve(noise, np.ones(1 + 3 * number) / (1 + 3 * number), mode="same")
        found.append(Audio((np.rint(colour * 32768) / 32768).astype(np.float32), RATE))
    return found


def ctranslate(source: Path, folder: Path) -> Path:
    """A CTranslate2 folder with the weights of a tiny Whisper in half precision, written by hand."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(source)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    tensors: dict[str, NDArray[Any]] = {}
    for part in ("encoder", "decoder"):
        tensors[f"{part}/num_heads"] = np.array(4, np.int16)
        tensors[f"{part}/position_encodings/encodings"] = state[f"model.{part}.embed_positions.weight"]
        _normal(tensors, state, f"{part}/layer_norm", f"model.{part}.layer_norm")
        for number in range(getattr(model.config, f"{part}_layers")):
            _layer(tensors, state, f"{part}/layer_{number}", f"model.{part}.layers.{number}", part == "decoder")
    tensors["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            tensors[f"encoder/{name}/{kind}"] = state[f"model.encoder.{name}.{kind}"]
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(_file(tensors))
    config = {
        "suppress_ids": model.generation_config.suppress_tokens,
        "suppress_ids_begin": model.generation_config.begin_suppress_tokens,
        "alignment_heads": model.generation_config.alignment_heads,
        "lang_ids": [],
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return folder


def _normal(tensors: dict[str, Any], state: dict[str, Any], name: str, to: str) -> None:
    tensors[f"{name}/gamma"], tensors[f"{name}/beta"] = state[f"{to}.weight"], state[f"{to}.bias"]


def _joined(tensors: dict[str, Any], state: dict[str, Any], name: str, parts: list[str]) -> None:
    weights = [state[f"{part}.weight"] for part in parts]
    biases = [
        state.get(f"{part}.bias", np.zeros(len(one), np.float32)) for part, one in zip(parts, weights, strict=True)
    ]
    tensors[f"{name}/weight"], tensors[f"{name}/bias"] = np.concatenate(weights), np.concatenate(biases)


def _layer(tensors: dict[str, Any], state: dict[str, Any], name: str, to: str, crossed: bool) -> None:
    own = f"{to}.self_attn"
    _normal(tensors, state, f"{name}/self_attention/layer_norm", f"{own}_layer_norm")
    _joined(tensors, state, f"{name}/self_attention/linear_0", [f"{own}.{one}_proj" for one in "qkv"])
    _joined(tensors, state, f"{name}/self_attention/linear_1", [f"{own}.out_proj"])
    if crossed:
        other = f"{to}.encoder_attn"
        _normal(tensors, state, f"{name}/attention/layer_norm", f"{other}_layer_norm")
        _joined(tensors, state, f"{name}/attention/linear_0", [f"{other}.q_proj"])
        _joined(tensors, state, f"{name}/attention/linear_1", [f"{other}.{one}_proj" for one in "kv"])
        _joined(tensors, state, f"{name}/attention/linear_2", [f"{other}.out_proj"])
    _normal(tensors, state, f"{name}/ffn/layer_norm", f"{to}.final_layer_norm")
    _joined(tensors, state, f"{name}/ffn/linear_0", [f"{to}.fc1"])
    _joined(tensors, state, f"{name}/ffn/linear_1", [f"{to}.fc2"])


def _file(tensors: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of a model.bin: matrices in half precision, and one of them as an alias."""
    found = struct.pack("<I", 6) + _name("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        stored = value.astype(np.float16) if value.dtype == np.float32 else value
        kind = {np.dtype(np.float16): 4, np.dtype(np.int16): 2}[stored.dtype]
        found += _name(name) + struct.pack("<B", stored.ndim)
        found += b"".join(struct.pack("<I", extent) for extent in stored.shape)
        found += struct.pack("<BI", kind, stored.nbytes) + stored.tobytes()
    return found + struct.pack("<I", 1) + _name("decoder/projection/weight") + _name("decoder/embeddings/weight")


def _name(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw
