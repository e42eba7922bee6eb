"""Why another library failed, in few words."""

from __future__ import annotations


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of what an error says, at most so many characters of it; of one that says nothing, its type."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
