"""Tiny Whispers, exported, beside transformers' own `generate`: spectrograms, logits, tokens, languages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_speech
import torch
import transformers

import sanderling
from sanderling.audio import Audio
from sanderling.codec import decode
from sanderling.errors import BundleError, CheckpointError, InputError, ManifestError, MemoryLimitError
from sanderling.schema.generation import GenerationOutput
from sanderling.tasks.speech_recognition import SpeechRecognizer
from sanderling_export.checkpoint import resolve
from sanderling_export.pipeline import export
from sanderling_export.speech import ctranslate, sounds

Exported = Callable[[str], tuple[Path, Path]]
FORCED = [11, 40, 77, 9, 123]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sound files."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, sound in enumerate(tiny_speech.sounds(4)):
        sound.save(folder / f"{number}.wav")
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Exported:
    """Gives the checkpoint and the bundle of a shape, made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(shape: str) -> tuple[Path, Path]:
        if shape not in made:
            root = tmp_path_factory.mktemp(shape)
            checkpoint = tiny_speech.whisper(root / "checkpoint", shape)
            variants = ["fp32", "int8-dynamic"] if shape == "tiny" else ["fp32"]
            bundle = export(checkpoint, root / "bundle", data=recordings, variants=variants, keep_failing=True)
            made[shape] = (checkpoint, bundle)
        return made[shape]

    return make


def both(exported: Exported, shape: str = "tiny") -> tuple[Any, Any, SpeechRecognizer]:
    """The original, its feature extractor, and the bundle's model in fp32."""
    checkpoint, bundle = exported(shape)
    model = sanderling.load(bundle, variant="fp32", threads=1)
    assert isinstance(model, SpeechRecognizer)
    original = transformers.WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    return original, transformers.WhisperFeatureExtractor.from_pretrained(checkpoint), model


def written(original: Any, extractor: Any, sound: Audio, **more: Any) -> list[int]:
    """New tokens of transformers' `generate` in one window, up to the end token."""
    features = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt").input_features
    with torch.no_grad():
        found = original.generate(
            features, do_sample=False, return_dict_in_generate=True, force_unique_generate_call=True, **more
        )  # fmt: skip
    # The beginning, a language, a task, and what says that there are no times.
    new = found.sequences[0].tolist()[3 if more.get("return_timestamps") else 4 :]
    return new[: new.index(0)] if 0 in new else new


def heard(transcript: Any) -> list[int]:
    return [token for segment in transcript.segments for token in segment.tokens]


