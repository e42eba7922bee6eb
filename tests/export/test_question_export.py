"""Tiny checkpoints that answer questions about pictures, exported, beside transformers: tokens, logits and texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_generators
import torch
import transformers
from PIL import Image

import sanderling
from sanderling.errors import CheckpointError, ExportError
from sanderling.generation.questions import PictureQuestion
from sanderling.generation.results import Generation
from sanderling.golden import read_golden
from sanderling.tasks.chosen_answers import AnswerClassifier
from sanderling.tasks.visual_questions import QuestionAnswerer
from sanderling_export import speed
from sanderling_export.pipeline import export
from sanderling_export.recipe import Precision

QUESTIONS = [
    "is the bird small?",
    "sea?",
    "what runs along the beach, a wave or a light bird of the sea",
    "is it high?",
]
FORCED = [7, 19, 9, 11]

VARIANTS: dict[str, tuple[Precision, ...]] = {
    "blip_vqa": ("fp32", "int8-weight-only", "int8-dynamic"),
    "vilt": ("fp32", "int8-dynamic"),
    "llava": ("fp32", "int4-weight-only"),
    "smolvlm": ("fp32",),
}

Exported = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Exported:
    """Gives the checkpoint and the bundle of a tiny architecture, made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(name: str) -> tuple[Path, Path]:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            checkpoint = tiny_generators.make(name, root)
            with pytest.MonkeyPatch.context() as patch:
                # How fast a variant is says nothing of a model of a few kilobytes.
                patch.setattr(speed, "_ROUND_SECONDS", 0.02)
                bundle = export(
                    checkpoint, root / "bundle", data=photographs, variants=VARIANTS[name], keep_failing=True
                )
            made[name] = (checkpoint, bundle)
        return made[name]

    return make


