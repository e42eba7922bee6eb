"""Training on the world: runs that are seeded and resumed, what they are shown, what they leave."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra [export] is not installed")
transformers = pytest.importorskip("transformers", reason="the extra [export] is not installed")

MODELS = Path(__file__).resolve().parents[2] / "models"
sys.path.insert(0, str(MODELS))
try:
    import train_world as script
    from training.steps import STATE_NAME
    from world import cards, networks
    from world.learning import Settings, learn
    from world.lessons import LESSONS
    from world.scenes import is_held_out
finally:
    sys.path.remove(str(MODELS))

SETTINGS = Settings(steps=6, batch=8, warmup=2, save_every=2)
NAMES = sorted(LESSONS)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(name: str) -> Any:
    torch.manual_seed(5)
    return LESSONS[name].make()


def said(batch: dict[str, Any], name: str) -> list[str]:
    found: list[str] = networks.tokenizer().batch_decode(batch[name], skip_special_tokens=True)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(name: str, tmp_path: Path) -> None:
    whole, parts = made(name), made(name)
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    assert learn(whole, LESSONS[name], SETTINGS, tmp_path / "whole", lambda line: None) is not None
    told: list[str] = []
    assert learn(parts, LESSONS[name], SETTINGS, tmp_path / "parts", told.append, stop_after=5) is None
    torch.manual_seed(99)  # a new process has another state, and fresh weights
    parts = LESSONS[name].make()
    assert learn(parts, LESSONS[name], SETTINGS, tmp_path / "parts", told.append) is not None
    assert "resumed after step 4 of 6" in told
    for key, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[key]), key


def test_an_answerer_begins_as_a_captioner(tmp_path: Path) -> None:
    captioner = made("captioner")
    captioner.save_pretrained(tmp_path)
    answerer = made("answerer")
    networks.begin_as(answerer, networks.load("captioner", tmp_path))
    weights, first = answerer.state_dict(), captioner.state_dict()
    for name, weight in first.items():
        assert torch.equal(weights[name], weight), name
    written = [name for name in first if name.startswith("text_decoder.bert.")]
    assert len(weights) == len(first) + len(written)
    for name in written:
        assert torch.equal(weights[name.replace("text_decoder.bert.", "text_encoder.")], first[name]), name


def test_a_state_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    told: list[str] = []
    learn(made("clip"), LESSONS["clip"], SETTINGS, tmp_path, told.append, stop_after=3)
    assert (tmp_path / STATE_NAME).is_file()
    other = Settings(steps=6, batch=8, warmup=2, save_every=2, seed=1)
    learn(made("clip"), LESSONS["clip"], other, tmp_path, told.append, stop_after=1)
    assert not any(line.startswith("resumed") for line in told)


@pytest.mark.parametrize("name", NAMES)
def test_batches_hold_nothing_that_is_held_out(name: str) -> None:
    tokenizer = networks.tokenizer()
    first, again, other = (LESSONS[name].batch(tokenizer, 48, random.Random(seed)) for seed in (1, 1, 2))
    for key, value in first.items():
        assert torch.equal(value, again[key])
    assert not torch.equal(first["pixel_values"], other["pixel_values"])
    assert first["pixel_values"].shape == (48, 3, 64, 64)
    assert -1.0 <= first["pixel_values"].min() < first["pixel_values"].max() <= 1.0
    if name != "answerer":
        captions = said(first, "input_ids")
        assert not any(is_held_out(caption) for caption in captions)
        assert name != "clip" or len(set(captions)) == len(captions)
        return
    for question, answer in zip(said(first, "input_ids"), said(first, "decoder_input_ids"), strict=True):
        assert question.endswith("?")
        assert answer


def test_every_word_of_the_world_is_known() -> None:
    tokenizer = networks.tokenizer()
    for text in ("four small purple crosses at the bottom right", "a red ring moves to the left", "is there a ring?"):
        ids = tokenizer(text)["input_ids"]
        assert networks.UNKNOWN not in ids
        assert (ids[0], ids[-1]) == (networks.BEGIN, networks.END)
    assert networks.UNKNOWN in tokenizer("a lighthouse")["input_ids"]


def test_pictures_are_brought_in_as_the_processors_do() -> None:
    from PIL import Image
    from world.lessons import pixels

    picture = Image.effect_noise((128, 128), 80).convert("RGB")
    for name in NAMES:
        found = networks.image_processor(name)(images=picture, return_tensors="pt")["pixel_values"]
        assert torch.allclose(found, pixels([picture]), atol=1e-5)


def test_what_training_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in ("_PICTURES", "_QUESTIONS", "_FILMS"):
        monkeypatch.setattr(cards, count, 6)
    output = tmp_path / "captioner"
    assert not script.train("captioner", output, SETTINGS, stop_after=3)
    assert not output.exists()
    assert script.train("captioner", output, SETTINGS)
    assert "resumed after step 2" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["captioner"]
    model = transformers.BlipForConditionalGeneration.from_pretrained(output)
    assert model.dtype == torch.float32
    assert (output / "model.safetensors").stat().st_size < 4_000_000
    text = (output / "README.md").read_text("utf-8")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "| captions of pictures, right word for word | 0.0" in text
    assert script.train("captioner", output, SETTINGS)
    assert "trained already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["clip", "answerer"])
def test_cards_have_figures_of_held_out_inputs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "_QUESTIONS", 12)
    script.write(name, made(name), tmp_path / name)
    text = cards.card(name, tmp_path / name, SETTINGS, 61.0)
    assert "in 1.0 minutes" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and " to " in line]
    assert len(rows) == (1 if name == "clip" else 8)
