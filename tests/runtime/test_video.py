"""Videos: read in a stream, divided, captioned, and their moments found; and what is no video, or only half of one."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra [video] is not installed")

import tiny_films
import tiny_language
import tiny_towers
from PIL import Image
from tiny_films import BLUE, GREEN, GREY, RED, nearest

import sanderling
from sanderling import (
    Cancellation,
    CancelledError,
    DualEncoder,
    ImageToText,
    InputError,
    Segment,
    SpaceError,
    VideoError,
    VideoPreprocessing,
    VideoToText,
)
from sanderling.preprocess.video import difference, evenly, side_by_side, thumbnail
from sanderling.shots import shots
from sanderling.tasks.video_to_text import merged
from sanderling.video import Video

PLAN = ((RED, 2.0), (GREEN, 3.0), (BLUE, 1.0))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of red, three of green, one of blue; eight frames a second."""
    return tiny_films.colors(tmp_path_factory.mktemp("films") / "colors.mp4", PLAN)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> ImageToText:
    found = sanderling.load(tiny_language.captioner_bundle(tmp_path_factory.mktemp("b") / "captioner"), threads=1)
    assert isinstance(found, ImageToText)
    return found


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    found = sanderling.load(tiny_towers.dual_bundle(tmp_path_factory.mktemp("t") / "towers"), threads=1)
    assert isinstance(found, DualEncoder)
    return found


def test_frames_come_with_their_times(film: Path) -> None:
    with Video(film) as video:
        found = [(frame.time, nearest(frame.picture().image)) for frame in video.frames()]
        report = video.report()
    assert [time for time, _ in found] == pytest.approx([index / 8 for index in range(48)], abs=1e-3)
    assert [color for _, color in found] == [RED] * 16 + [GREEN] * 24 + [BLUE] * 8
    assert (report.width, report.height, report.frames, report.frames_damaged) == (96, 64, 48, 0)
    assert report.seconds == pytest.approx(6.0, abs=0.01)
    assert report.seconds_lost == 0.0
    assert report.ended_early == ""


def test_segments_by_time_show_their_own_frames(film: Path) -> None:
    with Video(film) as video:
        found = list(shots(video, 1.0, 2))
    assert [(shot.start, shot.end) for shot in found] == [(float(s), float(s + 1)) for s in range(6)]
    assert all(len(shot.frames) == 2 for shot in found)
    colors = [[nearest(frame) for frame in shot.frames] for shot in found]
    assert colors == [[RED] * 2] * 2 + [[GREEN] * 2] * 3 + [[BLUE] * 2]
    # The length is divided evenly: nothing is left at the end.
    with Video(film) as video:
        assert [(shot.start, shot.end) for shot in shots(video, 3.9, 1)] == [(0.0, 3.0), (3.0, 6.0)]


def test_segments_end_where_the_scene_changes(film: Path) -> None:
    with Video(film) as video:
        found = list(shots(video, 1.0, 1, "scene"))
    assert [nearest(shot.frames[0]) for shot in found] == [RED, GREEN, BLUE]
    assert [shot.start for shot in found] == pytest.approx([0.0, 2.0, 5.0], abs=0.13)
    assert found[-1].end == pytest.approx(6.0, abs=0.01)


def test_a_scene_without_end_is_divided(tmp_path: Path) -> None:
    with Video(tiny_films.colors(tmp_path / "long.mp4", [(GREY, 9.0)])) as video:
        found = list(shots(video, 1.0, 3, "scene"))
    assert len(found) == 3
    assert all(len(shot.frames) == 3 and shot.end - shot.start <= 4.2 for shot in found)


def test_frames_stand_row_by_row() -> None:
    frames = [tiny_films.plain((index, 0, 0), (4, 2)) for index in range(3)]
    picture = side_by_side(frames, 2)
    assert picture.size == (8, 4)
    assert [picture.getpixel(place) for place in ((0, 0), (4, 0), (0, 2), (4, 2))] == [
        (0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 0, 0),
    ]  # fmt: skip
    assert side_by_side(frames[:1], 1) is frames[0]
    assert side_by_side([frames[0], tiny_films.plain(RED, (9, 9))], 2).size == (8, 2)


def test_thumbnails_differ_as_their_pictures_do() -> None:
    black, white = (thumbnail(tiny_films.plain(color)) for color in ((0, 0, 0), (255, 255, 255)))
    assert difference(black, black) == 0.0
    assert difference(black, white) == pytest.approx(1.0)
    assert evenly(2, 4) == [1, 3]
    assert evenly(4, 2) == [0, 0, 1, 1]
    assert evenly(1, 1) == [0]


def test_neighbours_that_say_the_same_are_one() -> None:
    said = [Segment(0, 1, "a"), Segment(1, 2, "a"), Segment(2, 3, "b"), Segment(4, 5, "b"), Segment(5, 6, "a")]
    assert list(merged(said)) == [Segment(0, 2, "a"), Segment(2, 3, "b"), Segment(4, 5, "b"), Segment(5, 6, "a")]
    assert list(merged([])) == []


