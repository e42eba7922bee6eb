"""What is passed on of another library's error."""

from __future__ import annotations

import pytest

from sanderling.reasons import first_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("\n no such file: a.bin \nat line 3"), "no such file: a.bin "),
        (RuntimeError("x" * 500), "x" * 300),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(" \n "), "MemoryError"),
    ],
)
def test_the_first_line_or_the_type(error: Exception, expected: str) -> None:
    assert first_line(error) == expected
    assert len(first_line(ValueError("abcdef"), 4)) == 4
