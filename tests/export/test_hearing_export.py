"""Tiny models of wav2vec 2.0's kin, exported, beside transformers: logits, tokens, texts, times, classes, vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sounds
import torch
import transformers
from msgspec.structs import replace

import sanderling
from sanderling import Audio
from sanderling.bundle import Bundle
from sanderling.cli import build_app
from sanderling.codec import encode
from sanderling.errors import (
    AudioError,
    BenchError,
    CheckpointError,
    EvalError,
    InputError,
    MemoryLimitError,
    SpaceError,
)
from sanderling.hearing import memory as hearing_memory
from sanderling.hearing.sound_front import SoundFront
from sanderling.schema.answers import ClassificationOutput, CtcOutput
from sanderling.schema.sounds import AudioPreprocessing, Filterbank, Waveform
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.tuning import candidates
from sanderling_bench import hearing as bench_hearing
from sanderling_bench.evaluation import EvalPlan, evaluate
from sanderling_bench.inputs import inputs_for, measured_apart
from sanderling_bench.measure import Plan
from sanderling_export.checkpoint import resolve
from sanderling_export.description import Options
from sanderling_export.pipeline import export
from sanderling_export.speech import hearing, sounds

Made = Callable[[str], tuple[Path, Path]]
RATE = tiny_sounds.RATE
KINDS: dict[str, Callable[[Path], Path]] = {
    "ctc": lambda folder: tiny_sounds.recognizer(folder),
    "ctc of the first models": lambda folder: tiny_sounds.recognizer(folder, "HubertForCTC", layered=False, seed=3),
    "classifier": lambda folder: tiny_sounds.saved(folder, "WavLMForSequenceClassification"),
    "bands": lambda folder: tiny_sounds.spectrogram_transformer(folder),
    "speakers": lambda folder: tiny_sounds.saved(folder, "Wav2Vec2ForXVector"),
    "vectors": lambda folder: tiny_sounds.saved(folder, "Data2VecAudioModel", normalize=False),
}


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short sound files."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(3):
        Audio(sounds.voice(RATE, seed).samples[: RATE + 777 * seed], RATE).save(folder / f"{seed}.wav")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Made:
    """Gives the checkpoint and the bundle of a kind, made once."""
    done: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in done:
            root = tmp_path_factory.mktemp("hearing")
            checkpoint = KINDS[kind](root / "checkpoint")
            variants = ["fp32", "int8-dynamic"] if kind == "ctc" else ["fp32"]
            bundle = export(checkpoint, root / "bundle", data=recordings, variants=variants, keep_failing=True)
            done[kind] = (checkpoint, bundle)
        return done[kind]

    return make


def heard(checkpoint: Path, library: Any, sound: Audio) -> Any:
    """What the original in transformers answers, by its own feature extractor."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
    model = library.from_pretrained(checkpoint).eval()
    given = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt")
    with torch.inference_mode():
        return model(given.input_values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ctc", "ctc of the first models"])
def test_a_transcript_is_the_originals(made: Made, kind: str) -> None:
    checkpoint, bundle = made(kind)
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(checkpoint)
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.CtcRecognizer)
        assert model.modality == "audio"
        assert model.window == pytest.approx(30, abs=0.1)
        for seed in (5, 6):
            sound = sounds.voice(RATE, seed)
            expected = heard(checkpoint, transformers.AutoModelForCTC, sound).logits[0].numpy()
            (logits,) = model.answer([sound]).rows
            np.testing.assert_allclose(logits, expected, atol=1e-3)
            ids = expected.argmax(axis=1)
            found = model.transcribe(sound, characters=True)
            told = tokenizer.decode(ids, output_char_offsets=True, output_word_offsets=True)
            assert found.text == _plain(told.text)
            # What the tokenizer calls offsets are frames; special tokens, which say nothing here, are its characters.
            theirs = [
                (one["char"], one["start_offset"], one["end_offset"])
                for one in told.char_offsets
                if one["char"] not in (" ", "<s>", "</s>", "<unk>")
            ]
            ours = [
                (one.text, round(one.start * RATE / 320), round(one.end * RATE / 320))
                for word in found.words
                for one in word.characters
            ]
            assert ours == theirs
            if not {"<s>", "</s>", "<unk>"} & {one["char"] for one in told.char_offsets}:
                offsets = [(one["word"], one["start_offset"]) for one in told.word_offsets]
                assert [(w.text, round(w.start * RATE / 320)) for w in found.words] == offsets
            tokens = [token for segment in found.segments for token in segment.tokens]
            kept = [token for token, same in zip(ids, ids[:-1] == ids[1:], strict=False) if not same] + [ids[-1]]
            assert tokens == [token for token in kept if token != 0]
            assert found.language is None
            assert found.srt().count("-->") == len(found.segments)
            assert all(0 <= a.start <= a.end <= sound.seconds + 1e-6 for a in found.segments)


