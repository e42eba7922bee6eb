"""`time-series-forecasting`: a univariate series to its next values, with an interval around each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.errors import GraphError, InputError
from sanderling.fronts import Front
from sanderling.model import Model, in_thread
from sanderling.plan import Plan
from sanderling.predictions import Forecast, Forecasts
from sanderling.results import SeriesReport
from sanderling.schema.answers import ForecastOutput, IntervalSpec
from sanderling.schema.preprocessing import SeriesPreprocessing
from sanderling.session import Arrays


class Forecaster(Model):
    """Continues a series."""

    _dtype = np.float64

    def __init__(self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, head: ForecastOutput) -> None:
        super().__init__(bundle, plan, front, engines, head.horizon)
        self._head = head
        settings = bundle.manifest.preprocessing.series
        assert settings is not None  # decode() refuses the task without it
        self._settings: SeriesPreprocessing = settings

    @property
    def horizon(self) -> int:
        """How many values ahead the model can tell."""
        return self._head.horizon

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of the intervals that the bundle holds."""
        return tuple(interval.level for interval in self._head.intervals)

    @property
    def lookback(self) -> int:
        """How many values a series must have."""
        return max(self._settings.lags)

    def __call__(
        self,
        inputs: Any,
        *,
        horizon: int | None = None,
        level: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Forecast | Forecasts:
        """Continue one series, or each of several, by `horizon` values (default: as many as the model can tell).

        A series is a list of numbers or a one-dimensional array, the oldest value first, None or NaN where one is
        missing, or the path of a CSV file; a list of series, or an array (n, values), gives Forecasts. `level` is one
        of the bundle's (default: the first). Raises SeriesError, an InputError, for what cannot be continued.
        """
        steps, interval = self._steps(horizon), self._interval(level)
        items, single = self.front.items(inputs)
        answers = self.answer(items, cancellation=cancellation)
        levels = np.array([r.level for r in answers.reports if isinstance(r, SeriesReport)], np.float64)[:, None]
        mean = answers.rows[:, :steps] + levels
        lower = mean + np.array(interval.lower[:steps])
        upper = mean + np.array(interval.upper[:steps])
        found = tuple(
            Forecast(
                horizon=steps,
                mean=mean[index],
                lower=lower[index],
                upper=upper[index],
                level=interval.level,
                unit=self._settings.unit,
                step=self._settings.step,
                report=report,
                variant=self.variant,
                timing=answers.timing,
            )
            for index, report in enumerate(answers.reports)
        )
        return found[0] if single else Forecasts(found, mean, lower, upper, answers.timing)

    async def acall(
        self, inputs: Any, *, horizon: int | None = None, level: float | None = None
    ) -> Forecast | Forecasts:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(inputs, horizon=horizon, level=level, cancellation=cancellation)
        )

    def _steps(self, horizon: int | None) -> int:
        if horizon is None:
            return self.horizon
        return whole_number("horizon", horizon, self.horizon)

    def _interval(self, level: float | None) -> IntervalSpec:
        if level is None:
            return self._head.intervals[0]
        for interval in self._head.intervals:
            if interval.level == level:
                return interval
        raise InputError(
            f"level is {level!r}; this bundle holds intervals of the levels {', '.join(map(str, self.levels))}."
        )

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[Any]:
        del feeds
        rows = outputs[self._head.output]
        if rows.ndim != 2 or rows.shape[1] != self._head.horizon:
            raise GraphError(
                f"The graph's output {self._head.output!r} has the shape {rows.shape}; "
                f"the manifest says a horizon of {self._head.horizon}."
            )
        return rows
