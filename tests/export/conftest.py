"""Tiny checkpoints with random weights, as transformers saves them; tokenizers are built here, from a few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra [export] is not installed")

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

WORDS = ("the a of and to in is sea bird runs tide low high sand wave edge small light beach along").split()  # noqa: SIM905
HIDDEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
POSITIONS = 130


def _wordpiece() -> tokenizers.Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    letters = [chr(c) for c in range(33, 127) if chr(c) not in pieces]
    pieces += [*letters, *(f"##{letter}" for letter in letters)]
    built = tokenizers.Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return built


def _unigram() -> tokenizers.Tokenizer:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [("▁", -3.0)]
    pieces += [(chr(c), -6.0) for c in range(33, 127)]
    built = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3))
    built.normalizer = normalizers.NFKC()
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return built


def bert_tokenizer() -> Any:
    return transformers.BertTokenizerFast(tokenizer_object=_wordpiece(), model_max_length=POSITIONS)


def roberta_tokenizer(kind: type) -> Any:
    return kind(tokenizer_object=_unigram(), pad_token="<pad>", unk_token="<unk>", mask_token="<unk>")


def bert_config(**more: Any) -> Any:
    return transformers.BertConfig(vocab_size=256, max_position_embeddings=POSITIONS, **HIDDEN, **more)


def _save(folder: Path, model: Any, companion: Any) -> Path:
    model.eval().save_pretrained(folder)
    companion.save_pretrained(folder)
    return folder


def _bert(folder: Path) -> Path:
    return _save(folder, transformers.BertModel(bert_config()), bert_tokenizer())


def _distilbert(folder: Path) -> Path:
    config = transformers.DistilBertConfig(
        vocab_size=256, max_position_embeddings=POSITIONS, dim=32, n_layers=2, n_heads=4, hidden_dim=64
    )
    tokenizer = transformers.DistilBertTokenizerFast(tokenizer_object=_wordpiece(), model_max_length=POSITIONS)
    return _save(folder, transformers.DistilBertModel(config), tokenizer)


def _mpnet(folder: Path) -> Path:
    config = transformers.MPNetConfig(vocab_size=256, max_position_embeddings=POSITIONS, **HIDDEN)
    tokenizer = roberta_tokenizer(transformers.PreTrainedTokenizerFast)
    return _save(folder, transformers.MPNetModel(config), tokenizer)


def _xlm_roberta(folder: Path) -> Path:
    config = transformers.XLMRobertaConfig(vocab_size=256, max_position_embeddings=POSITIONS, **HIDDEN)
    tokenizer = roberta_tokenizer(transformers.PreTrainedTokenizerFast)
    return _save(folder, transformers.XLMRobertaModel(config), tokenizer)


def _bert_classifier(folder: Path) -> Path:
    names = {0: "calm", 1: "rough", 2: "stormy"}
    config = bert_config(id2label=names, label2id={v: k for k, v in names.items()}, initializer_range=0.4)
    return _save(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())


def _bert_several(folder: Path) -> Path:
    names = {0: "wet", 1: "cold", 2: "bright"}
    config = bert_config(id2label=names, problem_type="multi_label_classification", initializer_range=0.4)
    return _save(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())


def _bert_regression(folder: Path) -> Path:
    config = bert_config(id2label={0: "height"}, problem_type="regression", initializer_range=0.4)
    return _save(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())


def _bert_inference(folder: Path) -> Path:
    names = {0: "entailment", 1: "neutral", 2: "contradiction"}
    config = bert_config(id2label=names, label2id={v: k for k, v in names.items()}, initializer_range=0.4)
    return _save(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())


def _bert_masked(folder: Path) -> Path:
    return _save(folder, transformers.BertForMaskedLM(bert_config(initializer_range=0.4)), bert_tokenizer())


def _bert_ranker(folder: Path) -> Path:
    config = bert_config(num_labels=1, initializer_range=0.4)
    return _save(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())


def _roberta_inference(folder: Path) -> Path:
    names = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    config = transformers.RobertaConfig(
        vocab_size=256,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        id2label=names,
        label2id={v: k for k, v in names.items()},
        initializer_range=0.4,
        **HIDDEN,
    )
    tokenizer = roberta_tokenizer(transformers.PreTrainedTokenizerFast)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.model_max_length = POSITIONS - 2  # positions count from behind the padding id
    return _save(folder, transformers.RobertaForSequenceClassification(config), tokenizer)


def _vit(folder: Path) -> Path:
    config = transformers.ViTConfig(image_size=64, patch_size=16, num_labels=5, initializer_range=0.2, **HIDDEN)
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    return _save(folder, transformers.ViTForImageClassification(config), processor)


def _convnext(folder: Path) -> Path:
    config = transformers.ConvNextConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1], num_labels=5, initializer_range=0.2
    )
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return _save(folder, transformers.ConvNextForImageClassification(config), processor)


def _resnet(folder: Path) -> Path:
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], layer_type="basic", num_labels=5
    )
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return _save(folder, transformers.ResNetForImageClassification(config), processor)


def _swin(folder: Path) -> Path:
    config = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=4, num_labels=5,
        initializer_range=0.2,
    )  # fmt: skip
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64}, resample=3)
    return _save(folder, transformers.SwinForImageClassification(config), processor)


def _deit(folder: Path) -> Path:
    config = transformers.DeiTConfig(image_size=64, patch_size=16, num_labels=5, initializer_range=0.2, **HIDDEN)
    processor = transformers.DeiTImageProcessor(size={"height": 72, "width": 72}, crop_size={"height": 64, "width": 64})
    return _save(folder, transformers.DeiTForImageClassification(config), processor)


def _beit(folder: Path) -> Path:
    config = transformers.BeitConfig(
        image_size=64, patch_size=16, num_labels=5, initializer_range=0.2, use_relative_position_bias=True, **HIDDEN
    )
    processor = transformers.BeitImageProcessor(
        size={"height": 64, "width": 64}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return _save(folder, transformers.BeitForImageClassification(config), processor)


def _normalizing(model: Any) -> Any:
    """The model with batch norms that have seen noise: with random weights alone the answers of many layers vanish."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(pixel_values=torch.randn(8, 3, 64, 64))
    return model.eval()


