"""Checkpoints of the architectures users have, made from small configurations with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling_bench.inputs import standard_texts

WIDTH, LAYERS, HEADS = 32, 2, 4
LABELS = ("water", "sand", "bird", "sky", "rock")
_ENCODER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
    "max_position_embeddings": 80,
    # Wider than usual: with 0.02 the answers to all inputs are nearly the same, and a wrong one goes unseen.
    "initializer_range": 0.2,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One architecture: how to make a checkpoint of it, and what it is for."""

    name: str
    task: str
    make: Callable[[Path], None]


def bert_embedding(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    tokenizer = _bert_tokenizer(folder)
    model = BertModel(BertConfig(vocab_size=len(tokenizer), **_ENCODER))
    _sentence_encoder(folder, model, tokenizer, pooling="mean", normalize=True)


def distilbert_embedding(folder: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    vocabulary = _word_pieces(folder, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer = DistilBertTokenizerFast(vocab_file=vocabulary, model_max_length=64)
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        hidden_dim=4 * WIDTH,
        max_position_embeddings=80,
        initializer_range=0.2,
    )
    _sentence_encoder(folder, DistilBertModel(config), tokenizer, pooling="cls", normalize=False)


def mpnet_embedding(folder: Path) -> None:
    from transformers import MPNetConfig, MPNetModel

    tokenizer = _mpnet_tokenizer(folder)
    config = MPNetConfig(vocab_size=len(tokenizer), pad_token_id=1, relative_attention_num_buckets=32, **_ENCODER)
    _sentence_encoder(folder, MPNetModel(config), tokenizer, pooling="mean", normalize=True)


def xlm_roberta_embedding(folder: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = _xlm_roberta_tokenizer()
    config = XLMRobertaConfig(vocab_size=len(tokenizer), pad_token_id=1, type_vocab_size=1, **_ENCODER)
    _sentence_encoder(folder, XLMRobertaModel(config), tokenizer, pooling="mean", normalize=True)


def bert_classification(folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _bert_tokenizer(folder)
    config = BertConfig(vocab_size=len(tokenizer), **_labels(), **_ENCODER)
    _seeded(lambda: BertForSequenceClassification(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def inference(folder: Path) -> Path:
    """Natural language inference between two texts."""
    from transformers import BertConfig, BertForSequenceClassification

    folder.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = _bert_tokenizer(folder)
    names = ("contradiction", "neutral", "entailment")
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }
    config = BertConfig(vocab_size=len(tokenizer), **labels, **_ENCODER)
    _seeded(lambda: BertForSequenceClassification(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def vit_classification(folder: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    layers = {key: value for key, value in _ENCODER.items() if key != "max_position_embeddings"}
    config = ViTConfig(image_size=64, patch_size=16, **_labels(), **layers)
    _seeded(lambda: ViTForImageClassification(config)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def convnext_classification(folder: Path) -> None:
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    config = ConvNextConfig(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1], image_size=64, **_labels())
    _seeded(lambda: ConvNextForImageClassification(config)).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(folder)


def resnet_classification(folder: Path) -> None:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], **_labels())
    _seeded(lambda: ResNetForImageClassification(config)).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(folder)


KINDS = (
    Kind("BERT", "feature-extraction", bert_embedding),
    Kind("DistilBERT", "feature-extraction", distilbert_embedding),
    Kind("MPNet", "feature-extraction", mpnet_embedding),
    Kind("XLM-RoBERTa", "feature-extraction", xlm_roberta_embedding),
    Kind("BERT for sequence classification", "text-classification", bert_classification),
    Kind("ViT", "image-classification", vit_classification),
    Kind("ConvNeXt", "image-classification", convnext_classification),
    Kind("ResNet", "image-classification", resnet_classification),
)


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}


def _seeded(make: Callable[[], Any]) -> Any:
    import torch

    torch.manual_seed(7)
    return make().eval()


def _sentence_encoder(folder: Path, model: Any, tokenizer: Any, *, pooling: str, normalize: bool) -> None:
    """Saved as sentence-transformers saves its models: modules.json, 1_Pooling, 2_Normalize."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    torch.manual_seed(7)
    model.init_weights()
    plain = folder.with_name(folder.name + "-plain")
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    modules: list[Any] = [models.Transformer(str(plain), max_seq_length=48), models.Pooling(WIDTH, pooling)]
    if normalize:
        modules.append(models.Normalize())
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))


def _word_pieces(folder: Path, specials: list[str]) -> str:
    """A vocabulary file of word pieces, one a line."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(standard_texts(200), trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    path = folder.with_name(folder.name + "-vocabulary.txt")
    path.write_text("".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.__getitem__)), "utf-8")
    return str(path)


def _bert_tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    vocabulary = _word_pieces(folder, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return BertTokenizerFast(vocab_file=vocabulary, model_max_length=64)


def _mpnet_tokenizer(folder: Path) -> Any:
    from transformers import MPNetTokenizerFast

    vocabulary = _word_pieces(folder, ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])
    return MPNetTokenizerFast(vocab_file=vocabulary, model_max_length=64)


def _xlm_roberta_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import XLMRobertaTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(standard_texts(200), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=64)
