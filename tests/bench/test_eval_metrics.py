"""Metrics are scikit-learn's and SciPy's; intervals are those of draws anyone can repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

metrics_of = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

from sanderling.errors import EvalError  # noqa: E402
from sanderling_bench import bootstrap  # noqa: E402
from sanderling_bench.metrics import METRICS, RANKING, Metric, metrics_for  # noqa: E402
from sanderling_bench.retrieval import rank_one  # noqa: E402

BY_HAND: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": lambda truth, answer: metrics_of.accuracy_score(truth, answer),
    "f1-macro": lambda truth, answer: metrics_of.f1_score(truth, answer, average="macro", zero_division=0),
    "spearman": lambda truth, answer: stats.spearmanr(truth, answer).statistic,
    "pearson": lambda truth, answer: stats.pearsonr(truth, answer).statistic,
    "rmse": lambda truth, answer: float(np.sqrt(metrics_of.mean_squared_error(truth, answer))),
    "mae": lambda truth, answer: metrics_of.mean_absolute_error(truth, answer),
}
METRIC = {metric.name: metric for metric in METRICS}


def cases(truth: Any, answer: Any) -> dict[str, NDArray[np.float64]]:
    return {"truth": np.asarray(truth, np.float64), "answer": np.asarray(answer, np.float64)}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_metric_is_what_its_library_says(name: str) -> None:
    random = np.random.default_rng(7)
    if METRIC[name].kind == "classification":
        truth, answer = random.integers(0, 5, 300), random.integers(0, 6, 300)
    else:
        truth = random.normal(size=300).round(1)  # with ties
        answer = truth + random.normal(size=300)
    assert METRIC[name].value(cases(truth, answer)) == pytest.approx(BY_HAND[name](truth, answer), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_counting_pairs_changes_no_figure(pairs: list[tuple[int, int]]) -> None:
    truth, answer = zip(*pairs, strict=True)
    for name in ("accuracy", "f1-macro"):
        assert METRIC[name].value(cases(truth, answer)) == pytest.approx(BY_HAND[name](truth, answer), abs=1e-12)


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_a_correlation_with_what_is_constant_is_not_defined(name: str) -> None:
    for truth, answer in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1], [1])):
        assert np.isnan(METRIC[name].value(cases(truth, answer)))


def test_ranking_by_hand() -> None:
    # By falling similarity: documents 3, 0, 4, 1, 2.
    similar = np.array([0.8, 0.2, 0.1, 0.9, 0.5], np.float32)
    measured = rank_one(similar, {0: 2.0, 1: 1.0})
    assert tuple(measured) == RANKING
    assert measured["recall@1"] == 0
    assert measured["recall@5"] == measured["recall@10"] == 1
    assert measured["mrr"] == 0.5
    best = 2 / np.log2(2) + 1 / np.log2(3)
    assert measured["ndcg@10"] == pytest.approx((2 / np.log2(3) + 1 / np.log2(5)) / best)


def test_of_documents_equally_similar_the_earlier_stands_higher() -> None:
    similar = np.zeros(20, np.float32)
    assert rank_one(similar, {0: 1.0})["mrr"] == 1
    measured = rank_one(similar, {7: 1.0})
    assert measured["mrr"] == 1 / 8
    assert measured["recall@5"] == 0
    assert measured["recall@10"] == 1


@given(st.integers(0, 2**32 - 1))
def test_ranking_is_that_of_a_sort(seed: int) -> None:
    random = np.random.default_rng(seed)
    similar = random.normal(size=30).round(1).astype(np.float32)
    relevant = random.choice(30, size=int(random.integers(1, 6)), replace=False).tolist()
    order = np.argsort(-similar, kind="stable").tolist()
    ranks = sorted(order.index(document) + 1 for document in relevant)
    measured = rank_one(similar, dict.fromkeys(relevant, 1.0))
    assert measured["mrr"] == 1 / ranks[0]
    for depth in (1, 5, 10):
        assert measured[f"recall@{depth}"] == sum(rank <= depth for rank in ranks) / len(ranks)


def test_the_registry_is_consistent() -> None:
    assert len({(metric.kind, metric.name) for metric in METRICS}) == len(METRICS)
    others = {"retrieval": lambda name: (name,), "forecast": lambda name: ("truth", "lower", "upper")}
    for metric in METRICS:
        if metric.kind in ("captions", "answers", "continuation"):
            assert metric.higher_is_better != (metric.name in ("perplexity", "self-bleu"))
            continue
        if metric.kind == "transcripts":
            assert not metric.higher_is_better
            assert len(metric.needs) == 2
            continue
        an_error = metric.name in ("rmse", "mae")
        needs = others.get(metric.kind)
        assert metric.needs == (("truth", "answer") if needs is None or an_error else needs(metric.name))
        assert metric.higher_is_better != an_error
    assert [metric.name for metric in metrics_for("retrieval")] == list(RANKING)
    assert [metric.name for metric in metrics_for("pairs", ["pearson", "pearson"])] == ["pearson"]


def test_a_metric_that_does_not_fit_is_refused() -> None:
    with pytest.raises(EvalError, match="'bleau' is not known; it takes accuracy, f1-macro"):
        metrics_for("classification", ["bleau"])
    with pytest.raises(EvalError, match="'spearman' goes with pairs, this data is for classification"):
        metrics_for("classification", ["spearman"])


def test_intervals_are_those_of_the_same_draws_by_hand() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(size=80)
    variants = {
        "fp32": cases(truth, truth + random.normal(size=80)),
        "int8": cases(truth, truth + random.normal(size=80)),
    }
    found = bootstrap.scores(metrics_for("pairs"), variants, "fp32", seed=11, resamples=50)

    generator = np.random.default_rng(11)
    draws = [generator.integers(0, 80, size=80) for _ in range(50)]
    for name in ("spearman", "pearson"):
        values = {
            variant: np.array([BY_HAND[name](of["truth"][draw], of["answer"][draw]) for draw in draws])
            for variant, of in variants.items()
        }
        for variant, of in variants.items():
            score = found[variant][name].value
            assert score is not None
            assert score.value == pytest.approx(BY_HAND[name](of["truth"], of["answer"]))
            assert (score.low, score.high) == pytest.approx(tuple(np.quantile(values[variant], (0.025, 0.975))))
            assert score.resamples == 50
        assert found["fp32"][name].difference is None
        difference = found["int8"][name].difference
        assert difference is not None
        paired = values["int8"] - values["fp32"]
        assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(paired, (0.025, 0.975))))
        own = [found[variant][name].value for variant in ("int8", "fp32")]
        assert own[0] is not None
        assert own[1] is not None
        assert difference.value == pytest.approx(own[0].value - own[1].value)


def test_a_seed_gives_the_same_intervals_again_and_another_seed_others() -> None:
    of = {"fp32": cases(np.arange(40) % 3, np.arange(40) % 4 % 3)}
    first, again, other = (
        bootstrap.scores(metrics_for("classification"), of, "fp32", seed=seed, resamples=40) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_equal_answers_differ_by_nothing() -> None:
    of = cases(np.arange(30) % 3, np.arange(30) % 5 % 3)
    found = bootstrap.scores(metrics_for("classification"), {"fp32": of, "int8": of}, "fp32", seed=1, resamples=30)
    for score in found["int8"].values():
        assert score.difference is not None
        assert (score.difference.value, score.difference.low, score.difference.high) == (0, 0, 0)


def test_draws_in_which_a_metric_is_not_defined_are_left_out() -> None:
    found = bootstrap.scores(metrics_for("pairs"), {"fp32": cases([1, 2], [1, 2])}, "fp32", seed=1, resamples=100)
    score = found["fp32"]["pearson"].value
    assert score is not None
    # Half of all draws of two cases have one of them twice.
    assert 20 < score.resamples < 80
    assert score.low == pytest.approx(1)
    constant = bootstrap.scores(metrics_for("pairs"), {"fp32": cases([1, 1], [1, 2])}, "fp32", seed=1, resamples=10)
    assert constant["fp32"]["spearman"].value is None


def test_an_interval_covers_as_often_as_it_says() -> None:
    """The accuracy of 200 cases that are right with probability 0.7: its 95% interval has 0.7 in it, mostly."""
    random = np.random.default_rng(5)
    plain = Metric("hits", "classification", ("answer",), True, lambda of: float(of["answer"].mean()))
    held = 0
    for seed in range(200):
        of = {"fp32": {"answer": (random.random(200) < 0.7).astype(np.float64)}}
        score = bootstrap.scores([plain], of, "fp32", seed=seed, resamples=200)["fp32"]["hits"].value
        assert score is not None
        assert score.low is not None
        assert score.high is not None
        held += score.low <= 0.7 <= score.high
    # Binomial(200, 0.95) lies below 178 with a probability of 0.0003; a percentile interval is a little narrow.
    assert held >= 178
