"""Rows of a table to numbers, as the manifest's columns say: what is missing, unseen, or no number at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import TableError
from sanderling.results import RowReport
from sanderling.schema.preprocessing import ColumnSpec, TabularPreprocessing

Row: TypeAlias = Mapping[str, Any] | Sequence[Any] | NDArray[Any]

_COMPLETE = RowReport()
# Whole numbers beyond this are not all float64 numbers.
_EXACT = 2**53
_SHOWN = 8
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


class TableEncoder:
    """Rows to vectors of the shape (columns,), float64, each with a report of what was missing or unseen."""

    def __init__(self, settings: TabularPreprocessing) -> None:
        self.columns = settings.columns
        self.names = tuple(column.name for column in settings.columns)
        self._places = {name: place for place, name in enumerate(self.names)}
        self._codes = [
            {_category(value): float(code) for code, value in enumerate(column.categories)}
            for column in settings.columns
        ]
        # The usual column: a finite Python float goes through unchanged.
        self._plain = [column.kind == "number" and column.dtype == "float64" for column in settings.columns]
        self._missing = frozenset(settings.missing_values)

    def encode(self, row: Row, number: int) -> tuple[list[float], RowReport]:
        """One row, the `number`-th counting from 1, as a dict by column or as values in the columns' order.

        Raises TableError naming row and column: one too many or too few, text for a number, an infinity, a whole
        number that float64 cannot hold, a missing or unseen value where the pipeline takes none.
        """
        values = self._values(row, number)
        vector: list[float] = []
        missing: list[str] = []
        unseen: list[str] = []
        for place, value in enumerate(values):
            if self._plain[place] and type(value) is float and -math.inf < value < math.inf:
                vector.append(value)
            else:
                vector.append(self._number(place, value, number, missing, unseen))
        return vector, RowReport(tuple(missing), tuple(unseen)) if missing or unseen else _COMPLETE

    def order(self, header: Sequence[str], where: str) -> list[int]:
        """Where in `header` each column stands. Raises TableError: columns missing, unknown, or there twice."""
        places = {name: place for place, name in enumerate(header)}
        if len(places) != len(header):
            twice = next(name for name in header if list(header).count(name) > 1)
            raise TableError(f"{where} has the column {twice!r} twice.")
        self._check_names(places, where)
        return [places[name] for name in self.names]

    def cells(self, cells: Sequence[str], number: int) -> list[Any]:
        """The values that the cells of a text file mean, in the columns' order: numbers, texts, None where missing.

        Raises TableError for text where a number belongs.
        """
        return [self._cell(place, cell, number) for place, cell in enumerate(cells)]

    def _values(self, row: Row, number: int) -> Sequence[Any]:
        if isinstance(row, Mapping):
            if len(row) == len(self.names):
                try:
                    return [row[name] for name in self.names]
                except KeyError:
                    pass  # said below, with all names
            self._check_names(row, f"Row {number}")
        if isinstance(row, np.ndarray) and row.ndim == 1:
            row = row.tolist()
        if isinstance(row, str | bytes | bytearray) or not isinstance(row, Sequence):
            raise TableError(
                f"Row {number} is of type {type(row).__name__}; a dict by column, or a list of values in the order "
                f"{_listed(self.names)} was expected."
            )
        if len(row) != len(self.names):
            raise TableError(
                f"Row {number} has {len(row)} values; the model takes {len(self.names)}: {_listed(self.names)}."
            )
        return row

    def _check_names(self, found: Iterable[Any], where: str) -> None:
        there = set(found)
        absent = [name for name in self.names if name not in there]
        extra = [str(name) for name in there if name not in self._places]
        if not absent and not extra:
            return
        words = [f"lacks the columns {_listed(absent)}"] if absent else []
        words += [f"has the columns {_listed(sorted(extra))}, which the model does not take"] if extra else []
        raise TableError(
            f"{where} {' and '.join(words)}. Expected are exactly: {_listed(self.names, 40)}; "
            "a value that is not known is given as null (None), or as an empty cell."
        )

    def _number(self, place: int, value: Any, number: int, missing: list[str], unseen: list[str]) -> float:
        column = self.columns[place]
        if _is_missing(value):
            missing.append(column.name)
            if column.missing == "error":
                raise self._wrong(number, column, "is missing, and this model takes no missing value there")
            if column.missing == "pass":
                return math.nan if column.kind == "number" else float(len(column.categories) + 1)
            value = column.fill
        if column.kind == "number":
            return self._measure(column, value, number)
        code = self._codes[place].get(_category(value)) if isinstance(value, str | bool | int | float) else None
        if isinstance(value, np.generic):
            code = self._codes[place].get(_category(value.item()))
        elif not isinstance(value, str | bool | int | float):
            raise self._wrong(number, column, f"is of type {type(value).__name__}; a category was expected")
        if code is not None:
            return code
        if isinstance(value, float) and math.isinf(value):
            raise self._wrong(number, column, "is infinite; a category was expected")
        unseen.append(column.name)
        if column.unseen == "error":
            known = _listed([str(category) for category in column.categories])
            raise self._wrong(number, column, f"is {_short(value)}, which the model never saw; it knows {known}")
        return float(len(column.categories))

    def _measure(self, column: ColumnSpec, value: Any, number: int) -> float:
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(value, int | float):
            raise self._wrong(number, column, f"is {_short(value)}; a number was expected")
        if column.dtype == "bool" and value not in (0, 1):
            raise self._wrong(number, column, f"is {value!r}; true or false was expected")
        if isinstance(value, int) and abs(value) > _EXACT:
            raise self._wrong(number, column, f"is a whole number beyond {_EXACT:,}, which float64 cannot hold exactly")
        if math.isinf(value):
            raise self._wrong(number, column, "is infinite; a finite number was expected")
        if column.dtype == "int64" and (abs(value) > _EXACT or value != int(value)):
            raise self._wrong(number, column, f"is {value!r}; a whole number up to 2^53 was expected")
        if column.dtype == "float32":
            with np.errstate(over="ignore"):
                rounded = float(np.float32(value))
            if math.isinf(rounded):
                raise self._wrong(number, column, f"is {value!r}, too large for float32")
            return rounded
        return float(value)

    def _cell(self, place: int, cell: str, number: int) -> Any:
        column = self.columns[place]
        if cell in self._missing:
            return None
        if column.dtype == "string":
            return cell
        if column.dtype == "bool" and cell in _BOOLEANS:
            return _BOOLEANS[cell]
        text = cell.strip()
        try:
            # Python reads 1_000 as a number; no other program does.
            value = math.nan if "_" in text else float(text)
        except ValueError:
            raise self._wrong(number, column, f"is {_short(cell)}; a number was expected") from None
        if "_" in text:
            raise self._wrong(number, column, f"is {_short(cell)}; a number was expected")
        whole = column.dtype == "int64" and value.is_integer() and text.lstrip("+-").isdecimal()
        return int(text) if whole and len(text) < 20 else value

    def _wrong(self, number: int, column: ColumnSpec, what: str) -> TableError:
        return TableError(f"Row {number}, column {column.name!r}: the value {what}.")


def _is_missing(value: Any) -> bool:
    # A NaN differs from itself. pandas' NA is known by its name, and NaT is one that differs from itself.
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float | np.floating) and value != value


def _category(value: str | bool | int | float) -> str | float:
    """What a category is known by: 3, 3.0 and numpy's 3 are one; a text is never a number."""
    return value if isinstance(value, str) else float(value) if abs(value) <= _EXACT else str(value)


def _listed(names: Iterable[str], most: int = _SHOWN) -> str:
    found = list(names)
    return ", ".join(map(_short, found[:most])) + (f" and {len(found) - most} more" if len(found) > most else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
