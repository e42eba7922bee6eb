"""A univariate series to a forecasting bundle: lag features, a regressor of scikit-learn, intervals by what it missed.

The series is cut in three, the oldest first: the regressor is fitted on the first part, its errors on the second make
the intervals (split conformal prediction, each side and each step ahead by itself), and the third tells the coverage
that these reach on values that had no part in either.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import ExportError, InputError
from sanderling.golden import GoldenSample
from sanderling.manifest import Preprocessing
from sanderling.preprocess.series import SeriesEncoder
from sanderling.schema.answers import ForecastOutput, IntervalSpec
from sanderling.schema.preprocessing import SeriesPreprocessing
from sanderling_export.progress import Progress, silent
from sanderling_export.tabular.bundles import Sealing, seal
from sanderling_export.tabular.columns import Column
from sanderling_export.tabular.comparison import MAX_RELATIVE, relative, run
from sanderling_export.tabular.nodes import OUTPUT
from sanderling_export.tabular.walk import Walk

_FITTED, _CALIBRATED = 0.6, 0.8
_CHECKED, _GOLDEN = 400, 4


@dataclass(frozen=True, slots=True)
class Windows:
    """Lags (n, lags) and the values that followed (n, horizon), both less the level, with the place of the last."""

    lags: NDArray[np.float64]
    ahead: NDArray[np.float64]
    ends: NDArray[np.int64]


def export_forecaster(
    regressor: Any,
    output: str | os.PathLike[str],
    series: Sequence[float | None] | NDArray[np.float64],
    *,
    lags: Sequence[int],
    horizon: int,
    levels: Sequence[float] = (0.9, 0.5),
    center: Literal["none", "last"] = "last",
    missing: Literal["error", "interpolate"] = "interpolate",
    name: str = "value",
    unit: str = "",
    step: str = "",
    origin: str | None = None,
    license: str = "unknown",  # noqa: A002 - the word that recipes use
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Fit `regressor` (of scikit-learn, of several targets) on lags of `series`, and export it as a forecaster.

    `lags` are how many values back the model looks, 1 being the last; `horizon` how many it tells ahead; `levels` of
    the intervals, the first being the usual one. With `center` "last" it learns differences from the last value, which
    carries a trend on. What is missing (None, NaN) is filled on a straight line, or with `missing` "error" refused.
    The bundle's notes tell the mean absolute error on the last fifth of the series, beside that of repeating the
    last value.

    Raises ExportError: too short a series, a level outside of 0 to 1, a regressor that cannot be converted exactly.
    """
    tell = progress or silent
    if not levels or not all(0 < level < 1 for level in levels) or horizon < 1:
        raise ExportError(
            f"levels are {levels!r} and horizon {horizon!r}; levels between 0 and 1, and steps, are needed."
        )
    settings = SeriesPreprocessing(tuple(lags), center, missing, name, unit, step)
    tell("cut the series")
    given = [None if value is None or value != value else float(value) for value in series]
    values = _filled(given, missing)
    windows = _windows(values, settings, horizon)
    count = len(values)
    fitted = windows.ends + horizon <= count * _FITTED
    calibrated = (windows.ends > count * _FITTED) & (windows.ends + horizon <= count * _CALIBRATED)
    tested = windows.ends > count * _CALIBRATED
    if min(fitted.sum(), calibrated.sum(), tested.sum()) < 20:
        raise ExportError(
            f"The series has {count:,} values; {max(lags)} lags and {horizon} values ahead leave fewer than 20 windows "
            "for fitting, for the intervals, or for testing. Give a longer series, or a shorter look."
        )
    tell(f"fit on {int(fitted.sum()):,} windows")
    regressor.fit(windows.lags[fitted], windows.ahead[fitted])
    intervals = _intervals(regressor, windows, calibrated, tested, levels)
    told = _errors(regressor, windows, tested, values, unit)
    tell("convert")
    columns = [Column(f"lag-{lag}", "float64") for lag in lags]
    walk = Walk(columns, named=False)
    checked = windows.ends[-_CHECKED:]
    items = [tuple(given[: end + 1][-max(lags) - 8 :]) for end in checked]
    # A window that begins in a gap cannot be told from a shorter series; the others are compared.
    readable = [place for place, item in enumerate(items) if item[0] is not None and item[-1] is not None]
    items = [items[place] for place in readable]
    encoder = SeriesEncoder(settings)
    inputs = np.stack([encoder.encode(item, number)[0] for number, item in enumerate(items, 1)])
    answer = walk.predictor(regressor, inputs)
    expected = np.asarray(regressor.predict(inputs), np.float64).reshape(len(inputs), -1)
    graph = walk.nodes.model(answer, (len(lags), horizon))
    worst = float(relative(run(graph, inputs)[0], expected).max())
    if worst > MAX_RELATIVE:
        raise ExportError(f"{type(regressor).__name__} cannot be converted exactly: answers differ by {worst:.2g}.")
    gaps = sum(value is None for value in given)
    # Those with a gap, if there are any, and the last ones.
    chosen = sorted(range(len(items)), key=lambda place: (None not in items[place], -place))[:_GOLDEN]
    return seal(
        Path(output).absolute(),
        graph,
        Sealing(
            task="time-series-forecasting",
            preprocessing=Preprocessing(series=settings),
            head=ForecastOutput(OUTPUT, horizon, intervals),
            widths=(len(lags), horizon),
            samples=tuple(GoldenSample(f"series-{n}", series=items[place]) for n, place in enumerate(chosen, 1)),
            inputs=inputs[chosen],
            outputs=expected[chosen],
            items=items,
            expected=expected,
            origin=origin or f"scikit-learn {type(regressor).__name__}",
            license=license,
            notes=(
                f"Fitted on the first {int(count * _FITTED):,} of {count:,} values, of which {gaps:,} were missing.",
                told,
                *notes,
            ),
        ),
        tell,
    )


