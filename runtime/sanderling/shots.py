"""A video in segments, each with a few of its frames: by time, or by scenes; one segment in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from sanderling.preprocess.video import difference, evenly, side_by_side, thumbnail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sanderling.cancellation import Cancellation
    from sanderling.video import Decoded, Video

By: TypeAlias = Literal["time", "scene"]

# Two frames of one scene differ by less than this share of all that they could, usually by a tenth of it.
SCENE_CHANGE = 0.1
# Scenes are looked for this often a segment of the wanted length, and have at least a quarter of that length.
_LOOKS, _LEAST = 8, 0.25
# Of a segment whose length is not known before, at most this many frames for each one wanted are held.
_HELD = 4
# What is left at the end is a segment of its own from this share of one on; less comes of rounding.
_SLIVER = 0.05


class Shot(Struct, frozen=True, eq=False):
    """A segment of a video from `start` to `end`, in seconds, and some of its frames in order (RGB)."""

    start: float
    end: float
    frames: tuple[Image, ...]

    def picture(self, columns: int) -> Image:
        """All frames in one picture."""
        return side_by_side(self.frames, columns)


def shots(
    video: Video, seconds: float, frames: int, by: By = "time", cancellation: Cancellation | None = None
) -> Iterator[Shot]:
    """The segments of a video, with `frames` frames each.

    By time they have about `seconds` each: the length the file states is divided evenly. By scene a segment ends where
    the picture changes altogether, and after four times `seconds` at the latest. Raises as `Video.frames` does.
    """
    decoded = video.frames(cancellation)
    if by == "scene":
        return _by_scene(video, decoded, seconds, frames)
    return _by_time(video, decoded, seconds, frames)


def _by_time(video: Video, decoded: Iterator[Decoded], seconds: float, frames: int) -> Iterator[Shot]:
    stated = video.stated_seconds
    length = stated / max(1, round(stated / seconds)) if stated else seconds
    number = 0
    shown: Decoded | None = None
    taken: list[Image] = []

    def wanted() -> float:
        return (number + (len(taken) + 0.5) / frames) * length

    for frame in decoded:
        # What is seen at a moment is the last frame that began before it.
        while shown is not None and frame.time > wanted():
            taken.append(shown.picture().image)
            if len(taken) == frames:
                yield Shot(number * length, (number + 1) * length, tuple(taken))
                number, taken = number + 1, []
        shown = frame
    end = video.report().seconds
    while shown is not None and wanted() <= max(end, shown.time):
        taken.append(shown.picture().image)
        if len(taken) == frames:
            yield Shot(number * length, (number + 1) * length, tuple(taken))
            number, taken = number + 1, []
    # What is left is shorter than a segment, as of a file that was cut: shown from what there is of it.
    if shown is not None and (taken or not number or end - number * length > _SLIVER * length):
        taken = taken or [shown.picture().image]
        chosen = [taken[place] for place in evenly(frames, len(taken))]
        yield Shot(number * length, max(end, number * length), tuple(chosen))


def _by_scene(video: Video, decoded: Iterator[Decoded], seconds: float, frames: int) -> Iterator[Shot]:
    step, longest = seconds / _LOOKS, 4 * seconds
    start, looked = 0.0, -step
    held: list[Image] = []
    stride, skipped = 1, 0
    before: NDArray[np.float32] | None = None

    def shot(end: float) -> Shot:
        return Shot(start, end, tuple(held[place] for place in evenly(frames, len(held))))

    for frame in decoded:
        if frame.time < looked + step:
            continue
        looked = frame.time
        image = frame.picture().image
        now = thumbnail(image)
        changed = before is not None and difference(before, now) > SCENE_CHANGE
        before = now
        if held and ((changed and frame.time - start >= _LEAST * seconds) or frame.time - start >= longest):
            yield shot(frame.time)
            start, held, stride, skipped = frame.time, [], 1, 0
        if skipped % stride == 0:
            held.append(image)
        skipped += 1
        if len(held) > _HELD * frames:
            held, stride = held[::2], stride * 2
    if held:
        yield shot(max(video.report().seconds, start))
