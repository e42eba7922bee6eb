"""Tables that come whole: files of rows, arrays and data frames, to lists of values by row."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sanderling.errors import TableError

MAX_FILE_BYTES = 2**30
MAX_LINE_BYTES = 2**20
MAX_ROWS = 5_000_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows of a `.csv` (RFC 4180) or `.tsv` file in UTF-8, each with the line it begins at.

    Empty lines are passed over, but where there is a single column: between two rows each is an empty cell.
    Raises TableError: no such file, of another kind, too large, empty, not UTF-8, or a row that has more or fewer
    cells than the header.
    """
    file = Path(path)
    delimiter = _DELIMITERS.get(file.suffix.lower())
    try:
        if not file.is_file():
            raise TableError(f"{file} {'is a folder' if file.is_dir() else 'is not there'}; a CSV file was expected.")
        if delimiter is None:
            raise TableError(f"{file} ends in {file.suffix or 'nothing'!r}; a table ends in {', '.join(_DELIMITERS)}.")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise TableError(
                f"{file} has {file.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Split it."
            )
        with file.open(encoding="utf-8-sig", newline="") as opened:
            yield from _checked(file, csv.reader(_lines(file, opened), delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise TableError(f"{file} is no valid UTF-8 (byte {error.start}); convert it first.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"{str(file)[:200]!r} cannot be read: {reason}.") from error


def _lines(path: Path, opened: Any) -> Iterator[str]:
    number = 0
    while line := opened.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise TableError(f"{path}, line {number} has more than {MAX_LINE_BYTES:,} characters.")
        yield line


def _checked(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    width = None
    begin = 1
    count = 0
    empty: list[int] = []
    try:
        for cells in reader:
            if not cells and width == 1:
                empty.append(begin)
            elif cells:
                yield from ((line, [""]) for line in empty)
                empty.clear()
                if width is None:
                    width = len(cells)
                elif len(cells) != width:
                    raise TableError(f"{path}, line {begin} has {len(cells)} cells; its first line has {width}.")
                count += 1
                if count > MAX_ROWS:
                    raise TableError(f"{path} has more than {MAX_ROWS:,} rows. Split it.")
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{path}, line {begin} cannot be read as a table: {error}.") from error
    if width is None:
        raise TableError(f"{path} is empty; a first line with the names of the columns was expected.")
    if count == 1:
        raise TableError(f"{path} has no rows below its first line, which names the columns.")


def is_frame(value: Any) -> bool:
    """Whether it is a data frame: of pandas, polars or one like them, known by what it can do."""
    return hasattr(value, "columns") and (hasattr(value, "to_dicts") or hasattr(value, "itertuples"))


def frame_rows(frame: Any) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """The names of a data frame's columns, and its rows."""
    names = [str(name) for name in frame.columns]
    if hasattr(frame, "itertuples"):
        return names, frame.itertuples(index=False, name=None)
    return names, iter(frame.rows())
