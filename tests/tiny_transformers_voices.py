"""Tiny voices of transformers with random weights, written as `save_pretrained` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LETTERS = " 'abcdefghijklmnopqrstuvwxyz-éß"


def vits(folder: Path, *, speakers: int = 1, full: bool = False, seed: int = 7, **tokenizer: Any) -> Path:
    """A VitsModel, of the shape of the MMS voices if `full`, with the files of a VitsTokenizer of letters."""
    import torch
    from transformers import VitsConfig, VitsModel

    small = {
        "hidden_size": 16, "num_hidden_layers": 2, "ffn_dim": 32, "flow_size": 16, "spectrogram_bins": 17,
        "upsample_initial_channel": 16, "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "prior_encoder_num_flows": 2,
        "prior_encoder_num_wavenet_layers": 2, "posterior_encoder_num_wavenet_layers": 1,
        "duration_predictor_num_flows": 2, "duration_predictor_filter_channels": 16,
    }  # fmt: skip
    told = {"num_speakers": speakers, "speaker_embedding_size": 8} if speakers > 1 else {}
    torch.manual_seed(seed)
    model = VitsModel(VitsConfig(vocab_size=len(LETTERS) + 1, **({} if full else small), **told)).eval()
    with torch.no_grad():
        # Random weights say next to nothing, a frame a letter: what is said is made loud, and what lasts, longer.
        for flow in model.duration_predictor.flows[1:]:
            flow.conv_proj.weight.normal_(std=0.3)
        model.duration_predictor.flows[0].translate.fill_(0.5)
        # Not so loud that samples are all 1 or -1: transformers' own in float32 and float64 would be 0.008 apart.
        model.decoder.conv_post.weight.normal_(std=0.003 if full else 0.3)
        model.text_encoder.project.weight.normal_(std=0.06 if full else 0.2)
    model.save_pretrained(folder)
    vocabulary = {"<pad>": 0} | {letter: number for number, letter in enumerate(LETTERS, 1)}
    settings = {
        "tokenizer_class": "VitsTokenizer", "add_blank": True, "normalize": True, "phonemize": False,
        "is_uroman": False, "language": "eng", "pad_token": "<pad>", "unk_token": "<unk>",
    }  # fmt: skip
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | tokenizer), "utf-8")
    return folder


VECTOR = 8


def speecht5(folder: Path, *, full: bool = False, seed: int = 7, **tokenizer: Any) -> Path:
    """A SpeechT5ForTextToSpeech with its HiFi-GAN, in their own full shapes if `full`, two speakers' vectors, and a
    SentencePiece model of the characters of some sentences."""
    import torch
    from safetensors.numpy import save_file
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5HifiGanConfig

    small = {
        "hidden_size": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "num_mel_bins": 10,
        "speech_decoder_prenet_units": 12, "speech_decoder_postnet_units": 12, "speech_decoder_postnet_layers": 3,
        "speaker_embedding_dim": VECTOR, "max_text_positions": 120, "max_speech_positions": 24,
        "encoder_max_relative_position": 6,
    }  # fmt: skip
    heard = {
        "model_in_dim": 10, "upsample_initial_channel": 16, "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "normalize_before": True,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = SpeechT5ForTextToSpeech(SpeechT5Config(vocab_size=81, **({} if full else small))).eval()
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**({} if full else heard))).eval()
    with torch.no_grad():
        # Some step of random weights is to end a sentence, and not the first; and what is said is to be heard.
        model.speech_decoder_postnet.prob_out.weight.normal_(std=0.05 if full else 0.8)
        model.speech_decoder_postnet.prob_out.bias.fill_(-3.0 if full else -1.2)
        model.speech_decoder_postnet.feat_out.weight.normal_(std=0.5)
        for one in (*vocoder.upsampler, vocoder.conv_pre):
            one.weight.normal_(std=0.05 if full else 0.3)
        vocoder.conv_post.weight.normal_(std=0.3)
        vocoder.mean.normal_()
        vocoder.scale.uniform_(0.5, 2.0)
    model.save_pretrained(folder)
    vocoder.save_pretrained(folder / "vocoder")
    size = int(model.config.speaker_embedding_dim)
    vectors = torch.randn(2, size).numpy()
    save_file({"ada": vectors[0], "bob": vectors[1]}, folder / "speaker_embeddings.safetensors")
    character_model(folder)
    settings = {"tokenizer_class": "SpeechT5Tokenizer", "normalize": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | tokenizer), "utf-8")
    return folder


def character_model(folder: Path, **settings: Any) -> Path:
    """A SentencePiece model of characters, trained on the spot, as `spm_char.model`."""
    import sentencepiece

    lines = ["The quick brown fox jumps over the lazy dog, isn't it?", "Good morning - five boxing wizards!", "(é) ü."]
    path = folder / "spm_char.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 5), model_writer=file, character_coverage=1.0, minloglevel=2,
            **{"model_type": "char", "vocab_size": 60, "hard_vocab_limit": False, **settings},
            bos_id=0, pad_id=1, eos_id=2, unk_id=3,
        )  # fmt: skip
    return path
