"""Tiny Whispers of random weights, heard live: words, times, languages, end-points, the command line."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_speech
from numpy.typing import NDArray

import sanderling
from sanderling import Audio, SpeechRecognizer
from sanderling.errors import AudioError, InputError, ModelClosedError
from sanderling_export.pipeline import export

RATE = tiny_speech.RATE
# Random weights are improbable whatever they say: nothing is tried again, and nobody is ever silent.
PLAIN: dict[str, Any] = {"language": "en", "temperatures": (0,), "no_speech": 1, "every": 0.5}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper that hears two seconds at once."""
    root = tmp_path_factory.mktemp("live")
    folder = root / "recordings"
    folder.mkdir()
    for number, sound in enumerate(tiny_speech.sounds(4)):
        sound.save(folder / f"{number}.wav")
    checkpoint = tiny_speech.whisper(root / "checkpoint")
    return export(checkpoint, root / "bundle", data=folder, variants=["fp32"], keep_failing=True)


@pytest.fixture
def model(bundle: Path) -> Iterator[SpeechRecognizer]:
    with sanderling.load(bundle, threads=1) as found:
        assert isinstance(found, SpeechRecognizer)
        yield found


def talk(seconds: float = 6) -> NDArray[np.float32]:
    """Noise, silence, noise."""
    noise = np.concatenate([sound.samples for sound in tiny_speech.sounds(4, seconds / 4)]).astype(np.float32)
    return np.concatenate([noise, np.zeros(RATE, np.float32), noise])


def told(updates: list[Any]) -> list[tuple[float, str, str]]:
    return [(update.until, update.text, update.partial_text) for update in updates]


@pytest.mark.slow
def test_words_have_times_on_the_clock_of_the_stream(model: SpeechRecognizer) -> None:
    sound = talk()
    stream = model.live([sound], rate=RATE, steady=True, **PLAIN)
    updates = list(stream)
    words = [word for update in updates for word in update.final]
    assert words
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= len(sound) / RATE
    assert any(word.start > 7 for word in words)
    assert all(0 <= word.probability <= 1 for word in words)
    report = stream.report
    assert report.seconds == pytest.approx(len(sound) / RATE)
    assert report.silent > 0.5
    assert report.words == len(words)
    assert all(not (first < word.start < last) for one in updates for first, last in one.silent for word in words)


@pytest.mark.slow
def test_the_same_sound_gives_the_same_words_however_it_comes(model: SpeechRecognizer) -> None:
    sound = talk(3)
    pcm = (sound * 32768).astype("<i2")
    whole = told(list(model.live([Audio(pcm, RATE)], steady=True, **PLAIN)))
    random = np.random.default_rng(0)
    places = [0, *sorted(random.integers(0, 2 * len(pcm), 40).tolist()), 2 * len(pcm)]
    data = pcm.tobytes()
    parts = [data[a:b] for a, b in itertools.pairwise(places)]
    assert told(list(model.live(parts, rate=RATE, steady=True, **PLAIN))) == whole

    async def read() -> list[Any]:
        async def chunks() -> Any:
            for part in parts:
                await asyncio.sleep(0)
                yield part

        return [update async for update in model.live(chunks(), rate=RATE, steady=True, **PLAIN)]

    assert told(asyncio.run(read())) == whole


@pytest.mark.slow
def test_a_short_sound_is_heard_as_a_whole_one_is(model: SpeechRecognizer) -> None:
    sound = tiny_speech.sounds(1, 0.4)[0]
    found = list(model.live([sound], voice_activity=False, **PLAIN))
    expected = model.transcribe(sound, language="en", temperatures=(0,), no_speech=1, max_new_tokens=32)
    assert "".join(update.text for update in found).split() == expected.text.split()


@pytest.mark.slow
def test_the_language_is_recognized(model: SpeechRecognizer) -> None:
    sound = tiny_speech.sounds(1)[0]
    updates = list(model.live([sound], **{**PLAIN, "language": None}))
    assert {update.language for update in updates if update.final} <= set(tiny_speech.LANGUAGES)
    assert any(update.language == next(iter(model.detect_language(sound))) for update in updates)