def _filled(given: Sequence[float | None], missing: Literal["error", "interpolate"]) -> NDArray[np.float64]:
    every = SeriesPreprocessing(tuple(range(len(given), 0, -1)), "none", missing)
    try:
        values, _ = SeriesEncoder(every).encode(given, 1)
    except InputError as error:
        raise ExportError(f"The series cannot be used. {error}") from error
    return values


def _windows(values: NDArray[np.float64], settings: SeriesPreprocessing, horizon: int) -> Windows:
    reach = max(settings.lags)
    ends = np.arange(reach - 1, len(values) - horizon)
    if not len(ends):
        raise ExportError(f"The series has {len(values):,} values; {reach} lags and {horizon} ahead need more.")
    lags = values[ends[:, None] + 1 - np.array(settings.lags)]
    ahead = values[ends[:, None] + np.arange(1, horizon + 1)]
    level = values[ends][:, None] if settings.center == "last" else np.zeros((len(ends), 1))
    return Windows(lags - level, ahead - level, ends)


def _intervals(
    regressor: Any, windows: Windows, calibrated: Any, tested: Any, levels: Sequence[float]
) -> tuple[IntervalSpec, ...]:
    errors = np.sort(windows.ahead[calibrated] - _predicted(regressor, windows, calibrated), axis=0)
    later = windows.ahead[tested] - _predicted(regressor, windows, tested)
    count = len(errors)
    found = []
    for level in levels:
        # The ranks of split conformal prediction, as many errors beyond each end, one more for the value to come.
        below = int(np.floor((count + 1) * (1 - level) / 2)) - 1
        if below < 0:
            raise ExportError(f"{count} windows for the intervals are too few for the level {level}; ask for less.")
        lower, upper = errors[below], errors[count - 1 - below]
        inside = (later >= lower) & (later <= upper)
        found.append(
            IntervalSpec(level, tuple(lower.tolist()), tuple(upper.tolist()), float(inside.mean()), int(inside.size))
        )
    return tuple(found)


def _predicted(regressor: Any, windows: Windows, chosen: Any) -> NDArray[np.float64]:
    return np.asarray(regressor.predict(windows.lags[chosen]), np.float64).reshape(int(chosen.sum()), -1)


def _errors(regressor: Any, windows: Windows, tested: Any, values: NDArray[np.float64], unit: str) -> str:
    """How far the model, and repeating the last value, were off on the part of the series that was kept back."""
    ends = windows.ends[tested]
    ahead = values[ends[:, None] + np.arange(1, windows.ahead.shape[1] + 1)]
    own = float(np.abs(windows.ahead[tested] - _predicted(regressor, windows, tested)).mean())
    naive = float(np.abs(ahead - values[ends][:, None]).mean())
    return (
        f"On the last fifth of the series its mean absolute error is {own:.4g} {unit}".rstrip()
        + f"; repeating the last value has {naive:.4g}."
    )