class Blip:
    """The original: transformers' `generate` and logits of a picture and a question."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = transformers.BlipForQuestionAnswering.from_pretrained(checkpoint).eval()
        self.processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)

    def given(self, file: Path, question: str) -> dict[str, Any]:
        pixels = self.processor(Image.open(file).convert("RGB"), return_tensors="pt")["pixel_values"]
        read = self.tokenizer(question, return_tensors="pt")
        return {"pixel_values": pixels, "input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}

    def generated(self, file: Path, question: str, **more: Any) -> list[int]:
        with torch.no_grad():
            found = self.model.generate(**self.given(file, question), max_new_tokens=12, do_sample=False, **more)
        new: list[int] = found[0, 1:].tolist()
        return new[: new.index(3) + 1] if 3 in new else new


@pytest.mark.slow
def test_blip_answers_as_the_original(exported: Exported, photographs: Path) -> None:
    checkpoint, bundle = exported("blip_vqa")
    original = Blip(checkpoint)
    files = sorted(photographs.glob("*.png"))[:4]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, QuestionAnswerer)
        assert (model.family, model.modality, model.task) == ("multimodal", "image", "visual-question-answering")
        told: set[tuple[int, ...]] = set()
        together = model.generate(files, QUESTIONS, max_new_tokens=12, num_beams=1)
        assert isinstance(together, sanderling.Generations)
        for file, question, found in zip(files, QUESTIONS, together, strict=True):
            assert list(found.tokens) == original.generated(file, question, num_beams=1)
            assert found.text == original.tokenizer.decode(found.tokens, skip_special_tokens=True)
            assert found.prompt_tokens == len(original.tokenizer(question)["input_ids"]) + 1
            beams = model.generate(file, question, max_new_tokens=12, num_beams=4)
            assert isinstance(beams, Generation)
            assert list(beams.tokens) == original.generated(file, question, num_beams=4)
            assert "".join(model.stream(file, question, max_new_tokens=12, num_beams=1)) == found.text
            told.add(found.tokens)
        assert len(told) > 1
        of_one = model.generate(files[0], QUESTIONS, max_new_tokens=12, num_beams=1)
        assert isinstance(of_one, sanderling.Generations)
        for question, found in zip(QUESTIONS, of_one, strict=True):
            assert list(found.tokens) == original.generated(files[0], question, num_beams=1)


@pytest.mark.slow
def test_logits_of_each_step_are_blips(exported: Exported, photographs: Path) -> None:
    checkpoint, bundle = exported("blip_vqa")
    original = Blip(checkpoint)
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, QuestionAnswerer)
        for file, question in zip(sorted(photographs.glob("*.png"))[:3], QUESTIONS, strict=False):
            given = original.given(file, question)
            start, fixed = model.begun(given["pixel_values"][0].numpy(), given["input_ids"][0].numpy())
            found = model.forced(np.array(FORCED), start, fixed)
            with torch.no_grad():
                seen = original.model.vision_model(given["pixel_values"])[0]
                read = original.model.text_encoder(
                    input_ids=given["input_ids"],
                    attention_mask=given["attention_mask"],
                    encoder_hidden_states=seen,
                )[0]
                ids = torch.tensor([[5, *FORCED]])
                expected = original.model.text_decoder(input_ids=ids, encoder_hidden_states=read).logits[0, :-1]
            assert np.abs(found - expected.numpy()).max() < 1e-3


@pytest.mark.slow
def test_vilt_chooses_as_the_original(exported: Exported, photographs: Path, tmp_path: Path) -> None:
    checkpoint, bundle = exported("vilt")
    original = transformers.ViltForQuestionAnswering.from_pretrained(checkpoint).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    files = sorted(photographs.glob("*.png"))[:2]
    for name, size in (("wide", (301, 77)), ("tall", (50, 170)), ("square", (64, 64)), ("thin", (400, 21))):
        files.append(tmp_path / f"{name}.png")
        Image.open(files[0]).resize(size).save(files[-1])
    questions = [QUESTIONS[place % len(QUESTIONS)] for place in range(len(files))]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, AnswerClassifier)
        assert model.labels == ("yes", "no", "two", "sand", "a bird")
        found = model(files, questions, top_k=3)
        assert isinstance(found, sanderling.Classifications)
        for file, question, one in zip(files, questions, found, strict=True):
            pixels = processor(Image.open(file).convert("RGB"), return_tensors="pt")
            with torch.no_grad():
                logits = original(**pixels, **tokenizer(question, return_tensors="pt")).logits[0]
            assert np.abs(one.logits - logits.numpy()).max() < 1e-3
            assert one.label == original.config.id2label[int(logits.argmax())]
            assert one.score == pytest.approx(float(torch.sigmoid(logits.max())), abs=1e-4)
        alone = model(PictureQuestion(files[0], questions[0]))
        assert isinstance(alone, sanderling.Classification)
        assert alone.labels[:3] == found[0].labels
        with pytest.raises(sanderling.TextError, match="nothing of a question is cut"):
            model(files[0], "is it high, " * 24)
        with pytest.raises(sanderling.InputError, match="question"):
            model(files[0])
    assert sanderling.verify(bundle).held
    manifest = sanderling.open_bundle(bundle).manifest
    drift = manifest.components["model"].variants["fp32"].drift
    assert drift is not None
    assert drift.cosine.min > 0.99999


TEMPLATES = {
    "llava": "USER: <image>\n{} ASSISTANT:",
    "smolvlm": "<|im_start|>User:<fake_token_around_image><global-img><image><fake_token_around_image>{}"
    "<end_of_utterance>\nAssistant:",
}


class Prefix:
    """The original of a model whose prompts hold the picture, expanded by transformers' own processor or its words."""

    def __init__(self, checkpoint: Path, name: str) -> None:
        kind = {"llava": "LlavaForConditionalGeneration", "smolvlm": "SmolVLMForConditionalGeneration"}[name]
        self.model = getattr(transformers, kind).from_pretrained(checkpoint).eval()
        self.pictures = transformers.AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self.name = name

    def given(self, file: Path, question: str) -> dict[str, Any]:
        picture, text = Image.open(file).convert("RGB"), TEMPLATES[self.name].replace("{}", question)
        if self.name == "llava":
            processor = transformers.LlavaProcessor(
                self.pictures, self.tokenizer, patch_size=16, vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )  # fmt: skip
            given = dict(processor(images=picture, text=text, return_tensors="pt"))
            given.pop("token_type_ids", None)  # which tokenizers of this class give and causal models do not mean
            return given
        # 48 pixels in patches of 8, two by two together: 9 places.
        read = self.tokenizer(text.replace("<image>", "<image>" * 9), return_tensors="pt", return_token_type_ids=False)
        return {**self.pictures(images=picture, return_tensors="pt"), **read}

    def generated(self, file: Path, question: str, **more: Any) -> list[int]:
        given = self.given(file, question)
        with torch.no_grad():
            found = self.model.generate(**given, max_new_tokens=8, do_sample=False, pad_token_id=0, **more)
        new: list[int] = found[0, given["input_ids"].shape[1] :].tolist()
        return new[: new.index(2) + 1] if 2 in new else new


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava", "smolvlm"])
def test_a_picture_among_words_is_read_as_by_the_original(exported: Exported, photographs: Path, name: str) -> None:
    checkpoint, bundle = exported(name)
    original = Prefix(checkpoint, name)
    files = sorted(photographs.glob("*.png"))[:4]
    questions = ["high?", "a bird?", "sea", "is low?"]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, QuestionAnswerer)
        together = model.generate(files, questions, max_new_tokens=8, num_beams=1)
        assert isinstance(together, sanderling.Generations)
        assert len({one.tokens for one in together}) > 1
        for file, question, found in zip(files, questions, together, strict=True):
            given = original.given(file, question)
            assert list(found.tokens) == original.generated(file, question, num_beams=1)
            assert found.prompt_tokens == given["input_ids"].shape[1]
            beams = model.generate(file, question, max_new_tokens=8, num_beams=3)
            assert isinstance(beams, Generation)
            assert list(beams.tokens) == original.generated(file, question, num_beams=3)
            start, fixed = model.begun(given["pixel_values"].numpy().reshape(3, 48, 48), given["input_ids"][0].numpy())
            ids = torch.cat([given["input_ids"], torch.tensor([FORCED])], dim=1)
            with torch.no_grad():
                logits = original.model(
                    input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=given["pixel_values"]
                ).logits[0, len(start) - 1 : -1]
            assert np.abs(model.forced(np.array(FORCED), start, fixed) - logits.numpy()).max() < 1e-3
        # Another question about the same picture, longer and shorter ones in one call.
        of_one = model.generate(files[0], [*questions, "sea of the tide"], max_new_tokens=8, num_beams=1)
        assert isinstance(of_one, sanderling.Generations)
        assert list(of_one[1].tokens) == original.generated(files[0], questions[1], num_beams=1)
        assert list(of_one[4].tokens) == original.generated(files[0], "sea of the tide", num_beams=1)
        with pytest.raises(sanderling.TextError, match="stands for the picture"):
            model.generate(files[0], "what is <image>?")
        with pytest.raises(sanderling.TextError, match="nothing of a question is cut"):
            model.generate(files[0], "is it high " * 40)
        endless = model.generate(files[0], "sea", max_new_tokens=10_000, min_new_tokens=10_000, num_beams=1)
        assert isinstance(endless, Generation)
        assert endless.finish_reason == "context"
        assert endless.prompt_tokens + len(endless.tokens) == model.context
    manifest = sanderling.open_bundle(bundle).manifest
    assert set(manifest.components) == {"vision_encoder", "decoder"}
    assert any("no template was given" in note for note in manifest.provenance.notes)
    drift = manifest.components["decoder"].variants["fp32"].drift
    assert drift is not None
    assert drift.cosine.min > 0.99999
    if name == "llava":
        small = manifest.components["decoder"].variants["int4-weight-only"]
        assert small.drift is not None
        assert small.drift.cosine.mean > 0.6
    assert sanderling.verify(bundle).held