@pytest.mark.slow
@pytest.mark.parametrize("shape", list(tiny_speech.SHAPES))
def test_logits_are_the_originals(exported: Exported, shape: str) -> None:
    original, extractor, model = both(exported, shape)
    sound = tiny_speech.sounds(1)[0]
    features = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt").input_features
    ids = torch.tensor([[*model.start.tolist(), *FORCED]])
    with torch.no_grad():
        expected = original(input_features=features, decoder_input_ids=ids).logits[0].numpy()
    feeds, _ = model.front.feeds([sound])
    np.testing.assert_allclose(feeds["input_features"], features.numpy(), atol=5e-5)
    found = model.forced(np.array(FORCED), model.start, model.held(feeds["input_features"]))
    begun = len(model.start)
    np.testing.assert_allclose(found, expected[begun - 1 : begun - 1 + len(found)], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_transcript_has_the_tokens_of_the_original(exported: Exported, timed: bool, beams: int) -> None:
    original, extractor, model = both(exported)
    sounds = tiny_speech.sounds(3)
    rows = model.answer(sounds).rows
    assert np.abs(rows[0] - rows[1:]).max() > 1e-2  # or the sounds were not listened to
    for sound in sounds:
        expected = written(
            original, extractor, sound, language="de", task="translate", return_timestamps=timed, num_beams=beams
        )  # fmt: skip
        found = model.transcribe(
            sound, language="de", task="translate", timestamps=timed, temperatures=(0,), no_speech=1, num_beams=beams
        )  # fmt: skip
        first_time = original.generation_config.no_timestamps_token_id + 1
        # Segments of blanks alone are none of a transcript.
        blank = {token for token in (*expected, *heard(found)) if not model._text([token]).strip()}
        words = [token for token in expected if token < first_time and token not in blank]
        assert [token for token in heard(found) if token not in blank] == words


@pytest.mark.slow
def test_a_language_is_recognized_as_by_the_original(exported: Exported) -> None:
    original, extractor, model = both(exported)
    for sound in tiny_speech.sounds(3):
        features = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt").input_features
        expected = int(original.detect_language(input_features=features)[0])
        chances = model.detect_language(sound)
        assert (
            f"<|{next(iter(chances))}|>"
            == {place: name for name, place in original.generation_config.lang_to_id.items()}[expected]
        )
        assert sum(chances.values()) == pytest.approx(1.0)
        found = model.transcribe(sound, temperatures=(0,), no_speech=1, max_new_tokens=4)
        assert found.language == next(iter(chances))
        assert found.language_probability == pytest.approx(chances[found.language])
        assert found.unfinished


@pytest.mark.slow
def test_windows_side_by_side_are_those_alone(exported: Exported) -> None:
    _, _, model = both(exported)
    long = Audio(np.concatenate([sound.samples for sound in tiny_speech.sounds(6)]), tiny_speech.RATE)
    found = model.transcribe(long, language="en", timestamps=True, temperatures=(0,), no_speech=1)
    assert len(found.report.encoding) > 0
    ends = [segment.end for segment in found.segments]
    assert ends == sorted(ends)
    assert ends[-1] <= long.seconds + 1e-6
    with sanderling.load(model.bundle.path, variant="fp32", batch_invariant=True) as alone:
        assert isinstance(alone, SpeechRecognizer)
        assert alone.transcribe(long, language="en", timestamps=True, temperatures=(0,), no_speech=1).text == found.text
    told = model.transcribe(long, language="en", carry=True, temperatures=(0,), no_speech=1)
    assert len(told.segments) >= 2


@pytest.mark.slow
def test_what_is_improbable_is_tried_again(exported: Exported) -> None:
    _, _, model = both(exported)
    sound = tiny_speech.sounds(1)[0]
    drawn = model.transcribe(sound, language="en", temperatures=(0, 0.5), no_speech=1, seed=3)
    again = model.transcribe(sound, language="en", temperatures=(0, 0.5), no_speech=1, seed=3)
    assert heard(drawn) == heard(again)
    assert {segment.temperature for segment in drawn.segments} <= {0.0, 0.5}


@pytest.mark.slow
def test_a_window_in_which_nobody_speaks_has_no_transcript(exported: Exported) -> None:
    _, _, model = both(exported)
    sound = tiny_speech.sounds(1)[0]
    found = model.transcribe(sound, language="en", temperatures=(0,), no_speech=0)
    assert (found.text, found.segments) == ("", ())
    assert found.silent == ((0.0, 1.5),)


@pytest.mark.slow
def test_what_the_model_does_not_have_is_refused(exported: Exported) -> None:
    _, _, model = both(exported)
    sound = tiny_speech.sounds(1)[0]
    for given, reason in (
        ({"language": "xx"}, "language is 'xx'; checkpoint|language is 'xx'"),
        ({"task": "sing"}, "task is 'sing'"),
        ({"temperatures": ()}, "temperatures are"),
        ({"no_speech": 2}, "no_speech is 2"),
        ({"do_sample": True}, "leave do_sample out"),
        ({"prompt": 7}, "prompt is of type int"),
        ({"prompt": "sea " * 200}, "tokens; the model can be told"),
    ):
        with pytest.raises(InputError, match=reason):
            model.transcribe(sound, **given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_bundle_verifies_and_says_what_it_hears(exported: Exported) -> None:
    _, bundle = exported("tiny")
    report = sanderling.verify(bundle, provider="cpu")
    assert report.held, [one.reason for one in report.combinations]
    opened = sanderling.open_bundle(bundle).manifest
    assert opened.task == "automatic-speech-recognition"
    assert set(opened.components) == {"audio_encoder", "decoder"}
    assert isinstance(opened.postprocessing, GenerationOutput)
    assert opened.postprocessing.speech is not None
    assert tuple(opened.postprocessing.speech.languages) == tiny_speech.LANGUAGES
    assert opened.preprocessing.audio is not None
    assert opened.preprocessing.audio.features.frames == 100 * tiny_speech.SECONDS


@pytest.mark.slow
def test_a_folder_of_ctranslate2_is_converted_back(exported: Exported, tmp_path: Path) -> None:
    checkpoint, _ = exported("tiny")
    folder = tiny_speech.ctranslate(checkpoint, tmp_path / "converted")
    found = ctranslate.model(resolve(str(folder)))
    expected = transformers.WhisperForConditionalGeneration.from_pretrained(checkpoint)
    for name, value in expected.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name].numpy(), value.half().float().numpy(), err_msg=name)
    assert found.generation_config.suppress_tokens == expected.generation_config.suppress_tokens
    assert found.generation_config.decoder_start_token_id == 1  # behind the end, as in every Whisper
    whole = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="ends early"):
        ctranslate.model(resolve(str(folder)))
    (folder / "model.bin").write_bytes(b"\x07" + whole[1:])
    with pytest.raises(CheckpointError, match="of version 7; 6 was expected"):
        ctranslate.model(resolve(str(folder)))


