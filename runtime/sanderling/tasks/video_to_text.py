"""`video-to-text`: what happens in a video, segment by segment, by a captioner of pictures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Unpack

from msgspec import Struct

from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.decode.settings import GenerationOptions
from sanderling.errors import InputError
from sanderling.schema.preprocessing import VideoPreprocessing
from sanderling.shots import By, Shot, shots
from sanderling.subtitles import Segment, to_srt, to_webvtt
from sanderling.video import Video, VideoReport

if TYPE_CHECKING:
    from sanderling.tasks.image_to_text import ImageToText

# Segments that are captioned side by side.
_TOGETHER = 4
MAX_SEGMENTS = 10_000


class VideoCaptions(Struct, frozen=True):
    """What was said of a video: its `segments` in order, and the `report` of what was read and what was lost.

    Neighbours of which the same is said are one segment. `cut` counts captions that ended because they had to, at
    their length and not by themselves.
    """

    segments: tuple[Segment, ...]
    report: VideoReport
    cut: int = 0

    @property
    def text(self) -> str:
        """All that was said, a line each."""
        return "\n".join(segment.text for segment in self.segments)

    def to_srt(self) -> str:
        """The captions as SubRip."""
        return to_srt(self.segments)

    def to_webvtt(self) -> str:
        """The captions as WebVTT."""
        return to_webvtt(self.segments)


class VideoToText:
    """Says what happens in videos, by a captioner of pictures that `sanderling.load` gave.

    What the captioner is shown of a segment is what its bundle says: one frame of its middle, or several side by side
    in one picture (`preprocessing.video`); `view` says something else. Needs PyAV: pip install "sanderling[video]".
    Closing the model is left to who loaded it; safe to call from many threads. Raises InputError for another model.
    """

    def __init__(self, model: ImageToText, *, view: VideoPreprocessing | None = None) -> None:
        from sanderling.tasks.image_to_text import ImageToText

        if not isinstance(model, ImageToText):
            named = getattr(model, "name", type(model).__name__)
            raise InputError(f"{named} captions no pictures; videos are captioned by a model of image-to-text.")
        self.model = model
        self.view = view or model.bundle.manifest.preprocessing.video or VideoPreprocessing()

    def __call__(
        self,
        video: str | os.PathLike[str],
        *,
        seconds: float | None = None,
        by: By = "time",
        max_segments: int = MAX_SEGMENTS,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> VideoCaptions:
        """Caption a video file: segments of about `seconds` (default: the bundle's), or scenes with `by="scene"`.

        A scene ends where the picture changes altogether, and after four times `seconds` at the latest. The file is
        decoded in a stream, a segment's frames in memory at a time; what is beyond `max_segments` is not looked at,
        and `report.seconds_lost` says how much that is. `options` are those of `generate`.
        Raises VideoError for what is no video, MissingExtraError where PyAV is not installed, InputError for settings
        out of range; CancelledError, DeadlineError.
        """
        most = whole_number("max_segments", max_segments)
        found: list[Segment] = []
        with Video(video) as opened:
            said = self._said(opened, seconds, by, cancellation, options)
            captions = list(itertools.islice(said, most))
            if len(captions) == most and next(said, None) is not None:
                opened.give_up(f"max_segments is {most:,}")
            report = opened.report()
        if report.ended_early.startswith("max_segments") and report.stated_seconds is not None:
            # Frames are decoded a little ahead of what was captioned.
            lost = max(0.0, report.stated_seconds - captions[-1][0].end)
            report = _replaced(report, captions[-1][0].end, round(lost, 3))
        found = list(merged(segment for segment, _ in captions))
        return VideoCaptions(tuple(found), report, sum(not whole for _, whole in captions))

    def stream(
        self,
        video: str | os.PathLike[str],
        *,
        seconds: float | None = None,
        by: By = "time",
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[Segment]:
        """Caption a video file segment by segment, as it is read, in bounded memory however long it is.

        A segment is given when the next one says something else. Arguments and errors are as of the call, without a
        bound on the segments.
        """
        with Video(video) as opened:
            said = self._said(opened, seconds, by, cancellation, options)
            yield from merged(segment for segment, _ in said)

    def _said(
        self,
        video: Video,
        seconds: float | None,
        by: By,
        cancellation: Cancellation | None,
        options: GenerationOptions,
    ) -> Iterator[tuple[Segment, bool]]:
        """Each segment with its caption, and whether that ended by itself."""
        length = checked_seconds(self.view.seconds if seconds is None else seconds)
        found = shots(video, length, self.view.frames, checked_by(by), cancellation)
        while some := list(itertools.islice(found, _TOGETHER)):
            yield from self._captioned(some, cancellation, options)

    def _captioned(
        self, some: list[Shot], cancellation: Cancellation | None, options: GenerationOptions
    ) -> Iterator[tuple[Segment, bool]]:
        pictures = [shot.picture(self.view.columns) for shot in some]
        answers = self.model.generate(pictures, cancellation=cancellation, **options)
        for shot, answer in zip(some, answers, strict=True):
            yield Segment(round(shot.start, 3), round(shot.end, 3), answer.text), answer.complete


def merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Segments of which neighbours that say the same and touch are one."""
    held: Segment | None = None
    for segment in segments:
        if held is not None and held.text == segment.text and abs(segment.start - held.end) < 0.01:
            held = Segment(held.start, segment.end, held.text)
            continue
        if held is not None:
            yield held
        held = segment
    if held is not None:
        yield held


def checked_seconds(seconds: float) -> float:
    """Raise InputError for what is no length of a segment."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.01 <= seconds <= 86_400:
        raise InputError(f"seconds is {seconds!r}; a length from 0.01 to 86,400 was expected.")
    return float(seconds)


def checked_by(by: By) -> By:
    """Raise InputError for another way to divide a video."""
    if by not in ("time", "scene"):
        raise InputError(f'by is {by!r}; "time" or "scene" was expected.')
    return by


def _replaced(report: VideoReport, seconds: float, lost: float) -> VideoReport:
    from msgspec.structs import replace

    return replace(report, seconds=seconds, seconds_lost=lost)