def _plain(text: str) -> str:
    for special in ("<s>", "</s>", "<unk>"):
        text = text.replace(special, "")
    return text.strip()


@pytest.mark.slow
def test_a_long_sound_is_heard_whole_in_windows(made: Made, tmp_path: Path) -> None:
    checkpoint, bundle = made("ctc")
    opened = sanderling.open_bundle(bundle).manifest
    head = opened.postprocessing
    assert isinstance(head, CtcOutput)
    sound = Audio(np.concatenate([sounds.voice(RATE, seed).samples for seed in range(4)]), RATE)
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    (copy / "bundle.json").write_bytes(encode(replace(opened, postprocessing=replace(head, window=100, margin=20))))
    whole = heard(checkpoint, transformers.AutoModelForCTC, sound).logits[0].numpy()
    with sanderling.load(copy, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.CtcRecognizer)
        (logits,) = model.answer([sound]).rows
        found = model.transcribe(sound, words=True)
    assert logits.shape == whole.shape
    # Attention sees its window alone: what is far from every cut is near the whole, and no frame is another one.
    similar = [np.corrcoef(a, b)[0, 1] for a, b in zip(logits, whole, strict=True)]
    assert np.median(similar) > 0.9
    ends = [(word.start, word.end) for word in found.words]
    assert ends == sorted(ends)
    assert found.report.complete


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "bands"])
def test_classes_are_the_originals(made: Made, kind: str) -> None:
    checkpoint, bundle = made(kind)
    sound = sounds.voice(RATE, 5)
    expected = heard(checkpoint, transformers.AutoModelForAudioClassification, sound).logits[0]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.Classifier)
        assert (model.task, model.family) == ("audio-classification", "general")
        assert isinstance(model.bundle.manifest.postprocessing, ClassificationOutput)
        found = model(sound, top_k=2)
        several = model([sound, sounds.voice(RATE, 6)])
    np.testing.assert_allclose(found.logits, expected.numpy(), atol=1e-3)
    best = int(expected.argmax())
    assert found.labels[0] == tiny_sounds.LABELS[best]
    assert found.score == pytest.approx(float(expected.softmax(0)[best]), abs=1e-4)
    assert len(found.labels) == 2
    assert several[0].labels[0] == found.labels[0]
    if kind == "bands":  # 64 frames of the sound, which is longer
        assert found.report.unheard > 0
        assert not found.report.complete


