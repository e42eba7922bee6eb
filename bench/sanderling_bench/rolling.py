"""A series forecast from every place in it that has enough before and behind it: rolling origins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sanderling.bundle import Bundle
from sanderling.errors import EvalError
from sanderling.model import Model
from sanderling.schema.answers import ForecastOutput
from sanderling_bench.answering import chunks
from sanderling_bench.datasets import Row, number, rows
from sanderling_bench.evaluation_record import Column
from sanderling_bench.labelled import sample

ROLE = "value"
# Values that are forecast, of each variant: their truths and answers are kept, and drawn again and again.
MAX_CASES = 5_000_000


@dataclass(frozen=True, slots=True)
class Rolled:
    """What was forecast: the line of each value, its truth, and by variant the mean and the ends of its interval."""

    lines: tuple[int, ...]
    truth: Column
    answers: dict[str, dict[str, Column]]


class Rolling:
    """One series in a file, the oldest value first. A column in `given` goes before the one of the bundle's series."""

    def __init__(self, bundle: Bundle, path: Path, given: Mapping[str, str]) -> None:
        settings, head = bundle.manifest.preprocessing.series, bundle.manifest.postprocessing
        assert settings is not None  # decode() refuses the task without it
        assert isinstance(head, ForecastOutput)
        unknown = [role for role in given if role != ROLE]
        if unknown:
            raise EvalError(f"--column {unknown[0]}={given[unknown[0]]}: this data has {ROLE}, not {unknown[0]!r}.")
        self.path = path
        self._before, self._ahead = max(settings.lags), head.horizon
        self._usual, self._given = settings.name, given.get(ROLE)
        self._column = ""
        self._lines: list[int] = []
        self._values: list[float] = []

    def columns(self) -> dict[str, str]:
        """The column that the values were read from; after `check`."""
        return {ROLE: self._column}

    def check(self) -> int:
        """Read the series and count its values. Raises EvalError: a gap, text, an infinity, or too few values."""
        for row in rows(self.path):
            if not self._lines:
                self._column = self._chosen(row)
            if not row.cells.get(self._column, "").strip():
                raise EvalError(
                    f"{self.path}, line {row.line}: the value is missing. A series to evaluate on has no gaps: cut it "
                    "off before them, or fill them first."
                )
            self._values.append(number(self.path, row, ROLE, (self._column,)))
            self._lines.append(row.line)
        least = self._before + self._ahead
        if len(self._values) < least:
            raise EvalError(
                f"{self.path} has {len(self._values):,} values; at least {least:,} are needed, {self._before:,} to "
                f"look back over and {self._ahead:,} to forecast."
            )
        return len(self._values)

    def forecast(
        self, models: Mapping[str, Model], limit: int | None, seed: int, watch: Callable[[str, int, int], None]
    ) -> Rolled:
        """Forecasts from all origins, or from `limit` of them drawn with the seed, by every variant."""
        series = np.array(self._values, np.float64)
        count = len(series) - self._before - self._ahead + 1
        chosen = sample(count, limit, seed)
        origins = [self._before + place for place in range(count) if chosen is None or place in chosen]
        if len(origins) * self._ahead > MAX_CASES:
            raise EvalError(
                f"{len(origins):,} origins with {self._ahead:,} values each are more than {MAX_CASES:,} to forecast. "
                f"Draw fewer: --limit {MAX_CASES // self._ahead}"
            )
        parts: dict[str, dict[str, list[Any]]] = {name: {"answer": [], "lower": [], "upper": []} for name in models}
        done = 0
        for chunk in chunks(origins):
            windows = [series[origin - self._before : origin] for origin in chunk]
            for name, model in models.items():
                call: Any = model
                found = call(windows)
                for column, values in (("answer", found.mean), ("lower", found.lower), ("upper", found.upper)):
                    parts[name][column].append(values)
            done += len(chunk)
            watch("forecasting", done, len(origins))
        places = (np.array(origins)[:, None] + np.arange(self._ahead)).ravel()
        return Rolled(
            tuple(self._lines[place] for place in places.tolist()),
            tuple(series[places].tolist()),
            {
                name: {column: tuple(np.concatenate(values).ravel().tolist()) for column, values in columns.items()}
                for name, columns in parts.items()
            },
        )

    def _chosen(self, row: Row) -> str:
        for name in (self._given,) if self._given is not None else (self._usual, ROLE):
            if name in row.cells:
                return name
        if self._given is None and len(row.cells) == 1:
            return next(iter(row.cells))
        met = ", ".join(list(row.cells)[:12]) or "none"
        raise EvalError(
            f"{self.path} has no column {self._given or self._usual!r}; it has {met[:300]}. "
            f"Say which holds the series: --column {ROLE}=NAME"
        )
