"""The networks that learn the world: real classes of transformers in small, and the tokenizer of its words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from world.clips import clips
from world.drawing import SIDE
from world.scenes import COLORS, COUNTS, NO, SHAPES, YES, scenes

# Marks: padding, unknown, the begin of a text read, its end, a mask, the begin of a text written or of a question.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
PAD, UNKNOWN, BEGIN, END, MASK, WRITE, ASK = range(len(SPECIAL))
LONGEST = 24
_QUESTIONS = "what color are the shapes there how many where small or large is a ?"
WIDTH = 96
_SIZES = {"hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": 4 * WIDTH}
# BLIP's own would leave a vision tower that learns anew blind for long: it begins at 1e-10.
_BEGIN = 0.08
_VISION = {**_SIZES, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": 16}
_TEXT = {**_SIZES, "num_hidden_layers": 2, "max_position_embeddings": LONGEST}
_MARKS = {"bos_token_id": WRITE, "eos_token_id": END, "sep_token_id": END, "pad_token_id": PAD}
MEAN, DEVIATION = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


def words() -> list[str]:
    """Every word of the world, once."""
    said: Iterable[str] = (
        *(scene.caption for held_out in (False, True) for scene in scenes(held_out=held_out)),
        *(clip.caption for held_out in (False, True) for clip in clips(held_out=held_out)),
        _QUESTIONS, *COUNTS, *COLORS, *SHAPES, YES, NO,
    )  # fmt: skip
    return sorted({word for text in said for word in text.split()})


def tokenizer() -> Any:
    """One token a word; another word is unknown. A text read is [CLS] words [SEP]."""
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL, *words()])}
    built = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.BertProcessing(("[SEP]", END), ("[CLS]", BEGIN))
    built.decoder = decoders.WordPiece()
    return transformers.BertTokenizerFast(
        tokenizer_object=built, bos_token="[DEC]", eos_token="[SEP]", model_max_length=LONGEST,
        clean_up_tokenization_spaces=True,
    )  # fmt: skip


def clip() -> Any:
    """CLIPModel, with random weights of torch's generator."""
    text = {**_TEXT, "vocab_size": len(tokenizer()), "bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=dict(_VISION), projection_dim=64, logit_scale_init_value=2.6592
    )
    return transformers.CLIPModel(config)


def captioner() -> Any:
    """BlipForConditionalGeneration, with random weights of torch's generator."""
    return transformers.BlipForConditionalGeneration(_blip())


def answerer() -> Any:
    """BlipForQuestionAnswering, with random weights of torch's generator."""
    return transformers.BlipForQuestionAnswering(_blip())


def load(name: str, folder: Path) -> Any:
    """The network `clip`, `captioner` or `answerer` of a checkpoint, in single precision."""
    kind = {"clip": "CLIPModel", "captioner": "BlipForConditionalGeneration", "answerer": "BlipForQuestionAnswering"}
    found = getattr(transformers, kind[name])
    return found.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def begin_as(answerer: Any, captioner: Any) -> None:
    """Give an answerer the weights of a captioner, as BLIP's own was: what reads a question begins as what writes."""
    weights = captioner.state_dict()
    write, read = "text_decoder.bert.", "text_encoder."
    reading = {read + name.removeprefix(write): value for name, value in weights.items() if name.startswith(write)}
    answerer.load_state_dict({**weights, **reading})


def image_processor(kind: str) -> Any:
    """The image processor of `clip`, `captioner` or `answerer`: to 64 x 64 pixels, values from -1 to 1."""
    scaled = {"image_mean": MEAN, "image_std": DEVIATION}
    if kind == "clip":
        return transformers.CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False, **scaled)
    return transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE}, **scaled)


def _blip() -> Any:
    text = transformers.BlipTextConfig(
        vocab_size=len(tokenizer()), encoder_hidden_size=WIDTH, projection_dim=WIDTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=_BEGIN, **_MARKS, **_TEXT,
    )  # fmt: skip
    vision = transformers.BlipVisionConfig(initializer_range=_BEGIN, **_VISION)
    return transformers.BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