@pytest.mark.slow
def test_the_command_line_answers_sounds(made: Made, recordings: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")

    def run(bundle: Path, *arguments: str) -> Any:
        return testing.CliRunner().invoke(build_app(), ["run", str(bundle), *arguments])

    _, recognizer = made("ctc")
    paths = [str(path) for path in sorted(recordings.glob("*.wav"))]
    with sanderling.load(recognizer, threads=1) as model:
        assert isinstance(model, sanderling.CtcRecognizer)
        said = [model.transcribe(path) for path in paths]
    found = run(recognizer, *paths, "--json")
    assert found.exit_code == 0
    told = [json.loads(line) for line in found.stdout.splitlines()]
    assert [one["text"] for one in told] == [one.text for one in said]
    assert run(recognizer, paths[0], "--subtitles", "srt").stdout.strip() == said[0].srt().strip()
    assert "the one language" in str(run(recognizer, paths[0], "--language", "en").exception)
    _, bands = made("bands")
    found = run(bands, str(recordings), str(tmp_path / "nowhere.wav"), "--json")
    assert found.exit_code == 1
    *answers, missing = [json.loads(line) for line in found.stdout.splitlines()]
    assert [one["labels"][0] in tiny_sounds.LABELS for one in answers] == [True] * len(paths)
    assert all(one["lost"]["unheard"] > 0 for one in answers)  # 64 frames are 0.65 s
    assert "does not exist" in missing["error"]
    assert "seconds at its end not heard" in run(bands, paths[0]).stdout


@pytest.mark.slow
def test_classes_are_evaluated(made: Made, recordings: Path, tmp_path: Path) -> None:
    _, bundle = made("classifier")
    shutil.copytree(recordings, tmp_path / "sounds")
    paths = [f"sounds/{path.name}" for path in sorted(recordings.glob("*.wav"))]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.Classifier)
        said = [model(tmp_path / path).label for path in paths]
    wrong = next(label for label in tiny_sounds.LABELS if label != said[0])
    data = tmp_path / "data.tsv"
    rows = zip([wrong, *said[1:]], paths, strict=True)
    data.write_text("label\taudio\n" + "".join(f"{label}\t{path}\n" for label, path in rows))
    record = evaluate(sanderling.open_bundle(bundle), EvalPlan(data, variants=("fp32",)))
    accuracy = record.scores["fp32"]["accuracy"].value
    assert accuracy is not None
    assert accuracy.value == pytest.approx((len(paths) - 1) / len(paths))
    data.write_text("label\taudio\nrain\tnowhere.wav\n")
    with pytest.raises(EvalError, match="there is no audio"):
        evaluate(sanderling.open_bundle(bundle), EvalPlan(data, variants=("fp32",)))


@pytest.mark.slow
def test_vectors_of_speakers_are_the_originals(made: Made, tmp_path: Path) -> None:
    checkpoint, bundle = made("speakers")
    pair = [sounds.voice(RATE, 5), sounds.voice(RATE, 6)]
    expected = [heard(checkpoint, transformers.AutoModelForAudioXVector, one).embeddings[0] for one in pair]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.SoundEmbeddingModel)
        found = model(pair)
        match = model.compare(pair[0], found[1], threshold=-1)
        assert match.same
        assert match.similarity == pytest.approx(float(found.embeddings[0] @ found.embeddings[1]), abs=1e-5)
        assert model.compare(*pair).same is None
        assert model.compare(pair[0], pair[0], threshold=0.999).same
        with pytest.raises(InputError, match="threshold"):
            model.compare(*pair, threshold=2)
        with pytest.raises(SpaceError):
            model.compare(pair[0], replace(found[1], space="0" * 64))
        assert model.family == "embedding"
        assert model.normalized
    for ours, theirs in zip(found.embeddings, expected, strict=True):
        np.testing.assert_allclose(ours, torch.nn.functional.normalize(theirs, dim=0).numpy(), atol=1e-4)
    cosine = float(torch.nn.functional.cosine_similarity(expected[0], expected[1], dim=0))
    assert float(sanderling.similarity(found[0], found[1])[0, 0]) == pytest.approx(cosine, abs=1e-4)
    with sanderling.Index.create(tmp_path / "voices", space=found.space, dimension=found.embeddings.shape[1]) as index:
        index.add(["first", "second"], found)
        assert [hit.id for hit in index.search(found[1], 1)] == ["second"]