def test_parts_of_a_file_have_the_digest_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"abcdef")
    whole = resolve(str(tmp_path)).sha256
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "two").write_bytes(b"def")
    assert resolve(str(tmp_path), None, (), (str(tmp_path / "one"), str(tmp_path / "two"))).sha256 == whole


def test_made_up_voices_are_the_same_for_the_same_seed() -> None:
    one, same, other = sounds.voice(16_000, 1), sounds.voice(16_000, 1), sounds.voice(16_000, 2)
    np.testing.assert_array_equal(one.samples, same.samples)
    assert len(one.samples) != len(other.samples)
    assert np.abs(one.samples).max() <= 1
    np.testing.assert_array_equal(one.samples * 32768, np.rint(one.samples * 32768))


@pytest.mark.slow
def test_words_have_times(exported: Exported) -> None:
    _, _, model = both(exported)
    long = Audio(np.concatenate([sound.samples for sound in tiny_speech.sounds(4)]), tiny_speech.RATE)
    found = model.transcribe(long, language="en", timestamps=True, words=True, temperatures=(0,), no_speech=1)
    plain = model.transcribe(long, language="en", timestamps=True, temperatures=(0,), no_speech=1)
    assert found.text == plain.text
    assert found.words
    for word in found.words:
        assert 0 <= word.start <= word.end <= long.seconds + 1e-6
        assert 0 <= word.probability <= 1
    starts = [word.start for word in found.words]
    assert starts == sorted(starts)


