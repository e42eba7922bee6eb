"""Voices of transformers' VITS at export: the tokenizer as data, the graphs beside the original, the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_transformers_voices as voices

pytest.importorskip("torch")

import sanderling
from sanderling import Phonemes, Voice, open_bundle, verify
from sanderling.errors import CheckpointError
from sanderling.preprocess import phonemes
from sanderling.schema.voices import SpeechOutput
from sanderling_export import checkpoint, pipeline
from sanderling_export.voices import kinds, sentences, vits

TEXTS = (
    "a",
    "Ab",
    "Hello - my dog's cute, isn't he",
    "  blanks   at both ends ",
    "GROẞE Straße, café (café) ΣΑΣ 42 Ünïcödé",
    "no\u00a0break, tab's, İstanbul",
    '"quoted" ',
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.vits(tmp_path_factory.mktemp("vits") / "voice")


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.export(folder, tmp_path_factory.mktemp("bundles") / "vits", variants=("fp32",))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("add_blank", [True, False])
def test_the_tokenizer_is_that_of_transformers(tmp_path: Path, text: str, add_blank: bool) -> None:
    from transformers import VitsTokenizer

    vocabulary = {"<pad>": 0} | {letter: number for number, letter in enumerate(voices.LETTERS, 1)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    said = {"phonemize": False, "add_blank": add_blank, "pad_token": "<pad>", "tokenizer_class": "VitsTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    expected = VitsTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    settings = vits.read_tokenizer(tmp_path, 100)
    found = phonemes.ids(phonemes.spoken(text, settings).symbols, settings)
    assert found[0].tolist() == expected


def test_romanian_has_two_ways_to_write_a_letter(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "ţ": 1}), "utf-8")
    said = {"phonemize": False, "add_blank": False, "language": "ron"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    settings = vits.read_tokenizer(tmp_path, 2)
    assert phonemes.ids(phonemes.spoken("Ța", settings).symbols, settings).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phonemize": True}, "phonemize"),
        ({"is_uroman": True}, "is_uroman"),
        ({"normalize": False}, "normalize"),
    ],
)
def test_tokenizers_that_need_another_program_are_refused(
    folder: Path, tmp_path: Path, change: dict, said: str
) -> None:
    for name in ("config.json", "model.safetensors", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    stated = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated | change), "utf-8")
    with pytest.raises(CheckpointError, match=said):
        pipeline.export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ids_beyond_the_vocabulary_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"0 to 4 expected"):
        vits.read_tokenizer(folder, 5)


def test_durations_that_are_not_drawn_are_refused(folder: Path, tmp_path: Path) -> None:
    for one in folder.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(stated | {"use_stochastic_duration_prediction": False}), "utf-8")
    with pytest.raises(CheckpointError, match="stochastic"):
        pipeline.export(tmp_path, tmp_path / "out")


def test_a_vits_becomes_a_bundle(folder: Path, bundle: Path) -> None:
    assert kinds.is_voice(checkpoint.resolve(str(folder)))
    opened = open_bundle(bundle)
    head = opened.manifest.postprocessing
    assert isinstance(head, SpeechOutput)
    assert (opened.manifest.task, head.sample_rate, head.hop, head.normalize) == ("text-to-speech", 16_000, 8, "none")
    drift = opened.manifest.components["decoder"].variants["fp32"].drift
    assert drift is not None
    assert drift.cosine.min > 0.99999
    assert verify(bundle, provider="cpu").held


@pytest.mark.parametrize("speakers", [1, 3])
def test_the_runtime_says_what_transformers_says(folder: Path, bundle: Path, tmp_path: Path, speakers: int) -> None:
    if speakers > 1:
        folder = voices.vits(tmp_path / "several", speakers=speakers)
        bundle = pipeline.export(folder, tmp_path / "bundle", variants=("fp32",))
    source = vits.load(checkpoint.resolve(str(folder)), tmp_path)
    with sanderling.load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        assert voice.speakers == tuple(map(str, range(speakers))) if speakers > 1 else not voice.speakers
        # Sentences are said one by one; without signs that end one, a text is one sentence.
        for text in ("a", "hello there", "the quick brown fox jumps over the lazy dog - and it's said as one"):
            symbols = phonemes.spoken(text, source.said.phonemes).symbols
            for seed, options in ((7, {}), (0, {"noise": 0.0, "duration_noise": 0.0}), (3, {"speed": 0.5})):
                settings = sanderling.VoiceSettings(**{"noise": 0.667, "duration_noise": 0.8, **options})
                _, expected = source.waveform(symbols, seed, settings)
                found = voice(Phonemes((symbols,)), seed=seed, **options).audio
                assert found.shape == expected.shape
                np.testing.assert_allclose(found, expected, atol=1e-3)
                np.testing.assert_array_equal(found, voice(text, seed=seed, **options).audio)


def test_what_has_no_letter_is_told(bundle: Path) -> None:
    with sanderling.load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        said = voice("hi 👋 42 мир!")
        assert said.phonemes == (("h", "i"),)
        assert dict(said.report.skipped) == {"👋": 1}
        assert {"4", "2", "м", "и", "р", "!"} <= set(dict(said.report.unknown))
        assert not len(voice("12 34").audio)


def test_voices_of_other_letters_say_made_up_words() -> None:
    english = vits.PhonemesPreprocessing("characters", dict.fromkeys(voices.LETTERS, (1,)))
    assert sentences.of(english).check == sentences.CHECK
    other = vits.PhonemesPreprocessing("characters", dict.fromkeys(" абвгдежз", (1,)))
    made = sentences.of(other)
    assert sentences.of(other) == made
    assert (len(made.calibration), len(made.check), len(made.golden)) == (20, 16, 3)
    assert {letter for text in made.check for letter in text} <= set(other.ids)
    assert not set(made.calibration) & set(made.check)
