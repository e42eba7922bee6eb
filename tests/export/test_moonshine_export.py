"""A tiny Moonshine, exported, beside transformers' own `generate`: logits, tokens, long sound in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sounds
import torch
import transformers

import sanderling
from sanderling import Audio, WaveRecognizer
from sanderling.errors import AudioError, InputError
from sanderling_export.pipeline import export
from sanderling_export.speech import sounds

RATE = tiny_sounds.RATE
FORCED = [11, 40, 77, 9, 123]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The checkpoint and its bundle."""
    root = tmp_path_factory.mktemp("moonshine")
    recordings = root / "recordings"
    recordings.mkdir()
    for seed in range(3):
        Audio(sounds.voice(RATE, seed).samples[: RATE + 777 * seed], RATE).save(recordings / f"{seed}.wav")
    checkpoint = tiny_sounds.moonshine(root / "checkpoint")
    variants = ["fp32", "int8-dynamic"]
    return checkpoint, export(checkpoint, root / "bundle", data=recordings, variants=variants, keep_failing=True)


def original(checkpoint: Path, sound: Audio, **more: object) -> list[int]:
    """New tokens of transformers' `generate`, without the end token."""
    model = transformers.MoonshineForConditionalGeneration.from_pretrained(checkpoint).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
    given = extractor(sound.samples, sampling_rate=sound.rate, return_tensors="pt")
    with torch.no_grad():
        found = model.generate(**given, do_sample=False, **more)[0].tolist()[1:]
    return found[: found.index(0)] if 0 in found else found


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_are_the_originals(made: tuple[Path, Path], beams: int) -> None:
    checkpoint, bundle = made
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, WaveRecognizer)
        pair = [sounds.voice(RATE, seed) for seed in (5, 6)]
        rows = model.answer(pair).rows
        assert np.abs(rows[0] - rows[1]).max() > 1e-2  # or the sounds were not listened to
        for sound in pair:
            found = model.transcribe(sound, num_beams=beams)
            tokens = [token for segment in found.segments for token in segment.tokens]
            assert tokens == original(checkpoint, sound, num_beams=beams)
            assert found.language is None
            assert found.report.complete


@pytest.mark.slow
def test_logits_are_the_originals(made: tuple[Path, Path]) -> None:
    checkpoint, bundle = made
    library = transformers.MoonshineForConditionalGeneration.from_pretrained(checkpoint).eval()
    sound = sounds.voice(RATE, 7)
    with torch.no_grad():
        expected = library(
            input_values=torch.from_numpy(sound.samples)[None], decoder_input_ids=torch.tensor([[1, *FORCED]])
        ).logits[0]
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, WaveRecognizer)
        found = model.forced(np.array(FORCED), model.start, model.held(sound.samples[None]))
    np.testing.assert_allclose(found, expected[: len(found)].numpy(), atol=1e-3)


@pytest.mark.slow
def test_a_long_sound_is_heard_in_windows_cut_where_it_is_quiet(made: tuple[Path, Path]) -> None:
    checkpoint, bundle = made
    speech = sounds.voice(RATE, 5).samples[: 3 * RATE]
    silence = np.zeros(RATE // 2, np.float32)
    sound = Audio(np.concatenate([speech, silence] * 11), RATE)
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, WaveRecognizer)
        assert model.window == 30
        found = model.transcribe(sound)
    assert len(found.segments) == 2
    assert found.segments[0].end == found.segments[1].start
    assert found.segments[-1].end == pytest.approx(sound.seconds)
    cut = round(found.segments[0].end * RATE)
    assert np.abs(sound.samples[cut - 100 : cut + 100]).max() == 0
    assert list(found.segments[1].tokens) == original(checkpoint, Audio(sound.samples[cut:], RATE))


@pytest.mark.slow
def test_a_bundle_verifies_and_refuses_what_is_no_sound(made: tuple[Path, Path]) -> None:
    _, bundle = made
    assert sanderling.verify(bundle, provider="cpu").held
    with sanderling.load(bundle, variant="int8-dynamic", threads=1) as model:
        assert isinstance(model, WaveRecognizer)
        for samples in (np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(800, np.float32)):
            with pytest.raises(AudioError, match=r"no samples|needs at least"):
                model.transcribe(Audio(samples, RATE))
        with pytest.raises(AudioError, match="not finite"):
            model.transcribe(Audio(np.full(RATE, np.nan, np.float32), RATE))
        with pytest.raises(InputError, match="max_new_tokens"):
            model.transcribe(Audio(np.zeros(RATE, np.float32), RATE), max_new_tokens=0)
        quiet = model.transcribe([Audio(np.zeros(895, np.float32), RATE)], max_new_tokens=5)
        assert len(quiet[0].unfinished) + len(quiet[0].segments) <= 2


@pytest.mark.slow
def test_the_placement_is_measured_of_every_step(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from sanderling import session
    from sanderling.placement import run_count

    _, bundle = made
    sound = sounds.voice(RATE, 5)
    counted: list[tuple[int, int]] = []
    measured = session.node_seconds

    def noted(events: list[dict[str, Any]], skip: int) -> dict[str, float]:
        counted.append((run_count(events), skip))
        return measured(events, skip)

    monkeypatch.setattr(session, "node_seconds", noted)
    with sanderling.load(bundle, variant="fp32", threads=1) as model:
        assert isinstance(model, WaveRecognizer)
        before = model.placement
        heard = model.transcribe(sound)
        steps = sum(len(one.tokens) for one in heard.segments) + (not heard.unfinished)
        found = model.measure_placement([sound], runs=2)
        assert model.placement == found
        assert model.transcribe(sound).text == heard.text
    # The decoder's profile is read first: one run a token in each of three passes, of which the first does not count.
    assert sorted(counted) == sorted([(3, 1), (3 * steps, steps)])
    assert list(found.graphs) == ["audio_encoder", "decoder"]
    assert before.seconds == {}
    assert found.nodes == before.nodes
    assert all(part.seconds["cpu"] > 0 for part in found.graphs.values())
    assert found.seconds["cpu"] == pytest.approx(sum(part.seconds["cpu"] for part in found.graphs.values()))
    assert found.time_shares == {"cpu": 1.0}
