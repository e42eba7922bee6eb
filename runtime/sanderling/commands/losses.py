"""What a model did not see of its input, or saw changed: as JSON and in words."""

from __future__ import annotations

from typing import Any

from sanderling.commands import numbers
from sanderling.counts import counted
from sanderling.results import (
    AudioReport,
    ImageReport,
    InputReport,
    QuestionReport,
    RowReport,
    SeriesReport,
    TextReport,
)


def lost(report: InputReport) -> dict[str, Any]:
    """What the model did not see of its input, or saw changed; empty if nothing."""
    if isinstance(report, TextReport):
        names: tuple[str, ...] = ("tokens_lost", "characters_unread", "tokens_unknown")
    elif isinstance(report, AudioReport):
        told = {"missing": report.missing, "clipped": report.clipped, "unheard": report.unheard}
        told |= {"mixed": report.channels if report.mixed else 0, "resampled": report.rate if report.resampled else 0}
        return {name: value for name, value in told.items() if value}
    elif isinstance(report, RowReport | SeriesReport):
        names = ("missing", "unseen") if isinstance(report, RowReport) else ("missing",)
    else:
        names = ("rotated", "alpha_composited", "frames_dropped", "depth_reduced", "cropped")
    found = {name: getattr(report, name) for name in names}
    if isinstance(report, ImageReport) and report.reduced > 1:
        found["reduced"] = report.reduced
    if isinstance(report, QuestionReport):
        found["tokens_unknown"] = report.question.tokens_unknown
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items() if value}


def in_words(name: str, value: Any) -> str:
    """One of them for people."""
    if name in ("missing", "unseen"):
        return numbers.in_words(name, value)
    words = {
        "tokens_lost": f"{value:,} tokens cut off, more than the model takes",
        "characters_unread": f"{value:,} characters not read",
        "tokens_unknown": f"{counted(value, 'word')} (or sign) not in the model's vocabulary",
        "rotated": "rotated as its EXIF orientation says",
        "alpha_composited": "transparency laid on white",
        "frames_dropped": "only the first frame seen",
        "depth_reduced": "brought to 8 bits a channel",
        "cropped": f"{value:.0%} of the area cropped away",
        "reduced": f"decoded at 1/{value} of its size",
    }
    return words[name]