def _mobilenet(folder: Path) -> Path:
    config = transformers.MobileNetV2Config(image_size=64, depth_multiplier=0.35, num_labels=5)
    processor = transformers.MobileNetV2ImageProcessor(
        size={"shortest_edge": 73}, crop_size={"height": 64, "width": 64}
    )
    return _save(folder, _normalizing(transformers.MobileNetV2ForImageClassification(config)), processor)


def _mobilevit(folder: Path) -> Path:
    config = transformers.MobileViTConfig(
        image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32], num_labels=5,
        initializer_range=0.2,
    )  # fmt: skip
    processor = transformers.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64})
    return _save(folder, _normalizing(transformers.MobileViTForImageClassification(config)), processor)


def _efficientnet(folder: Path) -> Path:
    config = transformers.EfficientNetConfig(
        image_size=64, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, num_labels=5,
        initializer_range=0.5,
    )  # fmt: skip
    processor = transformers.EfficientNetImageProcessor(
        size={"height": 64, "width": 64}, resample=3, rescale_factor=1 / 127.5, rescale_offset=True
    )
    return _save(folder, _normalizing(transformers.EfficientNetForImageClassification(config)), processor)


def _focalnet(folder: Path) -> Path:
    config = transformers.FocalNetConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], hidden_sizes=[16, 32], focal_levels=[2, 2],
        focal_windows=[3, 3], num_labels=5, initializer_range=0.2,
    )  # fmt: skip
    processor = transformers.BitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64})
    return _save(folder, transformers.FocalNetForImageClassification(config), processor)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": _bert,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
    "xlm-roberta": _xlm_roberta,
    "bert-classifier": _bert_classifier,
    "bert-several": _bert_several,
    "bert-regression": _bert_regression,
    "bert-inference": _bert_inference,
    "bert-masked": _bert_masked,
    "bert-ranker": _bert_ranker,
    "roberta-inference": _roberta_inference,
    "vit": _vit,
    "convnext": _convnext,
    "resnet": _resnet,
    "swin": _swin,
    "deit": _deit,
    "beit": _beit,
    "mobilenet": _mobilenet,
    "mobilevit": _mobilevit,
    "efficientnet": _efficientnet,
    "focalnet": _focalnet,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny checkpoint by the name of its architecture, made once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(7)
            made[name] = MAKERS[name](tmp_path_factory.mktemp("checkpoints") / name)
        return made[name]

    return make


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small made-up pictures: gradients with shapes, of several sizes, none square."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(3)
    for index in range(12):
        height, width = int(draw.integers(70, 140)), int(draw.integers(70, 140))
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / draw.uniform(3, 30) + y / draw.uniform(3, 30)) * 90 + 128 for _ in range(3)]
        pixels = np.stack(waves, axis=-1) + draw.normal(0, 12, (height, width, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"picture-{index}.png")
    return folder


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of texts, one a line."""
    draw = np.random.default_rng(5)
    file = tmp_path_factory.mktemp("texts") / "lines.txt"
    texts = [" ".join(draw.choice(WORDS, size=int(draw.integers(1, 40)))) for _ in range(40)]
    file.write_text("\n".join(texts), encoding="utf-8")
    return file
