"""What a metric says with how far chance could move it: percentile intervals over cases drawn anew, seeded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sanderling_bench.evaluation_record import Interval, Score
from sanderling_bench.metrics import Cases, Metric

_ENDS = (0.025, 0.975)


def scores(
    metrics: Sequence[Metric],
    variants: Mapping[str, Cases],
    reference: str,
    *,
    seed: int,
    resamples: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Score]]:
    """The score of each variant in each metric, with 95% intervals: `{variant: {metric: score}}`.

    The percentile bootstrap (Efron 1979): `resamples` times as many cases as there are, drawn with replacement by
    `numpy.random.default_rng(seed)`; an interval ends at the 2.5th and the 97.5th percentile. All variants are
    computed on the same draws, so that the difference to the variant `reference` is a paired one: cases that are
    hard for both cancel. Draws in which a metric is not defined (a correlation of what is all the same) are left out.
    """
    count = len(next(iter(next(iter(variants.values())).values())))
    drawn = np.empty((len(metrics), len(variants), resamples))
    generator = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of draws that are nearly constant; the table shows what comes of them
        points = {name: [metric.value(cases) for metric in metrics] for name, cases in variants.items()}
        for draw in range(resamples):
            chosen = generator.integers(0, count, size=count)
            for v, cases in enumerate(variants.values()):
                picked = {column: values[chosen] for column, values in cases.items()}
                for m, metric in enumerate(metrics):
                    drawn[m, v, draw] = metric.value(picked)
            if progress is not None:
                progress(draw + 1)
    names = list(variants)
    found: dict[str, dict[str, Score]] = {}
    for v, name in enumerate(names):
        found[name] = {}
        for m, metric in enumerate(metrics):
            difference = None
            if reference in variants and name != reference:
                base = drawn[m, names.index(reference)]
                difference = _interval(points[name][m] - points[reference][m], drawn[m, v] - base)
            value = _interval(points[name][m], drawn[m, v])
            found[name][metric.name] = Score(metric.higher_is_better, value, difference)
    return found


def _interval(point: float, draws: NDArray[np.float64]) -> Interval | None:
    if not math.isfinite(point):
        return None
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return Interval(point, None, None, 0)
    low, high = np.quantile(defined, _ENDS)
    return Interval(point, float(low), float(high), len(defined))
