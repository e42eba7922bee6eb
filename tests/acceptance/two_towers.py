"""Issue 7: CLIP ViT-B/32 and SigLIP-base at their real size with random weights: conversion and parity.

Random weights say nothing of quality, and all of conversion: a wrong mask, a wrong pooling or another resampling filter
moves a random model's vectors as far as a trained one's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checks import Context, Row, at_least, at_most, registry
from numpy.typing import NDArray
from photographs import Crop, crops, photographs

import sanderling
from sanderling.verification import cosines
from sanderling_bench.inputs import standard_texts

_IMAGES, _TEXTS = 60, 120
SEED = 20241101
# Photographs, crops of them to calibrate and to measure on, and texts of an export.
_SHOWN, _CROPS, _SHOWN_TEXTS = 4, 8, 48
_COSINE, _TENSORS = 0.9999, 1e-6
_CLIP_END = "<|endoftext|>"


def clip_tokenizer(limit: int, vocabulary: int = 4000) -> Any:
    """A byte-level BPE as CLIP's, trained on the documentation of Python, both marks at the end of its vocabulary."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    built = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    built.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    built.train_from_iterator(standard_texts(400), trainer)
    trained = json.loads(built.to_str())["model"]
    for token in ("<|startoftext|>", _CLIP_END):
        trained["vocab"].setdefault(token, len(trained["vocab"]))
    merges = [tuple(merge) for merge in trained["merges"]]
    built.model = models.BPE(trained["vocab"], merges, unk_token=_CLIP_END, end_of_word_suffix="</w>")
    built.add_special_tokens(["<|startoftext|>", _CLIP_END])
    start, end = (built.token_to_id(token) for token in ("<|startoftext|>", _CLIP_END))
    built.post_processor = processors.RobertaProcessing(
        (_CLIP_END, end), ("<|startoftext|>", start), add_prefix_space=False, trim_offsets=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        bos_token="<|startoftext|>",
        eos_token=_CLIP_END,
        pad_token=_CLIP_END,
        unk_token=_CLIP_END,
        model_max_length=limit,
    )


def siglip_tokenizer(limit: int, vocabulary: int = 4000) -> Any:
    """A unigram tokenizer with SigLIP's marks, trained on the documentation of Python."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    built = tokenizers.Tokenizer(models.Unigram())
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    built.train_from_iterator(standard_texts(400), trainer)
    built.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", built.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=limit
    )


def clip(folder: Path) -> Path:
    """CLIP ViT-B/32 by its config: what transformers' defaults are, with a tokenizer of its kind."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(SEED)
    tokenizer = clip_tokenizer(77)
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = CLIPConfig(text_config={"vocab_size": 49408, **ends}, vision_config={}, projection_dim=512)
    return _saved(folder, CLIPModel(config), tokenizer, CLIPImageProcessor())