@pytest.mark.slow
def test_silence_and_loud_noise_are_bounded(model: SpeechRecognizer) -> None:
    stream = model.live([np.zeros(RATE, np.float32)] * 600, rate=RATE, **PLAIN)
    (told_silent,) = stream
    assert told_silent.silent == ((0.0, 600.0),)
    loud = np.where(np.arange(RATE) % 200 < 100, 1.0, -1.0).astype(np.float32)
    stream = model.live([loud] * 20, rate=RATE, **PLAIN)
    assert sum(len(update.final) for update in stream) < 2000
    assert stream.report.clipped == 20 * RATE
    assert len(stream._windows._sound) <= 2 * RATE


@pytest.mark.slow
def test_carry_and_prompt_are_told(model: SpeechRecognizer) -> None:
    sound = talk(3)
    plain = told(list(model.live([sound], rate=RATE, steady=True, **PLAIN)))
    carried = told(list(model.live([sound], rate=RATE, steady=True, carry=True, prompt="the sea", **PLAIN)))
    assert carried != plain


@pytest.mark.slow
def test_what_is_no_stream_is_refused(model: SpeechRecognizer) -> None:
    sound = talk(1)
    for given, arguments, reason in (
        (b"pcm", {}, "one bytes; an iterable of chunks"),
        (sound, {}, "one ndarray"),
        ("talk.wav", {}, "one str"),
        (7, {}, "one int"),
        ([sound], {"every": 0}, "every is 0"),
        ([sound], {"every": 1.5}, "every is 1.5; 0.1 to 0.667 seconds"),
        ([sound], {"behind": "hurry"}, "behind is 'hurry'"),
        ([sound], {"waiting": 0}, "waiting is 0"),
        ([sound], {"num_beams": 2}, "without beams"),
        ([sound], {"language": "xx"}, "language is 'xx'"),
        ([sound], {"voice_activity": True}, "no component voice_activity"),
        ([sound], {"samples": "int12"}, "samples is 'int12'"),
    ):
        with pytest.raises(InputError, match=reason):
            model.live(given, **{**PLAIN, "rate": RATE, **arguments})  # type: ignore[arg-type]
    broken = model.live([sound, np.full(10, np.nan, np.float32)], rate=RATE, **PLAIN)
    found: list[Any] = []
    with pytest.raises(AudioError, match=f"not finite at the sample {len(sound):,}"):
        found.extend(broken)
    assert any(update.final for update in found)


@pytest.mark.slow
def test_a_closed_model_hears_nothing(bundle: Path) -> None:
    model = sanderling.load(bundle, threads=1)
    assert isinstance(model, SpeechRecognizer)
    model.close()
    with pytest.raises(ModelClosedError):
        model.live([talk(1)], rate=RATE, **PLAIN)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_interruption_ends_the_sound_and_not_the_words(bundle: Path) -> None:
    command = [sys.executable, "-m", "sanderling", "live", str(bundle), "--json", "--language", "en", "--every", "0.5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write((talk(3) * 32768).astype("<i2").tobytes())
        process.stdin.flush()
        assert process.stdout.readline()  # it hears, and its input stays open
        process.send_signal(signal.SIGINT)
        last = json.loads(process.stdout.read().splitlines()[-1])
        assert process.wait(60) == 0, process.stderr.read()
        assert last["report"]["seconds"] > 0


@pytest.mark.slow
def test_the_command_line_hears_live(bundle: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    from sanderling.cli import build_app

    def run(*arguments: str, given: bytes = b"") -> Any:
        return testing.CliRunner().invoke(
            build_app(), ["live", str(bundle), "--language", "en", "--every", "0.5", *arguments], input=given
        )

    sound = talk(1)
    pcm = (sound * 32768).astype("<i2")
    done = run("--json", given=pcm.tobytes())
    *updates, last = (json.loads(line) for line in done.stdout.splitlines())
    assert last["report"]["seconds"] == pytest.approx(len(sound) / RATE)
    assert all({"final", "partial", "until"} <= set(update) for update in updates)
    path = tmp_path / "talk.wav"
    Audio(sound, RATE).save(path)
    done = run(str(path), "--fast", "--partial")
    assert done.exit_code == 0
    assert f"{len(sound) / RATE:.1f} s of sound" in done.stderr
    for wrong in (["no.wav"], ["--samples", "int12"], ["--every", "9"], ["--rate", "1"]):
        assert run(*wrong, given=b"ab").exit_code != 0
