"""A voice on a bundle of a few kilobytes, beside numpy; and what it makes of bad and strange texts."""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_voices
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_bundles import read_manifest, reseal
from tiny_voices import HEAD, RATE, SETTINGS, levelled, reference, without_noise

import sanderling
from sanderling import (
    Cancellation,
    CancelledError,
    InputError,
    ManifestError,
    ModelClosedError,
    Phonemes,
    Speech,
    StorageError,
    TextError,
    Voice,
    cli,
)
from sanderling.schema.voices import SpeechOutput

SENTENCES = ("a bad cab.", "ha!", "each bed, dead.", "a")


@pytest.fixture(scope="session")
def voice_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny-voice`, not to be changed."""
    return tiny_voices.voice_bundle(tmp_path_factory.mktemp("bundles") / "tiny-voice")


@pytest.fixture(scope="session")
def voice(voice_bundle: Path) -> Voice:
    found = sanderling.load(voice_bundle, threads=2)
    assert isinstance(found, Voice)
    return found


def said(voice: Voice, text: Any, **options: Any) -> Speech:
    found = voice(text, **options)
    assert isinstance(found, Speech)
    return found


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_sentences_are_those_of_numpy(voice: Voice, text: str, seed: int | None) -> None:
    how = {"noise": 0.0, "duration_noise": 0.0} if seed is None else {"seed": seed}
    found = said(voice, text, **how)
    np.testing.assert_allclose(found.audio, levelled(reference(text, seed)), atol=1e-5)
    assert found.audio.dtype == np.float32
    assert (found.sample_rate, found.starts, found.report.sentences) == (RATE, (0,), 1)
    assert found.report.complete
    assert "".join(found.phonemes[0]) == text


def test_noise_is_drawn_by_the_seed_and_the_place_in_the_text(voice: Voice) -> None:
    text = " ".join(SENTENCES)
    found = said(voice, text, seed=3)
    expected = [levelled(reference(one, 3, place)) for place, one in enumerate(SENTENCES)]
    np.testing.assert_allclose(found.audio, np.concatenate(expected), atol=1e-5)
    assert found.starts == tuple(np.cumsum([0, *map(len, expected)])[:-1])
    np.testing.assert_array_equal(said(voice, text, seed=3).audio, found.audio)
    assert (
        said(voice, text, seed=4).audio.shape != found.audio.shape
        or (said(voice, text, seed=4).audio != found.audio).any()
    )


def test_batches_and_streams_say_the_same(voice: Voice) -> None:
    texts = [" ".join(SENTENCES), "ha! ha!", "bad"]
    batch = voice(texts, seed=5)
    for text, one in zip(texts, batch, strict=True):
        alone = said(voice, text, seed=5)
        np.testing.assert_array_equal(one.audio, alone.audio)
        stream = voice.stream(text, seed=5)
        pieces = list(stream)
        np.testing.assert_array_equal(np.concatenate([piece.audio for piece in pieces]), alone.audio)
        assert tuple(piece.phonemes[0] for piece in pieces) == alone.phonemes
        assert stream.report == alone.report
    (awaited,) = [asyncio.run(voice.acall(texts[0], seed=5))]
    assert isinstance(awaited, Speech)
    np.testing.assert_array_equal(awaited.audio, batch[0].audio)


def test_a_pause_is_silence_between_sentences(voice: Voice) -> None:
    plain, paused = said(voice, "ha! ha! ha!"), said(voice, "ha! ha! ha!", pause=0.01)
    assert len(paused.audio) == len(plain.audio) + 2 * round(0.01 * RATE)
    for start, other, end in zip(paused.starts, plain.starts, (*plain.starts[1:], len(plain.audio)), strict=True):
        np.testing.assert_array_equal(paused.audio[start : start + end - other], plain.audio[other:end])
        assert not paused.audio[max(0, start - 80) : start].any()
    streamed = np.concatenate([piece.audio for piece in voice.stream("ha! ha! ha!", pause=0.01)])
    np.testing.assert_array_equal(streamed, paused.audio)


def test_speed_and_noise(voice: Voice) -> None:
    settings = replace(without_noise(), speed=2.0)
    found = said(voice, "a bad cab.", speed=2.0, noise=0.0, duration_noise=0.0)
    np.testing.assert_allclose(found.audio, levelled(reference("a bad cab.", None, settings=settings)), atol=1e-5)
    slow = said(voice, "a bad cab.", speed=0.5, noise=0.0, duration_noise=0.0)
    assert len(slow.audio) > 1.5 * len(found.audio)
    assert voice.settings == HEAD.settings


def test_a_voice_of_several_speakers(tmp_path: Path) -> None:
    bundle = tiny_voices.voice_bundle(tmp_path / "several", head=replace(HEAD, speakers={"ada": 1, "bob": 0}))
    assert sanderling.verify(bundle).held
    with sanderling.load(bundle, threads=2) as model:
        assert isinstance(model, Voice)
        assert model.speakers == ("ada", "bob")
        for options, number in (({}, 1), ({"speaker": "ada"}, 1), ({"speaker": "bob"}, 0)):
            found = said(model, "ha! bad cab.", seed=2, **options)
            parts = [reference(one, 2, place, speaker=number) for place, one in enumerate(("ha!", "bad cab."))]
            np.testing.assert_allclose(found.audio, np.concatenate([levelled(part) for part in parts]), atol=1e-5)
        with pytest.raises(InputError, match="ada, bob"):
            model("ha!", speaker="eve")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"speed": 0.0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"speed": True}, "speed"),
        ({"noise": -0.1}, "noise"),
        ({"duration_noise": 3}, "duration_noise"),
        ({"pause": -1}, "pause"),
        ({"pause": "1"}, "pause"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"speaker": "ada"}, "speaker 'ada'"),
    ],
)
def test_settings_out_of_range_are_refused(voice: Voice, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        voice("ha!", **options)
    with pytest.raises(InputError, match=named):
        voice.stream("ha!", **options)


def test_an_unknown_setting_is_a_mistake_of_the_caller(voice: Voice) -> None:
    with pytest.raises(TypeError, match="volume"):
        voice("ha!", volume=2)  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["", "  \n", "...", "?!", "—", "🙂🙂", "\u200b", "\x00"])
def test_nothing_to_say_is_silence(voice: Voice, text: str, tmp_path: Path) -> None:
    found = said(voice, text)
    assert found.audio.shape == (0,)
    assert (found.phonemes, found.starts, found.report.sentences, found.seconds) == ((), (), 0, 0.0)
    assert list(voice.stream(text)) == []
    with wave.open(str(found.save(tmp_path / "nothing.wav"))) as file:
        assert file.getnframes() == 0


def test_what_is_not_heard_is_said(voice: Voice) -> None:
    report = said(voice, "a 🙂 bad 🙂 zebra\x07!").report
    assert dict(report.skipped) == {"🙂": 2, "\x07": 1}
    assert report.characters_skipped == 3
    assert dict(report.unknown) == {"z": 1, "r": 1}
    assert not report.complete


@pytest.mark.parametrize("wrong", [b"ha", 7, None, {"a": 1}, ["ha", 7], [b"x"], "\ud83d", ["ha", "\ud800"]])
def test_what_is_no_text_is_refused(voice: Voice, wrong: Any) -> None:
    with pytest.raises(TextError):
        voice(wrong)


def test_long_texts_are_bounded(voice: Voice) -> None:
    found = said(voice, "b" * 500 + " " + "bad cab " * 40)
    assert found.report.parted > 10
    assert max(map(len, found.phonemes)) <= SETTINGS.max_symbols
    assert sum(map(len, found.phonemes)) >= 500 + 40 * 8 - 1 - found.report.parted
    with pytest.raises(TextError, match="1,000,000"):
        voice("a" * 1_000_001)


def test_phonemes_are_said_as_they_are(voice: Voice) -> None:
    found = said(voice, Phonemes((tuple("ha!"), tuple("bad"))), seed=2)
    np.testing.assert_array_equal(found.audio, said(voice, "ha! bad", seed=2).audio)
    assert dict(said(voice, Phonemes((("a", "ʒ"),))).report.unknown) == {"ʒ": 1}
    with pytest.raises(TextError, match="tuple of symbols"):
        voice(Phonemes(("ha",)))  # type: ignore[arg-type]


@given(parts=st.lists(st.integers(1, 40), min_size=1, max_size=4), text=st.sampled_from(SENTENCES))
def test_parts_of_the_frames_are_the_whole(voice: Voice, parts: list[int], text: str) -> None:
    ids = tiny_voices.ids_of(text)
    spectrum = voice.frames(ids, np.random.RandomState([1, 0]), voice.settings, None)
    whole = voice.waveform(spectrum, spectrum.shape[2])
    for size in parts:
        np.testing.assert_allclose(voice.waveform(spectrum, size), whole, atol=1e-6)


def test_files_are_written_whole_or_not_at_all(voice: Voice, tmp_path: Path) -> None:
    found = said(voice, "a bad cab.")
    path = found.save(tmp_path / "cab.wav")
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_allclose(samples / 32768, found.audio, atol=1.001 / 32768)
    before = path.read_bytes()
    with pytest.raises(StorageError):
        found.save(tmp_path / "no" / "such" / "folder.wav")
    with pytest.raises(StorageError):
        found.save(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["cab.wav"]


def test_golden_sentences_are_replayed(voice_bundle: Path) -> None:
    report = sanderling.verify(voice_bundle)
    assert report.held
    assert {check.batching for check in report.checks} == {"alone", "parts"}
    assert len(report.checks) == 8


def test_a_voice_is_closed_and_cancelled(voice_bundle: Path) -> None:
    ended = Cancellation()
    ended.cancel()
    with sanderling.load(voice_bundle, threads=1) as model:
        assert isinstance(model, Voice)
        assert model.sample_rate == RATE
        assert model.speakers == ()
        assert model.placement.complete
        assert model.measure_placement(runs=1).seconds
        with pytest.raises(CancelledError):
            model("ha!", cancellation=ended)
    with pytest.raises(ModelClosedError):
        model("ha!")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, preprocessing=replace(m.preprocessing, phonemes=None)),
        lambda m: replace(m, family="embedding"),
        lambda m: replace(m, components={k: v for k, v in m.components.items() if k != "flow"}),
        lambda m: replace(m, postprocessing=replace(m.postprocessing, speakers={"ada": 0})),
        lambda m: replace(m, postprocessing=replace(m.postprocessing, output="wave")),
        lambda m: replace(m, preprocessing=replace(m.preprocessing, phonemes=replace(SETTINGS, alphabet="espeak"))),
        lambda m: replace(m, preprocessing=replace(m.preprocessing, phonemes=replace(SETTINGS, voice="en-us"))),
        lambda m: replace(
            m, preprocessing=replace(m.preprocessing, phonemes=replace(SETTINGS, clusters=(("x", "y"),)))
        ),
        lambda m: replace(
            m,
            components=m.components | {"flow": replace(m.components["flow"], inputs=m.components["decoder"].inputs)},
        ),
    ],
)
def test_contradictory_manifests_are_refused(voice_bundle: Path, copy_bundle: Any, change: Any) -> None:
    bundle = copy_bundle(voice_bundle)
    reseal(bundle, change)
    with pytest.raises(ManifestError):
        sanderling.load(bundle)


def test_a_decoder_of_another_pace_is_refused(voice_bundle: Path, copy_bundle: Any) -> None:
    bundle = copy_bundle(voice_bundle)
    reseal(bundle, lambda m: replace(m, postprocessing=replace(m.postprocessing, hop=5)))
    assert isinstance(read_manifest(bundle).postprocessing, SpeechOutput)
    with sanderling.load(bundle) as model, pytest.raises(sanderling.GraphError, match="frames"):
        model("ha!")  # type: ignore[operator]


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit status of the command line and its standard output."""
    monkeypatch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def test_the_command_line_writes_files(
    voice_bundle: Path,
    voice: Voice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("typer")
    one = tmp_path / "one.wav"
    asked = ("--seed", 5, "--speed", 2, "--noise", 0.1, "--duration-noise", 0.2, "--pause", 0.01)
    status, out = command(
        monkeypatch, capsys, "run", voice_bundle, "a 🙂 zebra. ha!", "-o", one, "--threads", 2, "--json", *asked
    )
    assert status == 0
    record = json.loads(out)
    expected = said(voice, "a 🙂 zebra. ha!", seed=5, speed=2.0, noise=0.1, duration_noise=0.2, pause=0.01)
    with wave.open(str(one)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_allclose(samples / 32768, expected.audio, atol=2 / 32768)
    assert (record["file"], record["sentences"], record["sample_rate"]) == (str(one), 2, RATE)
    assert record["lost"] == {"characters_skipped": 1, "skipped": {"🙂": 1}, "unknown": {"z": 1, "r": 1}}
    status, out = command(monkeypatch, capsys, "run", voice_bundle, "ha!", "bad", "-o", tmp_path / "many")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["0001.wav", "0002.wav"]
    assert "0002.wav" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "-o FILE.wav"),
        (("-o", "x.wav", "--speed", "0"), "speed"),
        (("-o", "x.wav", "--top-p", "0.5"), "--top-p"),
        (("-o", "x.wav", "--labels", "a,b"), "--labels"),
        (("ha!", "-o", "x.wav"), "give a folder"),
        (("-o", "x.wav", "--speaker", "ada"), "no speaker"),
    ],
)
def test_the_command_line_refuses(
    voice_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    pytest.importorskip("typer")
    monkeypatch.chdir(tmp_path)
    status, out = command(monkeypatch, capsys, "run", voice_bundle, "ha!", *arguments)
    assert status == 1
    assert said in " ".join(out.split())


def test_inspection_tells_of_the_voice(
    voice_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("typer")
    status, out = command(monkeypatch, capsys, "inspect", voice_bundle)
    assert status == 0
    assert "8,000 samples a second" in " ".join(out.split())
    with pytest.raises(InputError, match="stream long texts"):
        sanderling.load(voice_bundle, max_memory="1GB")