def test_a_video_is_captioned_by_what_is_seen(film: Path, captioner: ImageToText) -> None:
    found = VideoToText(captioner)(film, seconds=1.0, max_new_tokens=6)
    with Video(film) as video:
        frames = [shot.frames[0] for shot in shots(video, 1.0, 1)]
    expected = captioner.generate(frames, max_new_tokens=6).texts
    assert len(set(expected)) > 1
    segments = [Segment(float(s), float(s + 1), text) for s, text in enumerate(expected)]
    assert found.segments == tuple(merged(segments))
    assert found.report.frames == 48
    assert found.cut == sum(not one.complete for one in captioner.generate(frames, max_new_tokens=6))
    assert found.text.splitlines()[0] == expected[0].splitlines()[0]
    assert found.to_srt().startswith("1\n00:00:00,000 --> ")
    assert found.to_webvtt().startswith("WEBVTT\n")
    assert tuple(VideoToText(captioner).stream(film, seconds=1.0, max_new_tokens=6)) == found.segments


def test_a_captioner_sees_moments_side_by_side(film: Path, captioner: ImageToText) -> None:
    view = VideoPreprocessing(frames=4, columns=2, seconds=3.0)
    found = VideoToText(captioner, view=view)(film, max_new_tokens=4)
    with Video(film) as video:
        pictures = [shot.picture(2) for shot in shots(video, 3.0, 4)]
    assert [picture.size for picture in pictures] == [(192, 128)] * 2
    texts = captioner.generate(pictures, max_new_tokens=4).texts
    assert found.segments == tuple(merged([Segment(0.0, 3.0, texts[0]), Segment(3.0, 6.0, texts[1])]))


def test_a_bound_on_segments_says_what_was_left(film: Path, captioner: ImageToText) -> None:
    found = VideoToText(captioner)(film, seconds=1.0, max_segments=2, max_new_tokens=3)
    assert found.segments[-1].end == 2.0
    assert found.report.ended_early == "max_segments is 2"
    assert found.report.seconds == 2.0
    assert found.report.seconds_lost == pytest.approx(4.0, abs=0.02)
    whole = VideoToText(captioner)(film, seconds=1.0, max_segments=6, max_new_tokens=3)
    assert (whole.report.ended_early, whole.report.seconds_lost) == ("", 0.0)


def test_moments_are_found_by_their_vectors(film: Path, towers: DualEncoder) -> None:
    found = sanderling.video_moments(towers, film, seconds=1.0)
    assert len(found) == 6
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1.0, atol=1e-5)
    with Video(film) as video:
        blue = [shot.frames[0] for shot in shots(video, 1.0, 1)][5]
    best = found.find(towers.embed_images(blue), k=2)
    assert (best[0].start, best[0].end) == (5.0, 6.0)
    assert best[0].score == pytest.approx(1.0, abs=1e-4)
    assert best[0].score >= best[1].score
    assert len(found.find(towers.embed_texts("a bird"), k=50)) == 6
    short = sanderling.video_moments(towers, film, seconds=1.0, max_moments=2)
    assert (len(short), short.report.ended_early) == (2, "max_moments is 2")
    assert short.report.seconds_lost == pytest.approx(4.0, abs=0.02)


def test_vectors_of_another_space_are_refused(film: Path, towers: DualEncoder) -> None:
    from msgspec.structs import replace

    found = sanderling.video_moments(towers, film, seconds=3.0)
    with pytest.raises(SpaceError, match="embed it with the model that embedded the video"):
        found.find(replace(towers.embed_texts("a bird"), space="0" * 64))


def test_a_video_cut_in_the_middle_says_what_it_lost(tmp_path: Path, captioner: ImageToText) -> None:
    whole = tiny_films.colors(tmp_path / "whole.mkv", PLAN)
    fast = tiny_films.colors(tmp_path / "fast.mp4", PLAN, options={"movflags": "faststart"})
    for path in (whole, fast):
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(path.read_bytes()[: round(path.stat().st_size * 0.6)])
        found = VideoToText(captioner)(cut, seconds=1.0, max_new_tokens=3)
        assert 0 < found.report.frames < 48, path
        assert found.segments[-1].end <= found.report.seconds + 1.0
        assert found.report.stated_seconds == pytest.approx(6.0, abs=0.2)
        assert found.report.seconds + found.report.seconds_lost == pytest.approx(found.report.stated_seconds, abs=0.01)
        assert found.report.seconds_lost > 0.25


