"""What stands before the graphs of numbers: rows of tables and univariate series, to batches of feeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from sanderling.errors import InputError, SeriesError, TableError
from sanderling.preprocess.series import SeriesEncoder
from sanderling.preprocess.tables import frame_rows, is_frame, read_rows
from sanderling.preprocess.tabular import TableEncoder
from sanderling.results import InputReport, RowReport
from sanderling.schema.preprocessing import SeriesPreprocessing, TabularPreprocessing
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

_SCALARS = (str, bytes, int, float, type(None), np.generic)
# Rows that are read between two looks at whether the call is to end.
_ROWS_A_CHECK = 256
_Encoded = tuple[list[float], RowReport]


class TableFront:
    """Rows, in input order, as many a run as the plan's budget."""

    modality = "tabular"

    def __init__(self, settings: TabularPreprocessing, input_name: str, row_budget: int) -> None:
        self.encoder = TableEncoder(settings)
        self._input_name = input_name
        self._row_budget = row_budget

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        if isinstance(inputs, Mapping):
            return [inputs], True
        if isinstance(inputs, np.ndarray):
            if inputs.ndim not in (1, 2):
                raise TableError(f"The array has the shape {inputs.shape}; one row, or rows and columns were expected.")
            return ([inputs], True) if inputs.ndim == 1 else (list(inputs), False)
        if isinstance(inputs, str | os.PathLike):
            return self.file_rows(inputs), False
        if is_frame(inputs):
            names, found = frame_rows(inputs)
            order = self.encoder.order(names, "The data frame")
            return [[row[place] for place in order] for row in found], False
        if isinstance(inputs, bytes | bytearray | memoryview | Set) or not isinstance(inputs, Iterable):
            raise TableError(
                f"The input is of type {type(inputs).__name__}; a dict by column, a list of values, a list of such "
                "rows, an array, a data frame, or the path of a CSV file was expected."
            )
        rows = list(inputs)
        # A list of plain values is one row; rows are dicts, lists or arrays themselves.
        if rows and isinstance(rows[0], _SCALARS):
            return [rows], True
        return rows, False

    def file_rows(self, path: str | os.PathLike[str]) -> list[list[Any]]:
        """The rows of a file, in the columns' order. Raises TableError."""
        lines = read_rows(path)
        order = self.encoder.order(next(lines)[1], str(path))
        return [
            self.encoder.cells([cells[place] for place in order], number) for number, (_, cells) in enumerate(lines, 1)
        ]

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[_Encoded]:
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with texts; this model takes rows of a table.")
        return [self.encoder.encode(row, number) for number, row in _watched(items, cancellation)]

    def batches(self, prepared: Sequence[_Encoded]) -> Iterator[list[int]]:
        count, step = len(prepared), self._row_budget
        return (list(range(i, min(i + step, count))) for i in range(0, count, step))

    def feeds(self, batch: Sequence[_Encoded]) -> tuple[Arrays, list[InputReport]]:
        rows = np.array([vector for vector, _ in batch], np.float64)
        return {self._input_name: rows}, [report for _, report in batch]


class SeriesFront:
    """Series, in input order, as many a run as the plan's budget of rows."""

    modality = "series"

    def __init__(self, settings: SeriesPreprocessing, input_name: str, row_budget: int) -> None:
        self.encoder = SeriesEncoder(settings)
        self.settings = settings
        self._input_name = input_name
        self._row_budget = row_budget

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        if isinstance(inputs, np.ndarray):
            return (list(inputs), False) if inputs.ndim == 2 else ([inputs], True)
        if isinstance(inputs, str | os.PathLike):
            return [self.file_series(inputs)], True
        if hasattr(inputs, "to_numpy") and not hasattr(inputs, "columns"):
            return [np.asarray(inputs.to_numpy(), np.float64)], True
        if isinstance(inputs, bytes | bytearray | memoryview | Mapping | Set) or not isinstance(inputs, Iterable):
            raise SeriesError(
                f"The input is of type {type(inputs).__name__}; a list of numbers, an array, a list of these, or the "
                "path of a CSV file was expected."
            )
        values = list(inputs)
        if not values:
            raise SeriesError("The series is empty; a list of numbers was expected, the oldest first.")
        return ([values], True) if isinstance(values[0], _SCALARS) else (values, False)

    def file_series(self, path: str | os.PathLike[str]) -> list[float | None]:
        """The series in a file: the column of its name, or the only one. Raises SeriesError or TableError."""
        lines = read_rows(path)
        header = next(lines)[1]
        wanted = self.settings.name
        if wanted not in header and len(header) != 1:
            raise SeriesError(f"{path} has no column {wanted!r}, and more than one: {', '.join(header)[:200]}.")
        place = header.index(wanted) if wanted in header else 0
        return [_cell(path, line, cells[place]) for line, cells in lines]

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Any]:
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with texts; this model takes series.")
        return [self.encoder.encode(series, number) for number, series in _watched(items, cancellation)]

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        count, step = len(prepared), self._row_budget
        return (list(range(i, min(i + step, count))) for i in range(0, count, step))

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        return {self._input_name: np.stack([lags for lags, _ in batch])}, [report for _, report in batch]


def _watched(items: Sequence[Any], cancellation: Cancellation | None) -> Iterator[tuple[int, Any]]:
    """The items with their numbers, counting from 1; now and then it is asked whether the call is to end."""
    for number, item in enumerate(items, 1):
        if cancellation is not None and number % _ROWS_A_CHECK == 0:
            cancellation.check()
        yield number, item


def _cell(path: str | os.PathLike[str], line: int, cell: str) -> float | None:
    text = cell.strip()
    if not text:
        return None
    try:
        if "_" in text:
            raise ValueError(text)
        return float(text)
    except ValueError:
        raise SeriesError(f"{path}, line {line}: {cell[:60]!r} is no number.") from None
