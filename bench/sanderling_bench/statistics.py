"""Percentiles that the sample count supports, and ratios of medians with their spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import BenchError

QUANTILES = (0.50, 0.90, 0.99)
CONFIDENCE = 0.99
RESAMPLES = 10_000
SEED = 20_240_229


@cache
def samples_needed(quantile: float) -> int:
    """The fewest samples that support a percentile: 11 for p50, 64 for p90, 662 for p99.

    It is the smallest n for which at most one of n samples lies above the true quantile q with a probability of
    at most 1 - `CONFIDENCE`: q^n + n (1 - q) q^(n-1) <= 0.01. With fewer, the tail may well not have been seen.
    Source: the early-stopping rule of MLPerf Inference (its rules, appendix "Early Stopping Criterion"), which asks
    for the same binomial bound at 99% confidence and zero tolerance; with one sample over the line it needs
    64 queries at the 90th percentile and 662 at the 99th.
    """
    if not 0.0 < quantile < 1.0:
        raise BenchError(f"A quantile lies between 0 and 1, exclusive; met {quantile}.")
    n = 1
    while quantile**n + n * (1.0 - quantile) * quantile ** (n - 1) > 1.0 - CONFIDENCE:
        n += 1
    return n


def percentile(samples: Sequence[float], quantile: float) -> float | None:
    """The nearest-rank percentile: the ceil(q n)-th smallest of n samples; None where n does not support it.

    No interpolation: the figure is a time that was really seen. See `samples_needed`.
    """
    count = len(samples)
    if count < samples_needed(quantile):
        return None
    # The slack keeps a product like 0.9 * 70 = 63.00000000000001 from becoming rank 64.
    rank = math.ceil(quantile * count - 1e-9)
    return sorted(samples)[rank - 1]


def median(samples: Sequence[float]) -> float:
    """The median of at least one sample: the mean of the middle two where their count is even."""
    if not samples:
        raise BenchError("The median of no samples was asked for; measure at least one.")
    return float(np.median(np.asarray(samples, dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two medians with the ends of its 95% bootstrap interval, over `pairs` pairs of samples."""

    value: float
    low: float
    high: float
    pairs: int


def ratio_of_medians(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = SEED, resamples: int = RESAMPLES
) -> Ratio:
    """median(numerator) / median(denominator), where the i-th of both were measured in the same round.

    The interval is the percentile bootstrap (Efron 1979): pairs are drawn with replacement, so that what slowed
    a whole round slows both sides of it; its ends are the 2.5th and 97.5th percentile of the resampled ratios.
    """
    if len(numerator) != len(denominator) or not numerator:
        raise BenchError(
            f"A ratio needs as many samples above as below, and at least one; met {len(numerator)} and "
            f"{len(denominator)}. Measure both in the same rounds."
        )
    above = _positive(numerator)
    below = _positive(denominator)
    draws = np.random.default_rng(seed).integers(0, len(above), size=(resamples, len(above)))
    ratios = np.median(above[draws], axis=1) / np.median(below[draws], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Ratio(median(numerator) / median(denominator), float(low), float(high), len(above))


def _positive(samples: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    if not (np.isfinite(values).all() and (values > 0.0).all()):
        raise BenchError(f"A ratio of medians takes finite samples above 0; met {values.min()} to {values.max()}.")
    return values
