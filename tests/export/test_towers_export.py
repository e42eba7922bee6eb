"""CLIP and SigLIP of random weights to bundles of two towers that answer as transformers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the extra [export] is not installed")

import tokenizers
import torch
import transformers
from PIL import Image
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import sanderling
from sanderling.errors import CheckpointError, ExportError
from sanderling.verification import verify
from sanderling_export import siglip_tokens
from sanderling_export.pipeline import export

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXTS = [
    "A small bird RUNS along the sea.",
    "the tide",
    "",
    "word " * 90,
    "low tide <|endoftext|> high tide",
    "🐦 sand",
]
LABELS = ["bird", "a wave of the sea", "sand"]
SOURCE = ["a small bird runs along the edge of the sea", "low tide and high tide", "sand, waves and light"] * 20


def clip_tokenizer() -> Any:
    """A small byte-level BPE as CLIP's is: lower case, an end of each word, both ends of a text marked."""
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
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    built.train_from_iterator(SOURCE, trainer)
    # As in CLIP's own vocabulary both marks are the last, the end the highest of all.
    trained = json.loads(built.to_str())["model"]
    for token in ("<|startoftext|>", "<|endoftext|>"):
        trained["vocab"].setdefault(token, len(trained["vocab"]))
    built.model = models.BPE(
        trained["vocab"],
        [tuple(merge) for merge in trained["merges"]],
        unk_token="<|endoftext|>",
        end_of_word_suffix="</w>",
    )
    built.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    start, end = (built.token_to_id(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    built.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), add_prefix_space=False, trim_offsets=False
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=64,
    )


