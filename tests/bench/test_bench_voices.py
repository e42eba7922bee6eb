"""Voices, measured: a record of all samples, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_voices
from rich.console import Console

from sanderling import open_bundle
from sanderling.errors import BenchError
from sanderling_bench import speaking
from sanderling_bench.inputs import inputs_for
from sanderling_bench.measure import Plan


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_voices.voice_bundle(tmp_path_factory.mktemp("bundles") / "tiny-voice")


def test_every_text_is_said_in_every_round(bundle: Path) -> None:
    opened = open_bundle(bundle)
    texts = inputs_for(opened)
    assert texts.items == (*tiny_voices.GOLDEN, " ".join(tiny_voices.GOLDEN))
    made = speaking.measure(opened, texts, Plan(rounds=2, threads=1, provider="cpu"))
    taken = made.samples["fp32"]
    assert [(one.round, one.input) for one in taken] == [(number, place) for number in (0, 1) for place in range(3)]
    assert taken[2].lasts > taken[0].lasts > 0
    assert all(one.first_sound > 0 and one.seconds > 0 for one in taken)
    summary = made.summary["fp32"]
    assert summary.least <= summary.real_time_factor <= summary.greatest
    assert speaking.ENVELOPE.decode(speaking.ENVELOPE.encode(made), "here") == made
    console = Console(record=True, width=120)
    speaking.show(made, console)
    assert "3 texts" in console.export_text()


def test_texts_of_a_file_are_said(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a bad cab.\nha!\n", "utf-8")
    assert inputs_for(open_bundle(bundle), [tmp_path / "texts.txt"]).items == ("a bad cab.", "ha!")


def test_what_cannot_be_measured_is_refused(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    with pytest.raises(BenchError, match="rounds is 0"):
        speaking.measure(opened, inputs_for(opened), Plan(rounds=0))
    (tmp_path / "texts.txt").write_text("123\n", "utf-8")
    with pytest.raises(BenchError, match="Nothing of the texts"):
        speaking.measure(opened, inputs_for(opened, [tmp_path / "texts.txt"]), Plan(rounds=1, provider="cpu"))
