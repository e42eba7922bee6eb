"""`eval` of models that hear: errors in words and characters counted by hand, on bundles with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_sounds
import tiny_speech

pytest.importorskip("sklearn.metrics")
pytest.importorskip("jiwer")

import sanderling
from sanderling.audio import Audio
from sanderling.audio_wave import wave_bytes
from sanderling.errors import EvalError
from sanderling_bench import evaluation_record
from sanderling_bench.evaluation import EvalPlan, evaluate
from sanderling_bench.evaluation_record import EvalRecord
from sanderling_bench.evaluation_table import render
from sanderling_bench.words import normalized
from sanderling_export.pipeline import export
from sanderling_export.speech import sounds

RATE = tiny_sounds.RATE


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short sound files."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(3):
        Audio(sounds.voice(RATE, seed).samples[: RATE + 4000 * seed], RATE).save(folder / f"{seed}.wav")
    return folder


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> sanderling.Bundle:
    root = tmp_path_factory.mktemp("frames")
    checkpoint = tiny_sounds.recognizer(root / "checkpoint")
    variants = ("fp32", "int8-dynamic")
    return sanderling.open_bundle(
        export(checkpoint, root / "bundle", data=recordings, variants=variants, keep_failing=True)
    )


def apart(found: list[str], said: list[str]) -> int:
    """The least count of replacements, removals and additions from one sequence to the other (Levenshtein)."""
    row = list(range(len(said) + 1))
    for i, one in enumerate(found, start=1):
        before, row = row, [i]
        for j, other in enumerate(said, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one != other)))
    return row[-1]


def value(made: EvalRecord, variant: str, metric: str) -> float:
    found = made.scores[variant][metric].value
    assert found is not None
    return found.value


@pytest.mark.slow
def test_errors_are_those_counted_by_hand(recognizer: sanderling.Bundle, recordings: Path, tmp_path: Path) -> None:
    with sanderling.load(recognizer.path, variant="fp32", threads=1) as model:
        own = [model.transcribe(recordings / f"{seed}.wav").text for seed in range(3)]  # type: ignore[attr-defined]
    assert all(normalized(text) for text in own)
    said = [own[0].lower() + ".", own[1] + " [laughs] one more", "The tide, at last"]
    data = recordings / "transcripts.tsv"
    data.write_text(
        "file\ttext\n" + "".join(f"{seed}.wav\t{text}\n" for seed, text in enumerate(said)), encoding="utf-8"
    )
    made = evaluate(recognizer, EvalPlan(data, resamples=20))
    assert made.data.kind == "transcripts"
    assert made.data.columns == {"audio": "file", "text": "text"}
    assert made.truth["said"] == tuple(said)
    assert made.answers["fp32"]["text"] == tuple(own)
    assert made.answers["fp32"]["word-errors"][:2] == (0, 2)
    for variant in ("fp32", "int8-dynamic"):
        columns = made.answers[variant]
        texts = [str(text) for text in columns["text"]]
        for name, errors, total, split in (
            ("wer", "word-errors", "words", str.split), ("cer", "character-errors", "characters", list),
        ):  # fmt: skip
            parts = [(split(normalized(a)), split(normalized(b))) for a, b in zip(texts, said, strict=True)]
            wrong = [apart(found, truth) for found, truth in parts]
            assert columns[errors] == tuple(wrong)
            assert columns[total] == tuple(len(truth) for _, truth in parts)
            assert value(made, variant, name) == pytest.approx(sum(wrong) / sum(len(truth) for _, truth in parts))
        assert columns["lasts"] == pytest.approx([1.0, 1.25, 1.5])
        taken, lasts = (sum(map(float, columns[name])) for name in ("seconds", "lasts"))
        assert value(made, variant, "real-time-factor") == pytest.approx(taken / lasts)
    assert made.scores["int8-dynamic"]["wer"].difference is not None
    assert render(made) is not None
    assert evaluation_record.decode(evaluation_record.encode(made), "here") == made
    assert {"scikit-learn", "jiwer"} <= set(made.versions)
    only = evaluate(recognizer, EvalPlan(data, variants=("fp32",), metrics=("cer",), limit=2, resamples=5))
    assert (only.settings.metrics, only.data.cases) == (("cer",), 2)


@pytest.mark.slow
def test_what_is_no_case_is_refused_before_anything_is_heard(
    recognizer: sanderling.Bundle, recordings: Path, tmp_path: Path
) -> None:
    data = recordings / "wrong.csv"
    for text, words in (
        ("audio,text\nnone.wav,the sea\n", "line 2: there is no sound 'none.wav'"),
        ("audio,text\n0.wav,...\n", "line 2: nothing is said"),
        ("audio,words\n0.wav,the sea\n", "there is no 'text' or 'transcript' or 'sentence'"),
        ("audio,text\n", r"has no rows. For .* the columns are: audio or file or path, text or"),
        ("audio,text\nwrong.csv,the sea\n", "line 2: .*sound"),
    ):
        data.write_text(text, encoding="utf-8")
        with pytest.raises(EvalError, match=words):
            evaluate(recognizer, EvalPlan(data, resamples=2))
    data.write_text("audio,text\n0.wav,the sea\n", encoding="utf-8")
    with pytest.raises(EvalError, match="knows one alone: leave the language out"):
        evaluate(recognizer, EvalPlan(data, language="en"))
    with pytest.raises(EvalError, match="'accuracy' goes with classification, this data is for transcripts"):
        evaluate(recognizer, EvalPlan(data, metrics=("accuracy",)))
    with pytest.raises(EvalError, match="is a folder"):
        evaluate(recognizer, EvalPlan(recordings))


@pytest.mark.slow
def test_a_language_is_told_and_a_truncated_file_counted(recordings: Path, tmp_path: Path) -> None:
    checkpoint = tiny_speech.whisper(tmp_path / "checkpoint")
    bundle = sanderling.open_bundle(
        export(checkpoint, tmp_path / "bundle", data=recordings, variants=("fp32",), keep_failing=True)
    )
    whole = wave_bytes(sounds.voice(RATE, 1).samples[:RATE], RATE)[0]
    (recordings / "short.wav").write_bytes(whole[: len(whole) // 2])
    data = recordings / "renamed.jsonl"
    data.write_text('{"clip": "0.wav", "words": "the sea"}\n{"clip": "short.wav", "words": "a bird"}\n')
    plan = EvalPlan(data, columns={"audio": "clip", "text": "words"}, language="de", resamples=5)
    made = evaluate(bundle, plan)
    assert (made.settings.language, made.data.cut, made.data.cases) == ("de", 1, 2)
    with sanderling.load(bundle.path, variant="fp32", threads=1) as model:
        assert isinstance(model, sanderling.SpeechRecognizer)
        expected = [model.transcribe(recordings / name, language="de").text for name in ("0.wav", "short.wav")]
    assert made.answers["fp32"]["text"] == tuple(expected)
    with pytest.raises(EvalError, match=r"language is 'xx'; .* knows en, de, fr"):
        evaluate(bundle, EvalPlan(data, language="xx"))
