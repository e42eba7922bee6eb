"""Who is told how far an export is."""

from __future__ import annotations

from collections.abc import Callable

# Called with each stage, in words, as it begins.
Progress = Callable[[str], None]


def silent(stage: str) -> None:
    """Progress that nobody asked for."""
    del stage
