"""A series to lag features: gaps filled as the manifest says, and what became of them reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import SeriesError
from sanderling.results import SeriesReport
from sanderling.schema.preprocessing import SeriesPreprocessing

MAX_VALUES = 10_000_000


class SeriesEncoder:
    """A series to its lags, float64 of the shape (lags,), with a report."""

    def __init__(self, settings: SeriesPreprocessing) -> None:
        self.settings = settings
        self.needed = max(settings.lags)
        self._places = -np.array(settings.lags)

    def encode(self, series: Any, number: int) -> tuple[NDArray[np.float64], SeriesReport]:
        """The lags of the `number`-th series, counting from 1, and its report with the level to add to the answer.

        Raises SeriesError: no numbers, too few, infinite, or missing where that cannot be mended.
        """
        values = _numbers(series, number)
        if len(values) < self.needed:
            raise SeriesError(
                f"Series {number} has {len(values):,} values; this model looks back over {self.needed:,} of them."
            )
        unused = len(values) - self.needed
        seen = values[unused:]
        gaps = np.isnan(seen)
        missing = int(gaps.sum())
        if missing:
            # What stands before the part that is looked at may still end a gap that reaches into it.
            seen = self._filled(values, number)[unused:]
        lags = seen[self._places]
        level = float(seen[-1]) if self.settings.center == "last" else 0.0
        return lags - level, SeriesReport(len(values), missing, unused, level)

    def _filled(self, values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        if self.settings.missing == "error":
            raise SeriesError(f"Series {number} has missing values, and this model takes none. Fill them first.")
        known = np.flatnonzero(~np.isnan(values))
        # Nothing is made up beyond the known values: a line needs both its ends.
        if not len(known) or known[-1] != len(values) - 1 or known[0] > len(values) - self.needed:
            raise SeriesError(
                f"Series {number} lacks its first or last values among those that the model looks at; a gap is filled "
                "only between two known values. Cut it off, or fill it first."
            )
        return np.interp(np.arange(len(values)), known, values[known])


def _numbers(series: Any, number: int) -> NDArray[np.float64]:
    if isinstance(series, str | bytes | bytearray) or not isinstance(series, Sequence | np.ndarray):
        raise SeriesError(
            f"Series {number} is of type {type(series).__name__}; a list or a one-dimensional array of numbers was "
            "expected, the oldest first."
        )
    if isinstance(series, np.ndarray) and (series.ndim != 1 or series.dtype.kind not in "fiu"):
        raise SeriesError(
            f"Series {number} is an array of {series.dtype} of the shape {series.shape}; one dimension of numbers was "
            "expected."
        )
    if len(series) > MAX_VALUES:
        raise SeriesError(f"Series {number} has {len(series):,} values; at most {MAX_VALUES:,} are taken.")
    if not isinstance(series, np.ndarray):
        for place, value in enumerate(series, 1):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
                raise SeriesError(f"Series {number}, value {place} is {repr(value)[:60]}; a number was expected.")
        series = [math.nan if value is None else value for value in series]
    try:
        values = np.asarray(series, np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise SeriesError(f"Series {number} cannot be read as numbers: {error}.") from error
    if np.isinf(values).any():
        place = int(np.flatnonzero(np.isinf(values))[0]) + 1
        raise SeriesError(f"Series {number}, value {place} is infinite; finite numbers were expected.")
    return values
