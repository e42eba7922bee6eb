"""Tiny checkpoints that generate, in the real classes of transformers with random weights; made in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "the tide comes in and the tide goes out",
    "a sanderling runs along the edge of the sea",
    "small birds and big waves: 三趾鹬 🐦 naïve",
)
WORDS = "the a of and to in is sea bird runs tide low high sand wave edge small light beach along".split()  # noqa: SIM905
CONTEXT = 64


def byte_tokenizer() -> Any:
    """Byte-level BPE as GPT-2's, whose tokens may be parts of characters."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    built.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    )  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=CONTEXT
    )


def llama_tokenizer() -> Any:
    """Pieces with blanks and bytes, and a token before every text, as Llama's."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [("▁", -3.0)]
    pieces += [(chr(code), -6.0) for code in range(33, 127)]
    built = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=CONTEXT
    )


def word_tokenizer() -> Any:
    """Pieces of words as BERT's, which BLIP speaks with."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS, ".", ",", "'", "s", "##s", "##ing", "##t"]
    letters = [chr(code) for code in range(33, 127) if chr(code) not in pieces]
    pieces += [*letters, *(f"##{letter}" for letter in letters if f"##{letter}" not in pieces)]
    built = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    built.decoder = decoders.WordPiece()
    return transformers.BertTokenizerFast(tokenizer_object=built, bos_token="[DEC]", clean_up_tokenization_spaces=True)


def gpt2(folder: Path) -> Path:
    """GPT2LMHeadModel."""
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return _saved(folder, transformers.GPT2LMHeadModel(config), tokenizer)


def llama(folder: Path) -> Path:
    """LlamaForCausalLM with fewer heads of keys than of queries."""
    tokenizer = llama_tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, initializer_range=0.4, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return _saved(folder, transformers.LlamaForCausalLM(config), tokenizer)


def blip(folder: Path) -> Path:
    """BlipForConditionalGeneration."""
    tokenizer = word_tokenizer()
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = transformers.BlipTextConfig(
        vocab_size=len(tokenizer), encoder_hidden_size=32, projection_dim=32, max_position_embeddings=CONTEXT,
        bos_token_id=5, eos_token_id=3, sep_token_id=3, pad_token_id=0, initializer_range=0.4, **shared,
    )  # fmt: skip
    vision = transformers.BlipVisionConfig(image_size=48, patch_size=16, initializer_range=0.4, **shared)
    config = transformers.BlipConfig.from_text_vision_configs(text, vision, projection_dim=32)
    processor = transformers.BlipImageProcessor(size={"height": 48, "width": 48})
    model = transformers.BlipForConditionalGeneration(config)
    processor.save_pretrained(folder)
    return _saved(folder, model, tokenizer)


def blip_vqa(folder: Path) -> Path:
    """BlipForQuestionAnswering."""
    tokenizer = word_tokenizer()
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = transformers.BlipTextConfig(
        vocab_size=len(tokenizer), encoder_hidden_size=32, projection_dim=32, max_position_embeddings=CONTEXT,
        bos_token_id=5, eos_token_id=3, sep_token_id=3, pad_token_id=0, initializer_range=0.4, **shared,
    )  # fmt: skip
    vision = transformers.BlipVisionConfig(image_size=48, patch_size=16, initializer_range=0.4, **shared)
    config = transformers.BlipConfig.from_text_vision_configs(text, vision, projection_dim=32)
    transformers.BlipImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    return _saved(folder, transformers.BlipForQuestionAnswering(config), tokenizer)


def vilt(folder: Path) -> Path:
    """ViltForQuestionAnswering of five answers, for pictures whose shorter side is 64 pixels."""
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 24
    config = transformers.ViltConfig(
        vocab_size=len(tokenizer), max_position_embeddings=24, image_size=64, patch_size=4, hidden_size=32,
        num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, initializer_range=0.4,
        id2label=dict(enumerate(["yes", "no", "two", "sand", "a bird"])),
    )  # fmt: skip
    model = transformers.ViltForQuestionAnswering(config)
    with torch.no_grad():
        for parameter in (model.vilt.embeddings.cls_token, model.vilt.embeddings.position_embeddings):
            parameter.normal_(0, 0.4)
    transformers.ViltImageProcessor(size={"shortest_edge": 64}, size_divisor=4).save_pretrained(folder)
    return _saved(folder, model, tokenizer)


def llava(folder: Path) -> Path:
    """LlavaForConditionalGeneration of a CLIP tower and a Llama with fewer heads of keys than of queries."""
    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = transformers.CLIPVisionConfig(
        image_size=48, patch_size=16, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        projection_dim=32, initializer_range=0.3,
    )  # fmt: skip
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, initializer_range=0.4, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.4,
    )  # fmt: skip
    model = transformers.LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = 2
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    transformers.LlavaProcessor(
        image_processor=processor, tokenizer=tokenizer, patch_size=16, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return _saved(folder, model, tokenizer)


def smolvlm(folder: Path) -> Path:
    """SmolVLMForConditionalGeneration, whose pictures are seen whole."""
    tokenizer = llama_tokenizer()
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|im_start|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    vision = {
        "image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "initializer_range": 0.3,
    }  # fmt: skip
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, initializer_range=0.4, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = transformers.SmolVLMConfig(
        vision_config=vision, text_config=text.to_dict(), scale_factor=2, pad_token_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.SmolVLMForConditionalGeneration(config)
    model.generation_config.eos_token_id = 2
    transformers.SmolVLMImageProcessor(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 48}, do_image_splitting=False
    ).save_pretrained(folder)
    return _saved(folder, model, tokenizer)


def paired(folder: Path) -> Path:
    """VisionEncoderDecoderModel of a ViT and a GPT-2, of different widths."""
    tokenizer = byte_tokenizer()
    vision = transformers.ViTConfig(
        image_size=48, patch_size=16, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.3,
    )  # fmt: skip
    text = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4,
        add_cross_attention=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    model = transformers.VisionEncoderDecoderModel(config=config)
    for one in (model.config, model.generation_config):
        one.decoder_start_token_id, one.eos_token_id, one.pad_token_id = 0, 0, 0
    transformers.ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    return _saved(folder, model, tokenizer)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "gpt2": gpt2,
    "llama": llama,
    "blip": blip,
    "blip_vqa": blip_vqa,
    "vilt": vilt,
    "llava": llava,
    "smolvlm": smolvlm,
    "paired": paired,
}


def make(name: str, folder: Path, seed: int = 7) -> Path:
    """The folder of one of these checkpoints."""
    torch.manual_seed(seed)
    return MAKERS[name](folder / name)


def _saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    # Random biases, too: those that are made are 0, and would hide a layer without.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
