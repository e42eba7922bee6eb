"""Percentiles and ratios against their definitions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.errors import BenchError
from sanderling_bench.statistics import (
    CONFIDENCE,
    QUANTILES,
    median,
    percentile,
    ratio_of_medians,
    samples_needed,
)

times = st.floats(min_value=1e-6, max_value=1e3)


def chance_of_at_most_one_above(quantile: Fraction, count: int) -> Fraction:
    return quantile**count + count * (1 - quantile) * quantile ** (count - 1)


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 11), (0.9, 64), (0.99, 662)])
def test_the_counts_are_the_first_that_reach_the_confidence(quantile: float, needed: int) -> None:
    assert samples_needed(quantile) == needed
    exact = Fraction(str(quantile))
    assert chance_of_at_most_one_above(exact, needed) <= 1 - Fraction(str(CONFIDENCE))
    assert chance_of_at_most_one_above(exact, needed - 1) > 1 - Fraction(str(CONFIDENCE))


@pytest.mark.parametrize("quantile", QUANTILES)
def test_one_sample_too_few_gives_no_percentile(quantile: float) -> None:
    needed = samples_needed(quantile)
    samples = [float(n) for n in range(needed)]
    assert percentile(samples[:-1], quantile) is None
    assert percentile(samples, quantile) is not None


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, 2.0])
def test_a_quantile_outside_its_range_is_refused(quantile: float) -> None:
    with pytest.raises(BenchError, match="between 0 and 1"):
        samples_needed(quantile)


@given(st.lists(times, min_size=64, max_size=400), st.sampled_from([0.5, 0.9]))
def test_percentiles_are_numpys_nearest_rank(samples: list[float], quantile: float) -> None:
    found = percentile(samples, quantile)
    assert found in samples
    assert found == np.quantile(samples, quantile, method="inverted_cdf")


@given(st.integers(min_value=64, max_value=3000))
def test_the_rank_does_not_slip_on_rounding(count: int) -> None:
    rank = -(-9 * count // 10)
    assert percentile([float(n) for n in range(1, count + 1)], 0.9) == float(rank)


@given(st.lists(times, min_size=1, max_size=50))
def test_the_median_is_numpys(samples: list[float]) -> None:
    assert median(samples) == np.median(samples)


def test_no_samples_have_no_median() -> None:
    with pytest.raises(BenchError, match="at least one"):
        median([])


@settings(max_examples=30)
@given(st.lists(st.tuples(times, times), min_size=1, max_size=30))
def test_a_ratio_lies_among_the_ratios_it_can_be(pairs: list[tuple[float, float]]) -> None:
    above, below = (list(side) for side in zip(*pairs, strict=True))
    ratio = ratio_of_medians(above, below, resamples=500)
    assert ratio.value == median(above) / median(below)
    assert ratio.pairs == len(pairs)
    assert min(above) / max(below) <= ratio.low <= ratio.high <= max(above) / min(below)


def test_a_constant_ratio_has_no_spread_although_the_rounds_have() -> None:
    slow = [3.0, 6.0, 12.0, 9.0, 30.0]
    ratio = ratio_of_medians(slow, [s / 3 for s in slow])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3.0))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        above = 2.0 * rng.lognormal(0.0, 0.2, 25)
        below = rng.lognormal(0.0, 0.2, 25)
        ratio = ratio_of_medians(above.tolist(), below.tolist(), seed=seed, resamples=400)
        covered += ratio.low <= 2.0 <= ratio.high
    assert covered >= 180


def test_the_same_seed_gives_the_same_interval() -> None:
    above, below = [1.0, 2.0, 3.5, 4.0], [1.0, 1.5, 2.0, 2.5]
    assert ratio_of_medians(above, below, seed=3) == ratio_of_medians(above, below, seed=3)
    assert ratio_of_medians(above, below, seed=3) != ratio_of_medians(above, [1.0, 1.5, 2.0, 9.5], seed=3)


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [1.0, 2.0])])
def test_unpaired_samples_are_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(BenchError, match="same rounds"):
        ratio_of_medians(above, below)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(BenchError, match="finite samples above 0"):
        ratio_of_medians([1.0, wrong], [1.0, 1.0])
