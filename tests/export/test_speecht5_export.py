"""Voices of transformers' SpeechT5 at export: characters as data, the steps beside generate_speech, the bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers_voices as voices

pytest.importorskip("torch")

import torch

import sanderling
from sanderling import Phonemes, Voice, cli, open_bundle, verify
from sanderling.errors import CheckpointError, ExportError, InputError
from sanderling.preprocess import phonemes
from sanderling.schema.voices import SpeechOutput, VoiceSettings
from sanderling_export import checkpoint, pipeline
from sanderling_export.voices import character_tokens, speecht5

TEXTS = ("a", "Hello,  my dog's cute", "  blanks   at both ends ", "ﬁve ü (é) é!", "no\u00a0break")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of a tiny model are too short to be shared by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.speecht5(tmp_path_factory.mktemp("speecht5") / "voice")


@pytest.fixture(scope="module")
def source(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> speecht5.SpeechT5Original:
    return speecht5.load(checkpoint.resolve(str(folder)), tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = tmp_path_factory.mktemp("texts") / "texts.txt"
    texts.write_text("unused, as nothing is rounded\nhello there\n", "utf-8")
    return pipeline.export(folder, tmp_path_factory.mktemp("bundles") / "speecht5", data=texts)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_is_that_of_transformers(folder: Path, text: str) -> None:
    from transformers import SpeechT5Tokenizer

    tokenizer = SpeechT5Tokenizer.from_pretrained(folder)
    expected = [number for number in tokenizer(text)["input_ids"] if number != tokenizer.unk_token_id]
    settings = character_tokens.read(folder, 81, 100)
    kept, _ = phonemes.speakable(text)
    assert phonemes.ids(phonemes.spoken(kept, settings).symbols, settings)[0].tolist() == expected


def test_other_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"spm_char\.model"):
        character_tokens.read(tmp_path, 81, 100)
    voices.character_model(tmp_path, model_type="unigram", vocab_size=45)
    with pytest.raises(CheckpointError, match="characters"):
        character_tokens.read(tmp_path, 81, 100)
    (tmp_path / "tokenizer_config.json").write_text('{"normalize": true}', "utf-8")
    with pytest.raises(CheckpointError, match="normalize"):
        character_tokens.read(tmp_path, 81, 100)
    with pytest.raises(CheckpointError, match="4 at most"):
        character_tokens.read(folder, 4, 100)


def test_a_speecht5_becomes_a_bundle(bundle: Path) -> None:
    opened = open_bundle(bundle)
    head = opened.manifest.postprocessing
    assert isinstance(head, SpeechOutput)
    assert head.steps is not None
    assert (head.steps.frames, head.steps.dropout, head.hop, head.speakers) == (2, 0.5, 8, {"ada": 0, "bob": 1})
    drift = opened.manifest.components["vocoder"].variants["fp32"].drift
    assert drift is not None
    assert drift.cosine.min > 0.99999
    assert verify(bundle, provider="cpu").held


@pytest.mark.parametrize(("seed", "noise"), [(0, 0.0), (7, 1.0), (3, 0.5)])
def test_the_runtime_says_what_transformers_says(
    source: speecht5.SpeechT5Original, bundle: Path, seed: int, noise: float
) -> None:
    with sanderling.load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        assert voice("hello there").report.complete
        for text in ("a", "hello there", "the quick brown fox jumps over the lazy dog"):
            symbols = phonemes.spoken(text, source.said.phonemes).symbols
            _, expected = source.waveform(symbols, seed if noise else None, VoiceSettings(1.0, noise, 0.0))
            found = voice(Phonemes((symbols,)), seed=seed, noise=noise).audio
            assert found.shape == expected.shape
            assert np.abs(expected).max() > 0.01
            np.testing.assert_allclose(found, expected, atol=1e-3)
            # It ended by itself, and not with the first step.
            assert 1 < len(found) // (2 * source.hop) < 24


def test_who_speaks_is_a_vector(source: speecht5.SpeechT5Original, bundle: Path) -> None:
    assert source.vectors is not None
    with sanderling.load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        assert voice.speakers == ("ada", "bob")
        bob = voice("hello", noise=0.0, speaker="bob").audio
        np.testing.assert_array_equal(voice("hello", noise=0.0, speaker_vector=source.vectors[1]).audio, bob)
        ada = voice("hello", noise=0.0).audio
        assert ada.shape != bob.shape or np.abs(ada - bob).max() > 1e-3
        wrong: tuple[Any, ...] = (np.zeros(3), np.zeros(voices.VECTOR), np.full(voices.VECTOR, np.nan), "ada")
        for vector in wrong:
            with pytest.raises(InputError, match="speaker_vector"):
                voice("hello", speaker_vector=vector)
        with pytest.raises(InputError, match="one of them"):
            voice("hello", speaker="ada", speaker_vector=source.vectors[0])


def test_what_it_has_not_is_refused(folder: Path, bundle: Path, tmp_path: Path) -> None:
    with sanderling.load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        for options in ({"speed": 2.0}, {"duration_noise": 0.5}, {"noise": 1.5}):
            with pytest.raises(InputError, match=next(iter(options))):
                voice("hello", **options)
        alone = [voice(text, seed=2).audio for text in ("hello", "fox")]
        for one, other in zip(voice(["hello", "fox"], seed=2), alone, strict=True):
            np.testing.assert_allclose(one.audio, other, atol=1e-5)
        assert voice.placement.nodes
    with pytest.raises(ExportError, match="rounds its vocoder"):
        pipeline.export(folder, tmp_path / "out", variants=("fp32", "int8-dynamic"))


def test_the_vocoder_is_rounded_and_the_steps_are_not(folder: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("hello there\ngood morning\nthe quick brown fox\njumps over\n", "utf-8")
    made = open_bundle(
        pipeline.export(folder, tmp_path / "out", variants=("fp32", "int8-static"), data=texts, keep_failing=True)
    )
    for name, component in made.manifest.components.items():
        same = component.variants["int8-static"].forms == component.variants["fp32"].forms
        assert same == (name != "vocoder")
    drift = made.manifest.components["vocoder"].variants["int8-static"].drift
    assert drift is not None
    # As long as the original, sentence by sentence.
    assert 0 < drift.metrics["log_mel_distance_max"].value < 30
    assert any("sums" in note for note in made.manifest.provenance.notes)


@pytest.mark.parametrize(
    ("gone", "said"), [("vocoder/config.json", "vocoder"), ("speaker_embeddings.safetensors", "x-vector")]
)
def test_what_is_missing_is_named(folder: Path, tmp_path: Path, gone: str, said: str) -> None:
    for one in folder.rglob("*"):
        if one.is_file() and one.relative_to(folder).as_posix() != gone:
            target = tmp_path / one.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(one.read_bytes())
    with pytest.raises(CheckpointError, match=said):
        pipeline.export(tmp_path, tmp_path / "out")


def test_a_sentence_that_never_ends_is_ended_and_it_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in folder.rglob("*"):
        if one.is_file():
            (tmp_path / one.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / one.relative_to(folder)).write_bytes(one.read_bytes())
    from transformers import SpeechT5ForTextToSpeech

    model = SpeechT5ForTextToSpeech.from_pretrained(folder)
    with torch.no_grad():
        model.speech_decoder_postnet.prob_out.bias.fill_(-50.0)
    model.save_pretrained(tmp_path)
    endless = speecht5.load(checkpoint.resolve(str(tmp_path)), tmp_path)
    ids, wave = endless.waveform(("a",), None)
    assert len(wave) == min(len(ids) * 20 // 2, 24) * 2 * endless.hop
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["reduction_factor"] == 2
    texts = tmp_path / "texts.txt"
    texts.write_text("hello there\nno end\n", "utf-8")
    made = pipeline.export(tmp_path, tmp_path / "made", data=texts)
    with sanderling.load(made, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        found = voice("a")
        assert len(found.audio) == len(wave)
        assert (found.report.sentences, found.report.unfinished, found.report.complete) == (1, 1, False)
        assert [one.report.unfinished for one in voice(["a. b.", "c"])] == [2, 1]
        stream = voice.stream("a. b. c.")
        assert [one.report.unfinished for one in stream] == [1, 2, 3]
        assert stream.report.unfinished == 3
    asked = ["sanderling", "run", str(made), "a. b.", "-o", str(tmp_path / "a.wav")]
    for more, told in ((["--json"], '"unfinished":2'), ([], "2 sentences cut off")):
        monkeypatch.setattr(sys, "argv", [*asked, *more])
        with pytest.raises(SystemExit):
            cli.main()
        assert told in " ".join(capsys.readouterr().out.split())