def siglip(folder: Path) -> Path:
    """SigLIP-base (patches of 16, 224 pixels) by its config."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    torch.manual_seed(SEED)
    tokenizer = siglip_tokenizer(64)
    model = SiglipModel(SiglipConfig())
    model.logit_scale.data.fill_(float(np.log(100.0)))
    model.logit_bias.data.fill_(-10.0)
    return _saved(folder, model, tokenizer, SiglipImageProcessor(size={"height": 224, "width": 224}))


MODELS: dict[str, Callable[[Path], Path]] = {"CLIP ViT-B/32": clip, "SigLIP-base": siglip}


def _saved(folder: Path, model: Any, tokenizer: Any, processor: Any) -> Path:
    for part in (model.eval(), tokenizer, processor):
        part.save_pretrained(folder)
    return folder


class Theirs:
    """The checkpoint in transformers: its model in one precision, its tokenizer and its numpy image processor."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self.dtype = getattr(torch, dtype)
        self.model = AutoModel.from_pretrained(folder, dtype=self.dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
        self.is_clip = type(self.model).__name__ == "CLIPModel"

    def pixels(self, images: Sequence[Any]) -> Any:
        """The processor's tensor (n, 3, h, w), float32."""
        return self.processor(images=list(images), return_tensors="pt")["pixel_values"]

    def images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of length 1, preprocessing included."""
        import torch

        with torch.inference_mode():
            rows = self.model.get_image_features(pixel_values=self.pixels(images).to(self.dtype))
        return np.asarray(torch.nn.functional.normalize(rows.float(), dim=1).numpy())

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same of texts, as the model's own processor pads them."""
        import torch

        padding: Any = True if self.is_clip else "max_length"
        found = self.tokenizer(list(texts), padding=padding, truncation=True, return_tensors="pt")
        names = ("input_ids", "attention_mask") if self.is_clip else ("input_ids",)
        with torch.inference_mode():
            rows = self.model.get_text_features(**{name: found[name] for name in names})
        return np.asarray(torch.nn.functional.normalize(rows.float(), dim=1).numpy())


def exported(context: Context, name: str, variants: Sequence[str]) -> tuple[Path, Path]:
    """The checkpoint and the bundle of one of MODELS, which keeps also what is below its floor."""
    from sanderling_export.pipeline import export

    slug = name.split()[0].lower().replace("-", "_")
    folder = MODELS[name](context.folder / slug)
    target = context.folder / f"{slug}-bundle"
    data = shown(context.folder, texts=True)
    wanted = "\n".join(f"[variants.{variant}]" for variant in variants)
    recipe = context.folder / f"{slug}.toml"
    recipe.write_text(f'name = "{slug}"\ncheckpoint = "{slug}"\n{wanted}\n{data}', encoding="utf-8")

    def say(stage: str) -> None:
        context.say(f"{name}: {stage}")

    export(recipe, target, keep_failing=True, progress=say)
    return folder, target


def shown(folder: Path, *, texts: bool = False) -> str:
    """The table of a recipe's samples: few crops of photographs, and texts; random weights need no more."""
    names = []
    for number, one in enumerate(crops(_SHOWN, list(photographs()), seed=SEED + 1, kinds=("JPEG",))):
        names.append(f"shown-{number}.jpg")
        (folder / names[-1]).write_bytes(one.file)
    (folder / "shown.txt").write_text("\n".join(standard_texts(_SHOWN_TEXTS)), encoding="utf-8")
    half = len(names) // 2
    spoken = 'texts = "shown.txt"\n' if texts else ""
    return f"[data]\ncrops = {_CROPS}\ncalibration = {names[:half]}\ncheck = {names[half:]}\n{spoken}"


@registry.check(7, "clip-parity")
def parity(context: Context) -> list[Row]:
    """Vectors and tensors of both models beside transformers, for photographs of all shapes and modes."""
    rows: list[Row] = []
    taken = crops(_IMAGES, list(photographs()), seed=SEED)
    texts = [*standard_texts(_TEXTS), "", "A", "word " * 200]
    for name in MODELS:
        folder, bundle = exported(context, name, ("fp32",))
        theirs = Theirs(folder)
        with sanderling.load(bundle, variant="fp32", decode="exact") as model:
            assert isinstance(model, sanderling.DualEncoder)
            rows += _compared(context, name, model, theirs, taken, texts)
    return rows


def _compared(
    context: Context, name: str, model: sanderling.DualEncoder, theirs: Theirs, taken: Sequence[Crop], texts: list[str]
) -> list[Row]:
    context.say(f"{name}: {len(taken)} photographs and {len(texts)} texts")
    uprights = [one.upright for one in taken]
    expected = np.concatenate([theirs.images([image]) for image in uprights])
    found = model.embed_images([one.file for one in taken]).embeddings
    apart = 0.0
    for one in taken:
        feeds, _ = model.vision_encoder.front.feeds([one.file])
        apart = max(apart, float(np.abs(feeds["pixel_values"][0] - theirs.pixels([one.upright])[0].numpy()).max()))
    words = np.concatenate([theirs.texts([text]) for text in texts])
    of_texts = cosines(model.embed_texts(texts).embeddings, words)
    of_images = cosines(found, expected)
    kinds = len({one.kind for one in taken})
    return [
        at_least(f"{name}: images, cosine to transformers", float(of_images.min()), _COSINE, digits=7,
                 spread=f"minimum of {len(taken)}, mean {of_images.mean():.7f}"),
        at_least(f"{name}: texts, cosine to transformers", float(of_texts.min()), _COSINE, digits=7,
                 spread=f"minimum of {len(texts)}, mean {of_texts.mean():.7f}"),
        at_most(f"{name}: tensors beside the processor's", apart, _TENSORS, digits=9,
                spread=f"largest of {len(taken)} photographs, {kinds} kinds of file"),
    ]  # fmt: skip