def test_tiles_are_refused(tmp_path: Path, photographs: Path) -> None:
    checkpoint = tiny_generators.make("smolvlm", tmp_path)
    file = checkpoint / "preprocessor_config.json"
    file.write_text(
        file.read_text("utf-8").replace('"do_image_splitting": false', '"do_image_splitting": true'), "utf-8"
    )
    with pytest.raises(CheckpointError, match="do_image_splitting"):
        export(checkpoint, tmp_path / "bundle", data=photographs)


def test_a_random_choice_of_patches_is_refused(tmp_path: Path, photographs: Path) -> None:
    checkpoint = tiny_generators.make("vilt", tmp_path)
    config = (checkpoint / "config.json").read_text("utf-8")
    (checkpoint / "config.json").write_text(config.replace('"max_image_length": -1', '"max_image_length": 9'), "utf-8")
    with pytest.raises(CheckpointError, match="max_image_length"):
        export(checkpoint, tmp_path / "bundle", data=photographs)


@pytest.mark.slow
def test_what_was_measured_is_in_the_manifest(exported: Exported) -> None:
    _, path = exported("blip_vqa")
    bundle = sanderling.open_bundle(path)
    assert list(bundle.manifest.components) == ["vision_encoder", "text_encoder", "decoder"]
    variants = bundle.manifest.components["decoder"].variants
    assert set(variants) == {"fp32", "int8-weight-only", "int8-dynamic"}
    drift = variants["fp32"].drift
    assert drift is not None
    assert drift.cosine.min > 0.99999
    assert "?" in drift.worst[0].name or drift.worst[0].name.startswith("image")
    for small in ("int8-weight-only", "int8-dynamic"):
        found = variants[small].drift
        assert found is not None
        # Three graphs of large random weights, whose errors add up.
        assert found.cosine.mean > 0.9
        assert variants[small].speed is not None
    invariance = variants["fp32"].invariance
    assert invariance is not None
    assert invariance.batch > 0.99999
    assert all(sample.question for sample in read_golden(bundle).samples)
    assert sanderling.verify(path).held


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blip_vqa", "llava"])
def test_the_placement_is_measured_of_every_graph(exported: Exported, name: str) -> None:
    _, path = exported(name)
    with sanderling.load(path, variant="fp32", threads=1) as model:
        placed = model.measure_placement(runs=1)
        assert list(placed.graphs) == list(sanderling.open_bundle(path).manifest.components)
        assert all(part.seconds["cpu"] > 0 for part in placed.graphs.values())


@pytest.mark.slow
def test_questions_are_a_users_own(tmp_path: Path, photographs: Path) -> None:
    checkpoint = tiny_generators.make("blip_vqa", tmp_path)
    files = sorted(photographs.glob("*.png"))[:6]
    data = tmp_path / "asked.tsv"
    data.write_text("".join(f"{file}\tis bird {n} high?\n" for n, file in enumerate(files)), encoding="utf-8")
    bundle = export(checkpoint, tmp_path / "bundle", data=data, variants=["fp32"])
    samples = read_golden(sanderling.open_bundle(bundle)).samples
    assert [sample.question for sample in samples] == ["is bird 1 high?", "is bird 3 high?", "is bird 5 high?"]
    data.write_text(f"{files[0]}\tis it high?\nno tab here\n", encoding="utf-8")
    with pytest.raises(ExportError, match="a tab and a question"):
        export(checkpoint, tmp_path / "other", data=data, variants=["fp32"])
    data.write_text(f"{files[0]}\tis it high?\nnone.png\tis it?\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"none\.png"):
        export(checkpoint, tmp_path / "other", data=data, variants=["fp32"])
