"""The metrics that `eval` knows, as data. A later task brings its metrics as further entries.

A metric is computed from columns of cases: arrays of one length, one entry a case, so that any metric can be computed
anew from cases drawn at random. The numbers are scikit-learn's, SciPy's and sacrebleu's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import EvalError
from sanderling_bench import wording

Kind = Literal[
    "classification", "pairs", "retrieval", "regression", "forecast", "captions", "answers", "continuation",
    "transcripts",
]  # fmt: skip
Cases = Mapping[str, NDArray[Any]]

# How deep a ranking is looked at.
RECALL_DEPTHS = (1, 5, 10)
NDCG_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Metric:
    """`needs` names the columns of the cases that `value` reads; `value` gives NaN where it is not defined."""

    name: str
    kind: Kind
    needs: tuple[str, ...]
    higher_is_better: bool
    value: Callable[[Cases], float]


def metrics_for(kind: Kind, asked: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The metrics of a kind of data, or those of them that are asked for. Raises EvalError: no such metric."""
    known = {metric.name: metric for metric in METRICS if metric.kind == kind}
    for name in asked:
        if name not in known:
            other = next((m.kind for m in METRICS if m.name == name), None)
            why = f"goes with {other}, this data is for {kind}" if other else "is not known"
            raise EvalError(f"The metric {name!r} {why}; it takes {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(asked)) or tuple(known.values())


def _accuracy(cases: Cases) -> float:
    from sklearn.metrics import accuracy_score

    truth, answer, counts = _counted(cases)
    return float(accuracy_score(truth, answer, sample_weight=counts))


def _f1_macro(cases: Cases) -> float:
    from sklearn.metrics import f1_score

    truth, answer, counts = _counted(cases)
    return float(f1_score(truth, answer, sample_weight=counts, average="macro", zero_division=0.0))


def _counted(cases: Cases) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each pair of truth and answer that occurs, with its count: the same figures, however many cases there are."""
    truth, answer = cases["truth"].astype(np.int64), cases["answer"].astype(np.int64)
    width = int(max(truth.max(), answer.max())) + 1
    codes, counts = np.unique(truth * width + answer, return_counts=True)
    return codes // width, codes % width, counts


def _spearman(cases: Cases) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(cases["truth"], cases["answer"]).statistic) if _correlates(cases) else float("nan")


def _pearson(cases: Cases) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(cases["truth"], cases["answer"]).statistic) if _correlates(cases) else float("nan")


def _correlates(cases: Cases) -> bool:
    """Whether both sides vary: a correlation with what is constant is not defined."""
    return all(len(cases[name]) > 1 and np.ptp(cases[name]) > 0 for name in ("truth", "answer"))


def _rmse(cases: Cases) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(cases["truth"], cases["answer"]))


def _mae(cases: Cases) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(cases["truth"], cases["answer"]))


def _coverage(cases: Cases) -> float:
    return float(((cases["lower"] <= cases["truth"]) & (cases["truth"] <= cases["upper"])).mean())


def _mean_of(column: str) -> Callable[[Cases], float]:
    return lambda cases: float(cases[column].mean())


def _bleu(cases: Cases) -> float:
    return wording.bleu([float(cases[name].sum()) for name in wording.bleu_columns()])


def _perplexity(cases: Cases) -> float:
    tokens = float(cases["tokens"].sum())
    return float(np.exp(cases["nats"].sum() / tokens)) if tokens else float("nan")


def _share_of(part: str, whole: str) -> Callable[[Cases], float]:
    def value(cases: Cases) -> float:
        everything = float(cases[whole].sum())
        return float(cases[part].sum()) / everything if everything else float("nan")

    return value


_BOTH = ("truth", "answer")
# What ranking measures of one query; the metric is the mean over the queries.
RANKING = (*(f"recall@{depth}" for depth in RECALL_DEPTHS), "mrr", f"ndcg@{NDCG_DEPTH}")
# What is measured of sounds: a sum over them, and the sum that it is a share of.
HEARD = {
    "wer": ("word-errors", "words"),
    "cer": ("character-errors", "characters"),
    "real-time-factor": ("seconds", "lasts"),
}

METRICS: tuple[Metric, ...] = (
    Metric("accuracy", "classification", _BOTH, True, _accuracy),
    Metric("f1-macro", "classification", _BOTH, True, _f1_macro),
    Metric("spearman", "pairs", _BOTH, True, _spearman),
    Metric("pearson", "pairs", _BOTH, True, _pearson),
    *(Metric(name, "retrieval", (name,), True, _mean_of(name)) for name in RANKING),
    Metric("rmse", "regression", _BOTH, False, _rmse),
    Metric("mae", "regression", _BOTH, False, _mae),
    Metric("rmse", "forecast", _BOTH, False, _rmse),
    Metric("mae", "forecast", _BOTH, False, _mae),
    Metric("coverage", "forecast", ("truth", "lower", "upper"), True, _coverage),
    Metric("exact-match", "captions", ("exact-match",), True, _mean_of("exact-match")),
    Metric("bleu", "captions", wording.bleu_columns(), True, _bleu),
    Metric("vqa-accuracy", "answers", ("vqa-accuracy",), True, _mean_of("vqa-accuracy")),
    Metric("exact-match", "answers", ("exact-match",), True, _mean_of("exact-match")),
    Metric("perplexity", "continuation", ("nats", "tokens"), False, _perplexity),
    *(
        Metric(f"distinct-{n}", "continuation", names, True, _share_of(*names))
        for n, names in ((n, (f"distinct-{n}-new", f"distinct-{n}-all")) for n in wording.DISTINCT_ORDERS)
    ),
    Metric("self-bleu", "continuation", ("self-bleu",), False, _mean_of("self-bleu")),
    *(Metric(name, "transcripts", parts, False, _share_of(*parts)) for name, parts in HEARD.items()),
)
