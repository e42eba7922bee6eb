"""Tiny wav2vec 2.0 models and their kin in the real classes of transformers, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_generators import byte_tokenizer

RATE = 16_000
LETTERS = "etaonihsrdlumwcfgypbvk'xjqz"
VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4} | {
    letter: place for place, letter in enumerate(LETTERS.upper(), 5)
}
# The kernels and strides of the real ones: 320 samples from frame to frame, 400 in each.
_SMALL = {
    "conv_dim": (16,) * 7,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
    "tdnn_dim": (24, 24, 24, 24, 48),
    "xvector_output_dim": 24,
}
LABELS = ("cough", "laughter", "rain", "a wader")


def saved(
    folder: Path, library: str, *, layered: bool = True, normalize: bool = True, seed: int = 0, **more: Any
) -> Path:
    """A checkpoint of the class `library` of transformers, with its feature extractor.

    `layered` is the way of the large models (layer normalization, with an attention mask), else that of the first ones.
    """
    kind = getattr(transformers, library)
    torch.manual_seed(seed)
    norm = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if layered else {"feat_extract_norm": "group"}
    config = kind.config_class(**_SMALL, **norm, vocab_size=len(VOCABULARY), **more)
    config.pad_token_id = 0
    if library.endswith("ForSequenceClassification"):
        config.id2label, config.label2id = dict(enumerate(LABELS)), {label: i for i, label in enumerate(LABELS)}
    model = kind(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "conv" not in name:
                value.mul_(4)  # else random weights say nearly the same of every sound
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        do_normalize=normalize, return_attention_mask=layered, sampling_rate=RATE
    ).save_pretrained(folder)
    return folder


def recognizer(folder: Path, library: str = "Wav2Vec2ForCTC", **more: Any) -> Path:
    """A recognizer by CTC with a vocabulary of capitals."""
    saved(folder, library, **more)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps(VOCABULARY))
    transformers.Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    return folder


def spectrogram_transformer(folder: Path, frames: int = 64, bands: int = 32, seed: int = 0) -> Path:
    """An Audio Spectrogram Transformer of a few frames."""
    torch.manual_seed(seed)
    config = transformers.ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_length=frames,
        num_mel_bins=bands, initializer_range=0.2, id2label=dict(enumerate(LABELS)),
        label2id={label: place for place, label in enumerate(LABELS)},
    )  # fmt: skip
    transformers.ASTForAudioClassification(config).eval().save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=bands, max_length=frames).save_pretrained(folder)
    return folder


def moonshine(folder: Path, seed: int = 0) -> Path:
    """A Moonshine of two layers, with a byte-level tokenizer."""
    words = byte_tokenizer()
    torch.manual_seed(seed)
    config = transformers.MoonshineConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2, encoder_num_attention_heads=4, decoder_num_attention_heads=4,
        pad_head_dim_to_multiple_of=8, max_position_embeddings=40, initializer_range=0.3, partial_rotary_factor=0.62,
        decoder_start_token_id=1, bos_token_id=1, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = transformers.MoonshineForConditionalGeneration(config).eval()
    with torch.no_grad():
        # What is heard weighs more than what was said before: else random weights say the same of every sound.
        for layer in model.model.decoder.layers:
            layer.encoder_attn.o_proj.weight.mul_(4)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=1, bos_token_id=1, eos_token_id=0, pad_token_id=0, max_length=40
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    return folder
