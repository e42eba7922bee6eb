"""Videos as timed pictures, by PyAV: decoded in a stream, one frame in memory at a time, however long the file is.

What a video is made of is read from files alone: lists that name other files or addresses are not opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sanderling.cancellation import Cancellation
from sanderling.errors import MissingExtraError, VideoError

if TYPE_CHECKING:
    from PIL.Image import Image

# Demuxers of files that hold their own streams. Playlists (HLS, DASH, concat) and devices would open other things.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,nut,mxf,ivf,h264,hevc,m4v"
)
# Packets in a row that do not decode, after which the rest is given up.
_MOST_DAMAGED = 300
# A file that says it is longer than it turns out has lost what is beyond this many seconds.
_SLACK = 0.25


class Frame(Struct, frozen=True, eq=False):
    """A frame: `time` in seconds from the video's beginning, and its upright RGB `image`."""

    time: float
    image: Image


class VideoReport(Struct, frozen=True):
    """What became of a video.

    `seconds` is the length that was read, `stated_seconds` what the file says (None where it says nothing), and
    `seconds_lost` what of that was not there or not looked at. `frames` were decoded; `frames_damaged` could not be, or
    only in part. `ended_early` is why reading ended before the file did, "" where it did not.
    """

    width: int
    height: int
    seconds: float
    stated_seconds: float | None
    seconds_lost: float
    frames: int
    frames_damaged: int
    ended_early: str = ""


class Video:
    """A video file, open to be read once from its beginning; `with` closes it.

    Raises VideoError: no such file, no video, no video stream, larger frames than Pillow's limit of pixels;
    MissingExtraError where PyAV is not installed.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        if not isinstance(source, str | os.PathLike):
            raise VideoError(f"The video is of type {type(source).__name__}; a path was expected.")
        self.path = Path(source)
        self._av = _av()
        self._where = f"{self.path}"
        if not self.path.is_file():
            raise VideoError(f"{self.path} is no file; a video's path was expected (addresses are not opened).")
        self._file = self.path.open("rb")
        try:
            self._container: Any = self._opened()
        except BaseException:
            self._file.close()
            raise
        # Of a piece of music the cover counts as a stream of pictures; it is none of moving ones.
        streams = [one for one in self._container.streams.video if not _is_cover(one)]
        if not streams:
            self.close()
            raise VideoError(f"{self._where} has no video stream; a video was expected, not sound alone.")
        self._stream: Any = streams[0]
        self._stream.thread_type = "AUTO"
        self.width, self.height = int(self._stream.width or 0), int(self._stream.height or 0)
        try:
            self._check_size(self.width, self.height)
        except VideoError:
            self.close()
            raise
        self._start = float((self._stream.start_time or 0) * (self._stream.time_base or Fraction(1)))
        self._end = 0.0
        self._frames = self._damaged = 0
        self._ended_early = ""

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and the file."""
        container = getattr(self, "_container", None)
        if container is not None:
            with suppress(self._av.FFmpegError):
                container.close()
        self._file.close()

    @property
    def stated_seconds(self) -> float | None:
        """The length that the file says it has; None where it says nothing. A file that was cut says what it had."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return float(container.duration) / self._av.time_base if container.duration else None

    def frames(self, cancellation: Cancellation | None = None) -> Iterator[Decoded]:
        """The frames in the order of their times, each converted to a picture only where that is asked for.

        Packets that do not decode are counted and passed over. Raises VideoError if not one frame does;
        CancelledError, DeadlineError.
        """
        spaced = 1.0 / float(self._stream.average_rate) if self._stream.average_rate else 0.0
        last = -spaced
        for frame in self._decoded(cancellation):
            # A frame without a time stands where its place in the stream says; none goes back in time.
            time = last + spaced if frame.time is None else float(frame.time) - self._start
            last = max(last, time, 0.0)
            self._check_size(frame.width, frame.height)
            self._frames += 1
            self._damaged += bool(frame.is_corrupt)
            self._end = last + spaced
            yield Decoded(last, frame, self._where)
        if not self._frames:
            why = self._ended_early or "its stream is empty"
            raise VideoError(f"{self._where}: not one frame could be decoded ({why}). Is the file whole?")

    def give_up(self, why: str) -> None:
        """Say that the rest was not looked at."""
        self._ended_early = self._ended_early or why

    def report(self) -> VideoReport:
        """What was read so far."""
        stated = self.stated_seconds
        lost = 0.0 if stated is None else max(0.0, stated - self._end)
        return VideoReport(
            self.width,
            self.height,
            round(self._end, 3),
            None if stated is None else round(stated, 3),
            round(lost, 3) if lost > _SLACK else 0.0,
            self._frames,
            self._damaged,
            self._ended_early,
        )

    def _opened(self) -> Any:
        try:
            return self._av.open(
                self._file, mode="r", metadata_errors="replace", options={"format_whitelist": _FORMATS}
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"{self._where} cannot be read as a video: {_reason(error)}. A file cut short may have lost the index "
                "that stands at its end; MP4, MOV, MKV, WebM, AVI, MPEG, FLV, OGG and GIF are known."
            ) from error

    def _decoded(self, cancellation: Cancellation | None) -> Iterator[Any]:
        in_a_row = 0
        packets = self._container.demux(self._stream)
        while True:
            if cancellation is not None:
                cancellation.check()
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError as error:
                self.give_up(f"the file could not be read further: {_reason(error)}")
                return
            try:
                frames = packet.decode()
            except self._av.FFmpegError as error:
                self._damaged, in_a_row = self._damaged + 1, in_a_row + 1
                if in_a_row >= _MOST_DAMAGED:
                    self.give_up(f"{in_a_row} packets in a row could not be decoded: {_reason(error)}")
                    return
                continue
            in_a_row = 0
            yield from frames

    def _check_size(self, width: int, height: int) -> None:
        from PIL import Image

        most = Image.MAX_IMAGE_PIXELS
        if most is not None and width * height > most:
            raise VideoError(
                f"{self._where} has frames of {width:,} x {height:,} pixels, expected at most {most:,} in all. Shrink "
                "it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust its source."
            )


class Decoded:
    """A decoded frame and its `time` in seconds from the beginning."""

    __slots__ = ("_frame", "_where", "time")

    def __init__(self, time: float, frame: Any, where: str) -> None:
        self.time = time
        self._frame = frame
        self._where = where

    def picture(self) -> Frame:
        """The frame as an upright RGB picture, with square pixels. Raises VideoError where it cannot be converted."""
        try:
            image: Image = self._frame.to_image()
        except (ValueError, OSError, MemoryError) as error:
            raise VideoError(f"{self._where}: the frame at {self.time:.2f} s cannot be shown: {error}.") from error
        turned = int(getattr(self._frame, "rotation", 0) or 0) % 360
        return Frame(self.time, image.rotate(turned, expand=True) if turned else image)


def _av() -> ModuleType:
    try:
        import av
        import av.logging
    except ImportError as error:
        raise MissingExtraError("Reading videos", "video", "av") from error
    # FFmpeg's own lines on damaged files go nowhere: what they say is in the report.
    av.logging.set_level(None)
    module: ModuleType = av
    return module


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