def test_an_index_that_was_cut_off_is_named(tmp_path: Path) -> None:
    plain = tiny_films.colors(tmp_path / "plain.mp4", PLAN)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(plain.read_bytes()[: plain.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"cannot be read as a video.*cut short may have lost the index"):
        Video(cut)


def test_damage_within_is_counted(tmp_path: Path) -> None:
    path = tiny_films.colors(tmp_path / "a.mkv", PLAN)
    raw = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    for place in rng.integers(len(raw) // 3, len(raw) - 300, 40):
        raw[place] ^= 0xFF
    path.write_bytes(raw)
    with Video(path) as video:
        times = [frame.time for frame in video.frames()]
        report = video.report()
    assert times == sorted(times)
    assert report.frames == len(times) <= 60


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a video"),
        (b"no video at all " * 99, "cannot be read as a video"),
        (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "cannot be read as a video"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", "cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=said):
        Video(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no video stream"):
        Video(tiny_films.sound(tmp_path / "a.m4a"))


@pytest.mark.parametrize("source", ["https://example.org/a.mp4", "missing.mp4", "."])
def test_what_is_no_file_is_refused(source: str) -> None:
    with pytest.raises(VideoError, match="is no file"):
        Video(source)
    with pytest.raises(VideoError, match="is of type BytesIO"):
        Video(io.BytesIO(b""))  # type: ignore[arg-type]


def test_frames_beyond_the_limit_are_refused(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(VideoError, match=r"frames of 96 x 64 pixels, expected at most 1,000"):
        Video(film)


def test_settings_out_of_range_are_refused(film: Path, captioner: ImageToText, towers: DualEncoder) -> None:
    describe = VideoToText(captioner)
    for wrong in ({"seconds": 0}, {"seconds": float("nan")}, {"by": "chapter"}, {"max_segments": 0}):
        with pytest.raises(InputError):
            describe(film, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="captions no pictures"):
        VideoToText(towers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no model of two towers"):
        sanderling.video_moments(captioner, film)  # type: ignore[arg-type]


def test_a_cancelled_call_ends(film: Path, captioner: ImageToText) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(CancelledError):
        VideoToText(captioner)(film, cancellation=cancellation)


def test_a_long_video_takes_no_more_memory(tmp_path: Path, captioner: ImageToText) -> None:
    """Frames are freed as the stream goes on: at no time are more alive than a few segments have."""
    path = tiny_films.colors(tmp_path / "long.mp4", [(RED, 60.0), (GREEN, 60.0)], rate=4)
    alive = most = 0

    class Counted:
        """What stands for a picture while it is alive."""

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    from sanderling import video as reading

    convert = reading.Decoded.picture

    def counted(self: Any) -> Any:
        nonlocal alive, most
        frame = convert(self)
        alive += 1
        most = max(most, alive)
        frame.image.info["counted"] = Counted()
        return frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading.Decoded, "picture", counted)
        found = VideoToText(captioner)(path, seconds=1.0, max_new_tokens=1)
    assert found.report.frames == 480
    assert found.report.seconds == pytest.approx(120.0, abs=0.5)
    assert most <= 12


def test_the_extra_is_named_where_it_is_missing(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(sanderling.MissingExtraError, match=r'pip install "sanderling\[video\]"'):
        Video(film)


def test_examples_of_the_docs_run(
    root: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_language.captioner_bundle(tmp_path / "models" / "bundles" / "world-captions")
    tiny_towers.dual_bundle(tmp_path / "models" / "bundles" / "world-clip")
    (tmp_path / "clip.mp4").write_bytes(film.read_bytes())
    text = (root / "docs" / "video.md").read_text("utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 3
    names: dict[str, Any] = {}
    for code in found:
        exec(code, names)
    assert "WEBVTT" in capsys.readouterr().out
    assert (tmp_path / "clip.srt").read_text("utf-8") == names["found"].to_srt()
    assert len(names["moments"]) == 12


def test_the_command_writes_subtitles_and_finds_moments(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("typer", reason="the extra [cli] is not installed")
    from sanderling import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sanderling", "watch", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    captioner = str(tiny_language.captioner_bundle(tmp_path / "captioner", max_new_tokens=5))
    towers = str(tiny_towers.dual_bundle(tmp_path / "towers"))
    target = tmp_path / "film.vtt"
    code, _, _ = run(captioner, str(film), "--seconds", "3", "-o", str(target))
    assert code == 0
    assert target.read_text("utf-8").startswith("WEBVTT\n\n00:00:00.000 --> ")
    code, out, _ = run(captioner, str(film), "--seconds", "3", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["start"] == 0.0
    assert lines[-1]["report"]["frames"] == 48
    code, out, _ = run(towers, str(film), "--find", "a bird", "-k", "2")
    assert (code, len(out.splitlines())) == (0, 2)
    for wrong, said in (
        ((captioner, str(film), "--find", "a bird"), "needs a model of two towers"),
        ((towers, str(film)), "captioned by image-to-text"),
        ((captioner, str(film), "-o", str(tmp_path / "a.txt")), "ends in .txt"),
        ((towers, str(film), "--find", "a", "-o", str(target)), "--output is for captions"),
    ):
        code, _, error = run(*wrong)
        assert code == 1
        assert said in error
