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
        model.decoder.conv_post.weight.normal_(std=0.3)
        model.text_encoder.project.weight.normal_(std=0.2)
    model.save_pretrained(folder)
    vocabulary = {"<pad>": 0} | {letter: number for number, letter in enumerate(LETTERS, 1)}
    settings = {
        "tokenizer_class": "VitsTokenizer", "add_blank": True, "normalize": True, "phonemize": False,
        "is_uroman": False, "language": "eng", "pad_token": "<pad>", "unk_token": "<unk>",
    }  # fmt: skip
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | tokenizer), "utf-8")
    return folder
