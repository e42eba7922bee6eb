"""Timed texts as SubRip and WebVTT."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sanderling
from sanderling import Segment, storage
from sanderling.subtitles import to_srt, to_webvtt, write_subtitles

SEGMENTS = (Segment(3661.5, 3662.0, "It moves\nto the left."), Segment(0.0, 1.25, "A red circle."))


def test_subrip() -> None:
    assert to_srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,250\nA red circle.\n\n2\n01:01:01,500 --> 01:01:02,000\nIt moves\nto the left.\n"
    )


def test_webvtt() -> None:
    assert to_webvtt(SEGMENTS) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nA red circle.\n\n"
        "01:01:01.500 --> 01:01:02.000\nIt moves\nto the left.\n"
    )


def test_no_segments() -> None:
    assert to_srt([]) == ""
    assert to_webvtt([]) == "WEBVTT\n"


def test_what_would_end_a_cue_does_not() -> None:
    text = "first\n\n\r\n1\n00:00:00,000 --> 00:00:09,000\n<b>bold</b> & more"
    found = to_srt([Segment(1, 2, text)])
    assert found.count("-->") == 1
    assert found.count("\n\n") == 0
    found = to_webvtt([Segment(1, 2, text)])
    assert found.count("-->") == 1
    assert found.count("\n\n") == 1
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in found


def test_blank_texts_have_no_cue_and_numbers_have_no_gap() -> None:
    found = to_srt([Segment(0, 1, "a"), Segment(1, 2, " \n "), Segment(2, 3, "b")])
    assert re.findall(r"^\d+$", found, re.MULTILINE) == ["1", "2"]


def test_a_moment_lasts_a_millisecond() -> None:
    assert "00:00:01.000 --> 00:00:01.001" in to_webvtt([Segment(1.0, 1.0, "now")])


def test_a_recording_of_many_days() -> None:
    assert "100:00:00,000" in to_srt([Segment(360000, 360001, "late")])


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 1), (math.nan, 1), (0, math.inf)])
def test_times_that_are_none(start: float, end: float) -> None:
    with pytest.raises(sanderling.InputError, match="A segment goes from"):
        to_srt([Segment(start, end, "text")])
    with pytest.raises(sanderling.InputError, match="A segment goes from"):
        to_webvtt([Segment(start, end, "text")])


_SEGMENT = st.builds(
    lambda start, length, text: Segment(start, start + length, text), st.floats(0, 1e6), st.floats(0, 1e4), st.text()
)


@given(st.lists(_SEGMENT, max_size=8))
def test_every_text_with_something_in_it_is_one_cue(segments: list[Segment]) -> None:
    shown = [s for s in segments if any(line.strip() for line in s.text.splitlines())]
    for text in (to_srt(segments), to_webvtt(segments)):
        assert text.count("-->") == len(shown)
        blocks = [block for block in text.removeprefix("WEBVTT\n\n").removeprefix("WEBVTT\n").split("\n\n") if block]
        assert len(blocks) == len(shown)


@pytest.mark.parametrize(("name", "begins"), [("a.srt", "1\n"), ("a.VTT", "WEBVTT\n")])
def test_files_by_their_ending(tmp_path: Path, name: str, begins: str) -> None:
    write_subtitles(tmp_path / name, [Segment(0, 1, "Grüße \ud800")])
    found = (tmp_path / name).read_text("utf-8")
    assert found.startswith(begins)
    assert "Grüße ?" in found


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sanderling.InputError, match=r"ends in \.txt; subtitles are written as \.srt or \.vtt"):
        write_subtitles(str(tmp_path / "a.txt"), [])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.srt"
    write_subtitles(target, [Segment(0, 1, "old")])

    def full(path: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(sanderling.StorageError):
        write_subtitles(target, [Segment(0, 1, "new")])
    assert "old" in target.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [target]
