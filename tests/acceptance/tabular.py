"""Issue 5: tables answer as scikit-learn does, row by row, many times faster alone; bad rows are refused by name."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas
from checks import Context, Row, at_least, at_most, registry, true
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC, SVR

from sanderling import TableError, load
from sanderling_export import export_tabular

FITTED, EXPORTED, CHECKED = 1000, 200, 1000
BOUND = 1e-5
ROUNDS, CALLS = 7, 40
CITIES = ("Oslo", "Porto", "Ghent", "Bonn", "Turin")


def homes(missing: float, unseen: float) -> Any:
    """A table of homes; of the rows after those fitted on, some are in cities that no pipeline saw."""
    random = np.random.default_rng(2026)
    count = FITTED + EXPORTED + CHECKED
    frame = pandas.DataFrame(
        {
            "area": random.gamma(3.0, 30.0, count),
            "age": random.integers(0, 120, count),
            "distance": np.exp(random.normal(size=count)),
            "city": pandas.Series(random.choice(CITIES, count), dtype=object),
            "kind": pandas.Series(random.choice(["flat", "house", "barn"], count), dtype=object),
            "lift": random.random(count) < 0.4,
        }
    )
    later = np.arange(count) >= FITTED
    frame.loc[later & (random.random(count) < unseen), "city"] = "Rome"
    for name in ("area", "distance", "city"):
        frame.loc[random.random(count) < missing, name] = np.nan
    return frame


def price(frame: Any) -> Any:
    place = frame["city"].map({city: 40.0 * rank for rank, city in enumerate(CITIES)}).fillna(25.0)
    noise = np.random.default_rng(1).normal(size=len(frame)) * 8
    return 200 + 2 * frame["area"].fillna(80) - frame["age"] + place - 5 * frame["distance"].fillna(1) + noise


def columns(numbers: Any = None, words: Any = None) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", numbers or StandardScaler(), ["area", "age", "distance"]),
            ("words", words or OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city", "kind"]),
        ],
        remainder="passthrough",
    )


def mended() -> ColumnTransformer:
    return columns(
        make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
    )


def ranked() -> ColumnTransformer:
    return columns("passthrough", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1))


# Each with the shares of missing values and of cities never seen, and whether it decides among labels.
PIPELINES: dict[str, tuple[Callable[[], Any], float, float, bool]] = {
    "scaler, one-hot, ridge": (lambda: make_pipeline(columns(), Ridge()), 0.0, 0.1, False),
    "imputers, missing and unseen, ridge": (lambda: make_pipeline(mended(), Ridge()), 0.1, 0.1, False),
    "forest of 100": (
        lambda: make_pipeline(mended(), RandomForestRegressor(100, random_state=0, n_jobs=1)), 0.05, 0.05, False,
    ),
    "forest that decides": (
        lambda: make_pipeline(ranked(), RandomForestClassifier(50, random_state=0)), 0.0, 0.1, True,
    ),
    "gradient boosting": (lambda: make_pipeline(columns(), GradientBoostingRegressor(random_state=0)), 0.0, 0.1, False),
    "histogram boosting with gaps": (
        lambda: make_pipeline(ranked(), HistGradientBoostingRegressor(max_iter=80)), 0.1, 0.1, False,
    ),
    "histogram boosting that decides": (
        lambda: make_pipeline(ranked(), HistGradientBoostingClassifier(max_iter=30)), 0.1, 0.0, True,
    ),
    "perceptron": (
        lambda: make_pipeline(columns(), MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=60, random_state=0)),
        0.0, 0.0, False,
    ),
    "support vectors": (lambda: make_pipeline(columns(), SVR(C=10.0)), 0.0, 0.1, False),
    "support vectors that decide": (lambda: make_pipeline(columns(), SVC(break_ties=True)), 0.0, 0.0, True),
    "means of the target, logistic": (
        lambda: make_pipeline(columns(words=TargetEncoder(random_state=0)), LogisticRegression()), 0.0, 0.1, True,
    ),
    "naive Bayes": (lambda: make_pipeline(columns(), GaussianNB()), 0.0, 0.0, True),
    "nearest neighbours": (lambda: make_pipeline(columns(), KNeighborsRegressor()), 0.0, 0.0, False),
}  # fmt: skip


@registry.check(5, "tabular-parity")
def parity(context: Context) -> list[Row]:
    found = []
    for name, (make, missing, unseen, decides) in PIPELINES.items():
        context.say(name)
        frame = homes(missing, unseen)
        truth = price(frame)
        if decides:
            truth = pandas.qcut(truth, 3, labels=["low", "mid", "high"]).astype(object)
        model = _fit(make(), frame[:FITTED], truth[:FITTED])
        bundle = export_tabular(model, context.folder / name.replace(" ", "-").replace(",", ""), frame[FITTED:-CHECKED])
        checked = frame[-CHECKED:]
        answers, expected = _both(bundle, model, checked, decides)
        floor = 1e-12 * np.abs(expected).max()
        apart = np.abs(answers - expected)
        worst = float((np.where(apart <= floor, 0.0, apart) / np.maximum(np.abs(expected), floor)).max())
        gaps, others = int(checked.isna().sum().sum()), int((checked.city == "Rome").sum())
        counts = f"{len(checked):,} rows, {gaps} missing, {others} unseen"
        found.append(at_most(f"{name}: largest relative difference", worst, BOUND, spread=counts, digits=9))
    return found


@registry.check(5, "tabular-speed")
def speed(context: Context) -> list[Row]:
    frame = homes(0.0, 0.0)
    truth = price(frame)
    numbers = frame[["area", "age", "distance"]].to_numpy(float)
    forest = _fit(
        make_pipeline(columns(), RandomForestRegressor(100, random_state=0, n_jobs=1)), frame[:FITTED], truth[:FITTED]
    )
    linear = _fit(LinearRegression(), numbers[:FITTED], truth[:FITTED])
    forest_bundle = export_tabular(forest, context.folder / "forest", frame[FITTED:-CHECKED])
    linear_bundle = export_tabular(linear, context.folder / "linear", numbers[FITTED:-CHECKED])
    context.say("one row at a time, alternating")
    with load(forest_bundle) as quick, load(linear_bundle) as plain:
        row, one = frame.iloc[-1].to_dict(), frame[-1:]
        ours, theirs = _alternated(lambda: quick(row), lambda: forest.predict(one))
        own, other = _alternated(lambda: plain(numbers[-1]), lambda: linear.predict(numbers[-1:]))
    return [
        _faster("column transformer and forest of 100, one row: times as fast as predict", ours, theirs, 10.0),
        _faster("plain linear model, one row: times as fast as predict", own, other, 1.0),
    ]


@registry.check(5, "tabular-bad-input")
def bad_input(context: Context) -> list[Row]:
    frame = homes(0.0, 0.0)
    model = _fit(make_pipeline(columns(), Ridge()), frame[:FITTED], price(frame)[:FITTED])
    bundle = export_tabular(model, context.folder / "ridge", frame[FITTED:-CHECKED])
    good = "area,age,distance,city,kind,lift\n50,3,1.5,Oslo,flat,true\n"
    files = {
        "a column missing": (good.replace(",lift", "").replace(",true", ""), "lift"),
        "a column too many": (good.replace("lift", "lift,garden").replace("true", "true,1"), "garden"),
        "text for a number": (good + "large,3,1.5,Oslo,flat,true\n", "Row 2, column 'area'"),
        "an infinity": (good + "50,3,inf,Oslo,flat,true\n", "Row 2, column 'distance'"),
        "an empty file": ("", "is empty"),
        "a header alone": (good.splitlines()[0] + "\n", "no rows"),
        "a missing value that the pipeline refuses": (good + ",3,1.5,Oslo,flat,true\n", "Row 2, column 'area'"),
        "a line cut short": (good + "50,3\n", "line 3"),
    }
    found = []
    with load(bundle) as opened:
        for what, (text, words) in files.items():
            path = context.folder / "rows.csv"
            path.write_text(text, "utf-8")
            try:
                met = repr(opened(path))
            except TableError as error:
                met = str(error)
            held = words in met and not met.startswith("Predictions")
            found.append(true(f"{what}: a TableError that names it", held, met[-120:], words))
        seen = opened({"area": 50.0, "age": 3, "distance": 1.5, "city": "Rome", "kind": "flat", "lift": True})
    found.append(
        true("a city never seen: answered, and reported", seen.report.unseen == ("city",), f"{seen.report}", "city")
    )
    return found


def _fit(model: Any, rows: Any, truth: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(rows, truth)


def _both(bundle: Path, model: Any, rows: Any, decides: bool) -> tuple[Any, Any]:
    """Answers of the bundle and of scikit-learn: of a classifier all scores, with the label as one more number."""
    with load(bundle) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = opened(rows)
        if not decides:
            return found.values[:, 0], np.asarray(model.predict(rows))
        scores = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.decision_function(rows)
        by_label = [dict(zip(item.labels, item.scores, strict=True)) for item in found]
        own = np.array([[row[label] for label in model.classes_] for row in by_label])
        labels = np.array([item.label for item in found]) == model.predict(rows)
        return np.column_stack([own, labels]), np.column_stack([scores, np.ones(len(own))])


def _alternated(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Medians of the seconds of one call, round by round, the two by turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first(), second()
        for _ in range(ROUNDS):
            for call, kept in zip((first, second), seconds, strict=True):
                spent = []
                for _ in range(CALLS):
                    started = time.perf_counter()
                    call()
                    spent.append(time.perf_counter() - started)
                kept.append(median(spent))
    return seconds


def _faster(what: str, ours: list[float], theirs: list[float], bound: float) -> Row:
    ratios = sorted(other / own for own, other in zip(ours, theirs, strict=True))
    spread = f"{ratios[0]:.1f}–{ratios[-1]:.1f}; {median(ours) * 1e6:.0f} against {median(theirs) * 1e6:.0f} µs"
    return at_least(what, median(ratios), bound, spread=spread, digits=1)
