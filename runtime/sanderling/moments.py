"""Moments of a video found by words: its frames as vectors of a space that texts share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import heads
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import InputError, SpaceError
from sanderling.shots import By, Shot, shots
from sanderling.tasks.video_to_text import checked_by, checked_seconds
from sanderling.video import Video, VideoReport

if TYPE_CHECKING:
    from sanderling.results import Embedding
    from sanderling.tasks.dual_encoder import DualEncoder

# Three hours at two moments a second; of 512 numbers each they take 44 MB.
MAX_MOMENTS = 21_600
_TOGETHER = 8


class Moment(Struct, frozen=True):
    """A part of a video from `start` to `end`, in seconds, and its `score`: the cosine to what was looked for."""

    start: float
    end: float
    score: float


class Moments(Struct, frozen=True, eq=False):
    """The moments of one video. `starts` and `ends` (n,) are seconds, `embeddings` (n, d) float32 of length 1.

    `space` is the fingerprint of what the vectors can be compared with; `report` says what was read and lost.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    space: str
    report: VideoReport

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, query: Embedding, k: int = 5) -> tuple[Moment, ...]:
        """The `k` moments nearest to a vector of the same space, best first: of a text, or of a picture.

        Raises SpaceError for a vector of another space.
        """
        if query.space != self.space:
            raise SpaceError(
                f"The query is of the space {query.space[:12]}…, the moments are of {self.space[:12]}…; embed it with "
                "the model that embedded the video."
            )
        scores = self.embeddings @ heads.unit(np.asarray(query.embedding, np.float32)[None])[0]
        best = np.argsort(-scores, kind="stable")[: whole_number("k", k)]
        return tuple(Moment(float(self.starts[i]), float(self.ends[i]), float(scores[i])) for i in best)


def video_moments(
    model: DualEncoder,
    video: str | os.PathLike[str],
    *,
    seconds: float = 1.0,
    by: By = "time",
    max_moments: int = MAX_MOMENTS,
    cancellation: Cancellation | None = None,
) -> Moments:
    """Embed a video's moments, one of about `seconds` each (or scenes), by the frame in the middle of each.

    `moments.find(model.embed_texts("a red circle"))` then says when that is to be seen. The file is decoded in a
    stream; what is beyond `max_moments` is not looked at, and `report.seconds_lost` says how much that is.
    Raises VideoError for what is no video, MissingExtraError without PyAV, InputError for another model or settings out
    of range; CancelledError, DeadlineError.
    """
    from sanderling.tasks.dual_encoder import DualEncoder

    if not isinstance(model, DualEncoder):
        named = getattr(model, "name", type(model).__name__)
        raise InputError(f"{named} is no model of two towers; moments are found by CLIP or SigLIP.")
    length, most = checked_seconds(seconds), whole_number("max_moments", max_moments)
    starts, ends, rows = list[float](), list[float](), list[NDArray[np.float32]]()
    with Video(video) as opened:
        for some in _together(shots(opened, length, 1, checked_by(by), cancellation), most, opened):
            found = model.embed_images([shot.frames[0] for shot in some], cancellation=cancellation)
            rows.append(np.asarray(found.embeddings, np.float32))
            starts += [shot.start for shot in some]
            ends += [shot.end for shot in some]
        report = opened.report()
    if report.ended_early.startswith("max_moments") and report.stated_seconds is not None:
        lost = max(0.0, report.stated_seconds - ends[-1])
        report = replace(report, seconds=ends[-1], seconds_lost=round(lost, 3))
    vectors = heads.unit(np.concatenate(rows))
    return Moments(np.array(starts), np.array(ends), vectors, model.space, report)


def _together(found: Iterator[Shot], most: int, video: Video) -> Iterator[list[Shot]]:
    some: list[Shot] = []
    for number, shot in enumerate(found):
        if number == most:
            video.give_up(f"max_moments is {most:,}")
            break
        some.append(shot)
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some
