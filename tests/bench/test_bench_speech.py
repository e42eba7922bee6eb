"""Models that hear, measured: seconds beside seconds of sound, the first word, wrong words; records that come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_speech

from sanderling import open_bundle
from sanderling.errors import BenchError
from sanderling_bench import hearing
from sanderling_bench.hearing import Heard
from sanderling_bench.inputs import inputs_for
from sanderling_bench.measure import Plan
from sanderling_export.pipeline import export


def test_a_real_time_factor_is_of_a_round_and_the_median_of_rounds() -> None:
    taken = [
        Heard(0, 0, 1.0, 2.0, first_word=0.5), Heard(0, 1, 2.0, 8.0, first_word=0.5),  # 3 s of 10
        Heard(1, 0, 1.0, 2.0, first_word=0.5), Heard(1, 1, 4.0, 8.0, first_word=0.5),  # 5 s of 10
        Heard(2, 0, 2.0, 2.0, first_word=0.5), Heard(2, 1, 2.0, 8.0, first_word=0.5),  # 4 s of 10
    ]  # fmt: skip
    found = hearing.summarized(taken, 0.25)
    assert (found.real_time_factor, found.least, found.greatest) == (0.4, 0.3, 0.5)
    assert found.word_error_rate == 0.25
    assert found.first_word_p50 is None  # six samples do not support it


def test_what_is_said_is_read_beside_the_sounds(tmp_path: Path) -> None:
    assert hearing.transcripts_of([tmp_path], 2) is None
    (tmp_path / "transcripts.tsv").write_text("file\ttext\nb.wav\ttwo\na.wav\tone\n")
    assert hearing.transcripts_of([tmp_path], 2) == ("one", "two")
    with pytest.raises(BenchError, match="has 2 sounds, and its folder 3"):
        hearing.transcripts_of([tmp_path], 3)
    (tmp_path / "transcripts.tsv").write_text("name\twords\nb.wav\ttwo\n")
    with pytest.raises(BenchError, match="columns file and text"):
        hearing.transcripts_of([tmp_path], 1)


@pytest.mark.slow
def test_variants_hear_every_sound_in_every_round(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number, sound in enumerate(tiny_speech.sounds(3)):
        sound.save(recordings / f"{number}.wav")
    checkpoint = tiny_speech.whisper(tmp_path / "checkpoint")
    bundle = open_bundle(export(checkpoint, tmp_path / "bundle", data=recordings, variants=("fp32",)))
    sounds = inputs_for(bundle, [recordings])
    assert sounds.modality == "audio"
    assert len(sounds.items) == 3
    assert len(inputs_for(bundle).items) == 3  # the golden ones
    said = ("one", "two", "three")
    made = hearing.measure(bundle, sounds, Plan(rounds=2), language="en", said=said)
    assert [(one.round, one.input) for one in made.samples["fp32"]] == [(r, i) for r in range(2) for i in range(3)]
    assert all(0 < one.first_word <= one.seconds and one.lasts == 1.5 for one in made.samples["fp32"])
    assert len(made.transcripts["fp32"]) == 3
    assert made.summary["fp32"].word_error_rate is not None
    assert hearing.ENVELOPE.decode(hearing.ENVELOPE.encode(made), "here") == made
    with pytest.raises(BenchError, match="at least 1 was expected"):
        hearing.measure(bundle, sounds, Plan(rounds=0))
    with pytest.raises(BenchError, match="There is no sound"):
        inputs_for(bundle, [checkpoint])