def clip(folder: Path, **text: Any) -> Path:
    """A CLIPModel of random weights, with its tokenizer and processor."""
    tokenizer = clip_tokenizer()
    torch.manual_seed(1)
    config = transformers.CLIPConfig(
        text_config={
            **SIZES,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": 1,
            **text,
        },
        vision_config={**SIZES, "image_size": 48, "patch_size": 16},
        projection_dim=40,
    )
    model = transformers.CLIPModel(config).eval()
    noisy(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """A SiglipModel of random weights, with a unigram tokenizer and its processor."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    # With the words of the template, since a label that the model reads only in part is refused.
    words = {word for line in (*SOURCE, "this is a photo of") for word in line.split()}
    pieces += [(f"▁{word}", -2.0) for word in sorted(words)]
    pieces += [(chr(c), -6.0) for c in range(33, 127)]
    built = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )
    torch.manual_seed(2)
    config = transformers.SiglipConfig(
        text_config={**SIZES, "vocab_size": len(pieces), "max_position_embeddings": 16},
        vision_config={**SIZES, "image_size": 48, "patch_size": 16},
    )
    model = transformers.SiglipModel(config).eval()
    noisy(model)
    model.logit_bias.data.fill_(-1.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = transformers.SiglipImageProcessor(size={"height": 48, "width": 48})
    processor.save_pretrained(folder)
    return folder


def noisy(model: torch.nn.Module) -> None:
    """Weights large enough that answers differ."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.add_(torch.randn_like(weight) * 0.08)
            elif "logit" not in name:
                weight.add_(torch.randn_like(weight) * 0.02)


MAKERS = {"clip": clip, "siglip": siglip}


@pytest.fixture(scope="module", params=list(MAKERS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and the bundle exported from it."""
    root = tmp_path_factory.mktemp(request.param)
    folder = MAKERS[request.param](root / "checkpoint")
    rng = np.random.default_rng(5)
    (root / "pictures").mkdir()
    for index in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (9 + index, 12, 3), dtype=np.uint8))
        coarse.resize((70 + 9 * index, 64), Image.Resampling.BICUBIC).save(root / "pictures" / f"{index}.png")
    bundle = export(folder, root / "bundle", variants=["fp32", "int8-dynamic"], data=root / "pictures")
    return folder, bundle


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(9)
    shapes = ((33, 90), (120, 64), (48, 48), (200, 31))
    return [
        Image.fromarray(rng.integers(0, 256, (h // 4, w // 4, 3), dtype=np.uint8)).resize((w, h)) for h, w in shapes
    ]


def theirs(folder: Path, texts: list[str], images: list[Image.Image]) -> Any:
    """What transformers says: its output, and the pixels."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    padding: Any = True if isinstance(model, transformers.CLIPModel) else "max_length"
    words = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    words = {name: value for name, value in words.items() if name != "token_type_ids"}
    if not isinstance(model, transformers.CLIPModel):
        words = {"input_ids": words["input_ids"]}
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return model(**words, pixel_values=pixels), pixels.numpy()


def test_vectors_tensors_and_scores_are_those_of_transformers(made: tuple[Path, Path]) -> None:
    folder, bundle = made
    images = pictures()
    expected, pixels = theirs(folder, TEXTS, images)
    with sanderling.load(bundle, variant="fp32") as model:
        assert isinstance(model, sanderling.DualEncoder)
        texts, seen = model.embed_texts(TEXTS), model.embed_images(images)
        np.testing.assert_allclose(texts.embeddings, expected.text_embeds.numpy(), atol=2e-5)
        np.testing.assert_allclose(seen.embeddings, expected.image_embeds.numpy(), atol=2e-5)
        for image, values in zip(images, pixels, strict=True):
            feeds, _ = model.vision_encoder.front.feeds([image])
            np.testing.assert_allclose(feeds["pixel_values"][0], values, atol=1e-6)
        assert texts.reports[3].tokens_lost > 0  # type: ignore[union-attr]
        worded = [f"This is a photo of {label}." for label in LABELS]
        found, _ = theirs(folder, worded, images)
        logits = found.logits_per_image.numpy()
        answers = model(images, LABELS)
        np.testing.assert_allclose(answers.logits, logits, atol=1e-3)
        scores = (
            torch.softmax(found.logits_per_image, 1)
            if model.activation == "softmax"
            else found.logits_per_image.sigmoid()
        )
        for answer, row in zip(answers, scores.numpy(), strict=True):
            by_label = dict(zip(answer.labels, answer.scores, strict=True))
            np.testing.assert_allclose([by_label[label] for label in LABELS], row, atol=1e-4)


def test_each_text_is_answered_alike_alone_and_in_batches(made: tuple[Path, Path]) -> None:
    _, bundle = made
    with sanderling.load(bundle, variant="fp32", components="text_encoder") as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        together = model(TEXTS).embeddings
        for text, vector in zip(TEXTS, together, strict=True):
            np.testing.assert_allclose(model(text).embedding, vector, atol=1e-5)


def test_the_bundle_says_what_was_measured_of_each_tower(made: tuple[Path, Path]) -> None:
    _, bundle = made
    manifest = sanderling.open_bundle(bundle).manifest
    assert manifest.family == "multimodal"
    assert list(manifest.components) == ["text_encoder", "vision_encoder"]
    assert manifest.variants == ("fp32", "int8-dynamic")
    for component in manifest.components.values():
        for name, variant in component.variants.items():
            assert variant.drift is not None
            assert variant.drift.cosine.min > (0.9999 if name == "fp32" else 0.5)
            assert variant.invariance is not None
            assert variant.losses
        assert component.variants["int8-dynamic"].speed is not None
    assert manifest.components["vision_encoder"].variants["fp32"].fast_decode is not None
    assert {note.partition(":")[0] for note in manifest.provenance.notes} >= {"text_encoder", "vision_encoder"}
    report = verify(bundle)
    assert report.held
    assert {check.sample.partition("-")[0] for check in report.checks} == {"text", "photo"}
    text = manifest.preprocessing.text
    assert text is not None
    forms = manifest.components["text_encoder"].variants["fp32"].forms
    if manifest.postprocessing.activation == "softmax":  # type: ignore[union-attr]
        assert (text.max_tokens, text.padding) == (64, "longest")
        assert "exact" in forms
    else:
        assert (text.max_tokens, text.padding) == (16, "max_tokens")
        assert list(forms) == ["padded"]


def test_the_graphs_are_rewritten(made: tuple[Path, Path]) -> None:
    _, bundle = made
    notes = sanderling.open_bundle(bundle).manifest.provenance.notes
    for tower in ("text_encoder", "vision_encoder"):
        assert any(note.startswith(f"{tower}: ") and "Attention" in note for note in notes)


def test_what_is_no_model_of_two_towers_is_refused(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    with pytest.raises(ExportError, match="models of one graph"):
        export(folder, tmp_path / "b", variants="auto", min_cosine=0.9)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json"):
        export(folder, tmp_path / "b")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"CLIPModel"', '"Siglip2Model"'))
    with pytest.raises(CheckpointError, match="NaFlex"):
        export(folder, tmp_path / "b")


def test_a_product_of_one_tower_keeps_its_floats(tmp_path: Path) -> None:
    """A recipe names it with its graph; a name without one is refused."""
    clip(tmp_path / "clip")
    recipe = tmp_path / "clip.toml"

    def products(keep: list[str], variant: str = "int8-dynamic") -> dict[str, list[str]]:
        """The names of products with float weights, by component."""
        lines = ('name = "clip"', 'checkpoint = "clip"', "[variants.fp32]", "[variants.int8-dynamic.settings]")
        recipe.write_text("\n".join((*lines, f"keep = {keep}")))
        bundle = sanderling.open_bundle(export(recipe, tmp_path / "bundle", keep_failing=True))
        found = {}
        for name, component in bundle.manifest.components.items():
            (form, *_) = component.variants[variant].forms.values()
            graph = onnx.load(bundle.path / form.graph, load_external_data=False).graph
            weights = {one.name for one in graph.initializer}
            nodes = [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
            found[name] = [node.name.removesuffix("_MatMul") for node in nodes]
        return found

    plain = products([])
    last = products([], "fp32")["vision_encoder"][-1]
    with pytest.raises(ExportError, match=f"'{last}'.*one of text_encoder:, vision_encoder:"):
        products([last])
    kept = products([f"vision_encoder:{last}"])
    assert kept["text_encoder"] == plain["text_encoder"]
    assert kept["vision_encoder"] == [*plain["vision_encoder"], last]


def test_an_old_config_pools_at_the_highest_id(tmp_path: Path) -> None:
    """Configs from before the end had its right id say 2, and mean the highest id in a text."""
    folder = clip(tmp_path / "clip", eos_token_id=2)
    bundle = export(folder, tmp_path / "bundle", variants=["fp32"])
    expected, _ = theirs(folder, TEXTS, pictures()[:1])
    with sanderling.load(bundle, components="text_encoder") as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        np.testing.assert_allclose(model(TEXTS).embeddings, expected.text_embeds.numpy(), atol=2e-5)


def test_a_tokenizer_of_sentencepiece_is_converted(tmp_path: Path) -> None:
    import sentencepiece

    (tmp_path / "lines.txt").write_text("\n".join(SOURCE), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "lines.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=60,
        model_type="unigram",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    tokenizer = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"), model_max_length=16)
    made = tokenizers.Tokenizer.from_str(siglip_tokens.tokenizer_json(tokenizer).decode())
    ends = (
        "sea</s>sea",
        "</s> light",
        " a </S> b </s>! </s>sand",
        "<</s>>tide",
        "<unk>sea",
        "< /s>sea",
        "(sand) <pad>",
    )
    for text in ("A small BIRD, running: along!", "low\n tide ", "", " ", "…sand", *ends):
        assert made.encode(text).ids == tokenizer(text)["input_ids"]