@pytest.mark.slow
def test_the_command_line_writes_down_what_is_said(exported: Exported, recordings: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    from sanderling.cli import build_app

    _, bundle = exported("tiny")

    def run(*arguments: str) -> Any:
        return testing.CliRunner().invoke(build_app(), ["run", str(bundle), *arguments])

    (tmp_path / "no.wav").write_bytes(b"no sound")
    done = run(str(recordings / "0.wav"), str(tmp_path / "no.wav"), "--language", "en", "--json", "--threads", "1")
    heard, refused = (json.loads(line) for line in done.stdout.splitlines())
    assert done.exit_code == 1
    assert heard["language"] == "en"
    assert heard["seconds"] == 1.5
    assert "error" in refused
    subtitles = run(str(recordings / "0.wav"), "--language", "en", "--subtitles", "vtt")
    assert subtitles.stdout.startswith("WEBVTT")
    for wrong in (["--subtitles", "doc"], ["--subtitles", "srt", "--json"], ["--sample"], ["--language", "xx"]):
        assert run(str(recordings / "0.wav"), *wrong).exit_code != 0


@pytest.mark.slow
def test_a_short_window_is_heard_as_by_an_original_that_is_cut_to_it(exported: Exported) -> None:
    original, extractor, whole = both(exported)
    sound = tiny_speech.sounds(1, seconds=0.2)[0]
    frames = 128  # 0.2 and 1 s, in steps of 64
    state = original.state_dict()
    places = "model.encoder.embed_positions.weight"
    state[places] = state[places][: frames // 2]
    config = transformers.WhisperConfig(**original.config.to_dict() | {"max_source_positions": frames // 2})
    cut = transformers.WhisperForConditionalGeneration(config).eval()
    cut.load_state_dict(state)
    features = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt").input_features[:, :, :frames]
    with whole, sanderling.load(whole.bundle.path, variant="fp32", threads=1, window="short") as model:
        assert isinstance(model, SpeechRecognizer)
        feeds, _ = model.front.feeds([sound])
        np.testing.assert_array_equal(
            feeds["input_features"], whole.front.feeds([sound])[0]["input_features"][..., :frames]
        )
        with torch.no_grad():
            expected = cut(
                input_features=features, decoder_input_ids=torch.tensor([[*model.start.tolist(), *FORCED]])
            ).logits[0].numpy()[len(model.start) - 1 : -1]  # fmt: skip
        found = model.forced(np.array(FORCED), model.start, model.held(feeds["input_features"]))
        assert np.abs(found - expected).max() < 1e-3
        full = whole.forced(np.array(FORCED), whole.start, whole.held(whole.front.feeds([sound])[0]["input_features"]))
        assert np.abs(found - full).max() > 1e-3  # it is another algorithm


@pytest.mark.slow
def test_short_windows_are_measured_or_refused(exported: Exported, tmp_path: Path) -> None:
    _, bundle = exported("tiny")
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    variants = manifest["components"]["decoder"]["variants"]
    assert all(-1 <= one["short_window"]["cosine"]["min"] <= 1 for one in variants.values())

    def decoded_again(change: Callable[[Any], None]) -> None:
        changed = json.loads(json.dumps(manifest))
        change(changed)
        decode(json.dumps(changed).encode(), "here")

    with pytest.raises(ManifestError, match="a short window of 999 frames is longer than 200"):
        decoded_again(lambda one: one["preprocessing"]["audio"].update(short=999))
    with pytest.raises(ManifestError, match=r"has a short_window, but no audio\.short"):
        decoded_again(lambda one: one["preprocessing"]["audio"].update(short=None))
    copied = tmp_path / "copy"
    shutil.copytree(bundle, copied)
    for one in variants.values():
        one["short_window"] = None
    (copied / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="short windows was not measured"):
        sanderling.load(copied, window="short")
    with pytest.raises(InputError, match="'full' or 'short' was expected"):
        sanderling.load(copied, window="wide")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_layer_of_one_graph_is_kept_in_float(exported: Exported, recordings: Path, tmp_path: Path) -> None:
    checkpoint, _ = exported("tiny")
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    (tmp_path / "r.toml").write_text(
        'name = "listener"\ncheckpoint = "checkpoint"\n[variants.fp32]\n[variants.int8-dynamic.settings]\n'
        'keep = ["audio_encoder:/out_proj/MatMul"]\n',
        encoding="utf-8",
    )
    bundle = export(tmp_path / "r.toml", tmp_path / "b", data=recordings, keep_failing=True)
    graph = next(bundle.glob("build-*/audio_encoder/int8-dynamic/model.onnx"))
    kept = [node.name for node in onnx.load(graph, load_external_data=False).graph.node if node.op_type == "MatMul"]
    assert "/out_proj/MatMul" in kept
    assert "/q_proj/MatMul" not in kept


@pytest.mark.slow
def test_memory_is_bounded_of_windows_and_tokens(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured on as many windows as are heard side by side, each with all the tokens that it may have."""
    from sanderling.hearing import memory as hearing_memory

    _, bundle = exported("tiny")
    sound = tiny_speech.sounds(1)[0]
    with (
        sanderling.load(bundle, variant="fp32", threads=1) as free,
        sanderling.load(bundle, variant="fp32", threads=1, max_memory="4GB") as model,
    ):
        assert isinstance(model, SpeechRecognizer)
        assert isinstance(free, SpeechRecognizer)
        assert SpeechRecognizer.side_by_side(model.plan) == 4
        assert model.transcribe(sound, language="en").text == free.transcribe(sound, language="en").text
        steps: list[tuple[int, ...]] = []
        drawn = SpeechRecognizer._drawn

        def noted(self: Any, prompts: Any, *rest: Any) -> Any:
            found = drawn(self, prompts, *rest)
            steps.append(tuple(len(one.tokens) for one in found))
            return found

        monkeypatch.setattr(SpeechRecognizer, "_drawn", noted)
        hearing_memory.hear_most(model, model.plan)
    room = model.context - len(model.start)
    # Windows are cut where it is quiet, so that a little of the sound is left behind the first ones.
    assert steps[0] == (min(model.settings.max_new_tokens, room),) * 4
    with pytest.raises(MemoryLimitError, match="its files alone have"):
        sanderling.load(bundle, max_memory=1000)
