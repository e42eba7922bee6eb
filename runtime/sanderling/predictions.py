"""What models of numbers answer: regressions of rows, forecasts of series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.results import Batch, InputReport, Timing


class Prediction(Struct, frozen=True, eq=False):
    """One row's regression. `values` are in the order of `targets` and in their `units` ("" where none is known)."""

    values: tuple[float, ...]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    report: InputReport
    variant: str
    timing: Timing

    @property
    def value(self) -> float:
        """The first target's value: the only one of most models."""
        return self.values[0]

    def __repr__(self) -> str:
        named = zip(self.targets, self.values, self.units, strict=True)
        return f"Prediction({', '.join(f'{name} {value:g} {unit}'.rstrip() for name, value, unit in named)})"


class Predictions(Struct, frozen=True, eq=False):
    """Regressions of a batch, in input order. `values` has the shape (n, targets), float64.

    Its length, its items (Prediction) and its slices are those of a sequence.
    """

    values: NDArray[np.float64]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    reports: tuple[InputReport, ...]
    variant: str
    timing: Timing

    def __repr__(self) -> str:
        return f"Predictions({len(self)} rows, targets {', '.join(self.targets)})"

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        values = tuple(self.values[index].tolist())
        return Prediction(values, self.targets, self.units, self.reports[index], self.variant, self.timing)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))


class Forecast(Struct, frozen=True, eq=False):
    """The next `horizon` values of a series. `mean`, `lower` and `upper` have the shape (horizon,), float64.

    Of the values to come, a share of about `level` is expected from `lower` to `upper`: that many errors of the
    model's were no larger on a held-out part of the series it was made from.
    """

    horizon: int
    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    level: float
    unit: str
    step: str
    report: InputReport
    variant: str
    timing: Timing

    def __repr__(self) -> str:
        first = f"{self.mean[0]:g} ({self.lower[0]:g} to {self.upper[0]:g} at {self.level:.0%})"
        return f"Forecast({self.horizon} {self.step or 'value'}s ahead, the first {first} {self.unit}".rstrip() + ")"


class Forecasts(Batch[Forecast], frozen=True, eq=False):
    """Forecasts of several series, in input order; its length, items (Forecast) and slices are those of a sequence.

    `mean`, `lower` and `upper` have the shape (n, horizon), float64.
    """

    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    timing: Timing

    def __repr__(self) -> str:
        return f"Forecasts({len(self.items)} series, {self.mean.shape[1]} values ahead)"