@pytest.mark.slow
def test_a_recognizer_is_measured_and_a_classifier_not_yet(made: Made, recordings: Path) -> None:
    recognizer, classifier = (sanderling.open_bundle(made(kind)[1]) for kind in ("ctc", "classifier"))
    given = inputs_for(recognizer, (recordings,))
    plan = Plan(provider="cpu", threads=1, variants=("fp32",), rounds=1)
    found = bench_hearing.measure(recognizer, given, plan)
    assert len(found.samples["fp32"]) == len(given.items) == 3
    assert found.summary["fp32"].real_time_factor > 0
    with pytest.raises(BenchError, match="the one language"):
        bench_hearing.measure(recognizer, given, plan, language="en")
    with pytest.raises(BenchError, match="audio-classification of sounds is not measured yet"):
        measured_apart(classifier, None)


@pytest.mark.slow
def test_a_folder_of_sounds_is_indexed(made: Made, recordings: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    _, bundle = made("vectors")
    folder = tmp_path / "sounds"
    shutil.copytree(recordings, folder)
    (folder / "notes.txt").write_text("no sound")
    made_index = testing.CliRunner().invoke(build_app(), ["index", str(folder), "-m", str(bundle)])
    assert made_index.exit_code == 0, made_index.output
    done = testing.CliRunner().invoke(
        build_app(), ["search", str(tmp_path / "sounds.index"), str(folder / "1.wav"), "--top-k", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["path"].endswith("1.wav")


@pytest.mark.slow
def test_vectors_of_sounds_are_the_mean_of_all_frames(made: Made) -> None:
    checkpoint, bundle = made("vectors")
    sound = sounds.voice(RATE, 5)
    expected = heard(checkpoint, transformers.AutoModel, sound).last_hidden_state[0].mean(dim=0).numpy()
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        np.testing.assert_allclose(model(sound).embedding, expected, atol=1e-3)
        head = model.bundle.manifest.postprocessing
        assert isinstance(head, EmbeddingOutput)
        assert (head.pooling, head.normalize) == ("mean", False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_bundle_verifies_and_refuses_what_is_no_sound(made: Made, kind: str) -> None:
    _, bundle = made(kind)
    assert sanderling.verify(bundle, provider="cpu").held
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        audio = model.bundle.manifest.preprocessing.audio
        assert audio is not None
        call: Any = model
        least = audio.features.window if isinstance(audio.features, Filterbank) else 0
        if isinstance(audio.features, Waveform):
            least = audio.features.least
        assert least >= 400
        for samples in (np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(least - 1, np.float32)):
            with pytest.raises(AudioError, match=r"no samples|needs at least"):
                call(Audio(samples, RATE))
        with pytest.raises(AudioError, match="not finite"):
            call(Audio(np.full(RATE, np.nan, np.float32), RATE))
        call(Audio(np.zeros(least, np.float32), RATE))  # silence of the least length has an answer
        loud = call(Audio(np.where(np.arange(RATE) % 200 < 100, 1.0, -1.0).astype(np.float32), RATE))
        assert loud.report.clipped > 0
        if kind in ("classifier", "speakers"):
            minutes = call(Audio(np.random.default_rng(0).normal(0, 0.1, 35 * RATE).astype(np.float32), RATE))
            assert minutes.report.unheard == pytest.approx(5)


@pytest.mark.slow
@pytest.mark.parametrize("normal", [True, False])
def test_waveforms_are_those_of_the_extractor(normal: bool) -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normal)
    front = SoundFront(AudioPreprocessing(RATE, Waveform(400, None, normal)), 1)
    for sound in (sounds.voice(RATE, 1), Audio(np.zeros(500, np.float32), RATE), Audio(np.full(999, 0.5, "f4"), RATE)):
        feeds, _ = front.feeds([sound])
        expected = extractor(sound.samples, sampling_rate=RATE, return_tensors="np").input_values
        np.testing.assert_allclose(feeds["input_values"], expected, atol=1e-6)


@pytest.mark.slow
def test_bands_are_those_of_the_extractor() -> None:
    extractor = transformers.ASTFeatureExtractor()
    settings = Filterbank(400, 160, 512, 128, 1024, mean=extractor.mean, divisor=2 * extractor.std)
    front = SoundFront(AudioPreprocessing(RATE, settings), 4)
    random = np.random.default_rng(0)
    for samples in (
        random.normal(0, 0.1, 5 * RATE), random.normal(0, 1e-4, 12 * RATE), np.zeros(400), np.zeros(30_000),
        random.normal(0, 0.3, 400), random.normal(0, 0.3, 1023 * 160 + 400), random.normal(0, 0.3, 1024 * 160 + 400),
    ):  # fmt: skip
        sound = Audio(samples.astype(np.float32), RATE)
        feeds, (report,) = front.feeds([sound])
        expected = extractor(sound.samples, sampling_rate=RATE, return_tensors="np").input_values
        np.testing.assert_allclose(feeds["input_values"], expected, atol=5e-5)
        assert (report.unheard > 0) == (len(samples) >= 1024 * 160 + 400)  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    whole = tiny_sounds.recognizer(tmp_path / "several")
    (whole / "vocab.json").write_text('{"eng": {"a": 1}, "deu": {"a": 1}}')
    with pytest.raises(CheckpointError, match="several languages"):
        hearing.CtcOriginal(resolve(str(whole), tmp_path), Options())
    bare = tiny_sounds.saved(tmp_path / "bare", "Wav2Vec2ForCTC")
    with pytest.raises(CheckpointError, match=r"no vocab\.json"):
        hearing.CtcOriginal(resolve(str(bare), tmp_path), Options())
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json"):
        hearing.CtcOriginal(resolve(str(bare), tmp_path), Options())


@pytest.mark.slow
def test_plans_are_no_more_than_there_are_ways(made: Made) -> None:
    """Waveforms share no run, so that there is one way to batch them; bands do, as images."""
    for kind, budgets in (("ctc", {1}), ("classifier", {1}), ("bands", {1, 4, 16})):
        plans = candidates.everything(sanderling.open_bundle(made(kind)[1]), "throughput", False)
        assert {plan.image_budget for plan in plans} == budgets
        assert len({(plan.token_budget, plan.row_budget) for plan in plans if plan.image_budget > 1}) <= 1
        assert all(plan.batch_invariant for plan in plans if plan.image_budget == 1)
    tuned = sanderling.tune(made("ctc")[1], "latency", time_limit=5)
    assert all(trial.plan.batch_invariant for trial in tuned.trials)


@pytest.mark.slow
def test_memory_is_bounded_where_what_is_heard_is(made: Made, recordings: Path) -> None:
    for kind in ("ctc", "bands", "classifier"):
        bundle = made(kind)[1]
        with sanderling.load(bundle, threads=1) as free, sanderling.load(bundle, threads=1, max_memory="4GB") as model:
            assert model.plan.image_budget == free.plan.image_budget
            found, expected = (one.answer([recordings / "0.wav"]).rows[0] for one in (model, free))
            np.testing.assert_allclose(found, expected, atol=1e-5)
        with pytest.raises(MemoryLimitError, match="its files alone have"):
            sanderling.load(bundle, max_memory=1000)
    opened = sanderling.open_bundle(made("classifier")[1])
    audio = opened.manifest.preprocessing.audio
    assert audio is not None
    assert isinstance(audio.features, Waveform)
    hearing_memory.check_bounded(opened)
    endless = replace(audio, features=replace(audio.features, most=None))
    unbounded = replace(opened.manifest, preprocessing=replace(opened.manifest.preprocessing, audio=endless))
    with pytest.raises(InputError, match="hears sounds of any length at once"):
        hearing_memory.check_bounded(Bundle(opened.path, unbounded, opened.digest, opened.integrity))
