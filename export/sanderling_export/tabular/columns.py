"""The columns of a table as the pipeline knows them: names, dtypes and rules; and rows as it wants them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sanderling.errors import ExportError, MissingExtraError, TableError
from sanderling.preprocess.tables import frame_rows, is_frame, read_rows

Dtype = Literal["float64", "float32", "int64", "bool", "string"]
Row = list[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table. What is not said is found out: `dtype` from the rows, `missing` by asking the pipeline.

    `missing` is "error", "pass" (the pipeline takes it), or "fill" with the value of `fill`, before the pipeline.
    """

    name: str
    dtype: Dtype | None = None
    unit: str = ""
    missing: Literal["error", "pass", "fill"] | None = None
    fill: str | bool | int | float | None = None


def read_table(rows: Any, names: Sequence[str] | None, markers: Sequence[str]) -> tuple[list[str], list[Row]]:
    """Names and rows of a data frame, an array, a list of dicts or lists, or a CSV file; None where one is missing.

    Raises ExportError where nothing says what a column is called.
    """
    if isinstance(rows, str | Path):
        return _from_file(Path(rows), names, markers)
    if is_frame(rows):
        found, values = frame_rows(rows)
        return _ordered(found, [list(row) for row in values], names)
    listed = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
    if listed and isinstance(listed[0], Mapping):
        found = list(names) if names is not None else list(listed[0])
        try:
            return found, [[_plain(row[name]) for name in found] for row in listed]
        except (KeyError, TypeError) as error:
            raise ExportError(f"A sample row is no dict with the columns {', '.join(found)[:200]}: {error}.") from error
    width = len(listed[0]) if listed and isinstance(listed[0], Sequence) else 0
    found = list(names) if names is not None else [f"x{place}" for place in range(width)]
    if not width or any(len(row) != len(found) for row in listed):
        raise ExportError(f"The sample rows do not all have {len(found)} values: {', '.join(found)[:200]}.")
    return found, [[_plain(value) for value in row] for row in listed]


def complete(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns with a dtype each: the one stated, else the narrowest that holds all of the rows' values."""
    found = []
    for place, column in enumerate(columns):
        dtype = column.dtype or _dtype([row[place] for row in rows])
        if (column.missing == "fill") != (column.fill is not None):
            raise ExportError(f"The column {column.name!r} needs a value to fill exactly where missing is 'fill'.")
        found.append(Column(column.name, dtype, column.unit, column.missing, column.fill))
    return found


def as_original(columns: Sequence[Column], rows: Sequence[Row], named: bool) -> Any:
    """Rows as the pipeline wants them: a pandas data frame where it was fitted on names, else an array."""
    filled = [
        [
            column.fill if value is None and column.missing == "fill" else value
            for column, value in zip(columns, row, strict=True)
        ]
        for row in rows
    ]
    if not named:
        if any(column.dtype == "string" for column in columns):
            values = [[math.nan if value is None else value for value in row] for row in filled]
            array = np.empty((len(values), len(columns)), object)
            array[:] = values
            return array
        kind = np.float32 if all(column.dtype == "float32" for column in columns) else np.float64
        return np.array([[math.nan if value is None else value for value in row] for row in filled], kind)
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("A pipeline that was fitted on a data frame", "export", "pandas") from error
    series = {}
    for place, column in enumerate(columns):
        cells = [math.nan if row[place] is None else row[place] for row in filled]
        gaps = any(isinstance(cell, float) and cell != cell for cell in cells)
        dtype = (
            "object" if column.dtype == "string" else "float64" if gaps and column.dtype != "float32" else column.dtype
        )
        series[column.name] = pandas.Series(cells, dtype=dtype)
    return pandas.DataFrame(series)


def take(table: Any, places: Sequence[int]) -> Any:
    """Some columns of a data frame or an array."""
    return table.iloc[:, list(places)] if hasattr(table, "iloc") else table[:, list(places)]


def _from_file(path: Path, names: Sequence[str] | None, markers: Sequence[str]) -> tuple[list[str], list[Row]]:
    try:
        (_, header), *lines = read_rows(path)
    except TableError as error:
        raise ExportError(f"The sample rows cannot be read. {error}") from error
    rows: list[Row] = [[None if cell in markers else cell for cell in cells] for _, cells in lines]
    for place in range(len(header)):
        values = [_number(row[place]) for row in rows]
        if all(value is not None or row[place] is None for value, row in zip(values, rows, strict=True)):
            for row, value in zip(rows, values, strict=True):
                row[place] = value
    return _ordered(header, rows, names)


def _number(cell: str | None) -> int | float | None:
    try:
        value = float(cell) if cell is not None and "_" not in cell else None
    except ValueError:
        return None
    if value is None or cell is None or not math.isfinite(value):
        return None
    return int(value) if cell.strip().lstrip("+-").isdecimal() and abs(value) < 2**53 else value


def _ordered(header: Sequence[str], rows: list[Row], names: Sequence[str] | None) -> tuple[list[str], list[Row]]:
    wanted = list(names) if names is not None else list(header)
    absent = [name for name in wanted if name not in header]
    if absent:
        raise ExportError(
            f"The sample rows lack the columns {', '.join(absent)[:200]}; they have {', '.join(header)[:200]}."
        )
    places = [list(header).index(name) for name in wanted]
    return wanted, [[_plain(row[place]) for place in places] for row in rows]


def _plain(value: Any) -> Any:
    """A value of Python's own; None where it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value or type(value).__name__ == "NAType":
        return None
    return value


def _dtype(values: Iterable[Any]) -> Dtype:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return "bool"
    if kinds <= {int} and kinds:
        return "int64"
    return "float64" if kinds <= {int, float, bool} else "string"
