"""Whole numbers that callers hand over, and numbers in words."""

from __future__ import annotations

import operator

from sanderling.errors import InputError


def whole_number(name: str, value: object, most: int | None = None) -> int:
    """`value` as an int from 1 to `most`: any integer, numpy's included, but no bool and no float.

    Raises InputError with the `name` of the argument.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or (most is not None and number > most):
        reach = "of at least 1" if most is None else f"from 1 to {most}"
        raise InputError(f"{name} is {value!r}; a whole number {reach} was expected.")
    return number


def counted(count: int, noun: str) -> str:
    """The count with its noun: "1 thread", "2 threads"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def megabytes(size: int, decimals: int = 1) -> str:
    """A size in bytes as megabytes (10^6)."""
    return f"{size / 1e6:.{decimals}f} MB"
