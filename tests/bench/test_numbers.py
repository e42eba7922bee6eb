"""`eval` and `bench` on tables and series, with the figures computed by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_numbers
from rich.console import Console

metrics_of = pytest.importorskip("sklearn.metrics")
pytest.importorskip("scipy")

from sanderling.bundle import open_bundle  # noqa: E402
from sanderling.errors import BenchError, EvalError, TableError  # noqa: E402
from sanderling_bench import evaluation_table, table  # noqa: E402
from sanderling_bench.evaluation import EvalPlan, evaluate  # noqa: E402
from sanderling_bench.inputs import inputs_for  # noqa: E402
from sanderling_bench.measure import Plan, measure  # noqa: E402

COUNT = 120


def homes() -> list[dict[str, Any]]:
    draw = np.random.default_rng(4)
    return [
        {
            "area": round(float(draw.uniform(10, 90)), 2),
            "rooms": None if draw.random() < 0.2 else int(draw.integers(1, 6)),
            "city": str(draw.choice(["Oslo", "Porto", "Ghent"])),
        }
        for _ in range(COUNT)
    ]


def text(rows: list[dict[str, Any]], truth: str, values: list[Any]) -> str:
    """CSV with a column that nobody asks for, and the columns in another order."""
    lines = [f"city,note,{truth},rooms,area"]
    for row, value in zip(rows, values, strict=True):
        lines.append(f"{row['city']},x,{value},{'' if row['rooms'] is None else row['rooms']},{row['area']}")
    return "\n".join(lines) + "\n"


def noisy_prices(rows: list[dict[str, Any]]) -> list[float]:
    draw = np.random.default_rng(8)
    return [round(tiny_numbers.price(row) + float(draw.normal(0, 7)), 3) for row in rows]


@pytest.mark.parametrize("truth", ["price", "target", "sold"])
def test_a_regression_of_rows(house_bundle: Path, tmp_path: Path, truth: str) -> None:
    rows = homes()
    sold = noisy_prices(rows)
    data = tmp_path / "homes.csv"
    data.write_text(text(rows, truth, sold), encoding="utf-8")
    columns = {"target": "sold"} if truth == "sold" else {}
    made = evaluate(open_bundle(house_bundle), EvalPlan(data, columns=columns, resamples=50))
    expected = [tiny_numbers.price(row) for row in rows]
    scores = made.scores["fp32"]
    assert scores["rmse"].value is not None
    assert scores["mae"].value is not None
    assert scores["rmse"].value.value == pytest.approx(metrics_of.root_mean_squared_error(sold, expected))
    assert scores["mae"].value.value == pytest.approx(metrics_of.mean_absolute_error(sold, expected))
    assert made.data.columns["target"] == truth
    assert made.data.cases == COUNT
    out = io.StringIO()
    evaluation_table.show(made, Console(file=out, width=100))
    assert "120 rows with a number" in out.getvalue()


def test_rows_as_json_lines_with_nulls(house_bundle: Path, tmp_path: Path) -> None:
    rows = homes()
    data = tmp_path / "homes.jsonl"
    data.write_text("\n".join(json.dumps({**row, "price": tiny_numbers.price(row)}) for row in rows), encoding="utf-8")
    made = evaluate(open_bundle(house_bundle), EvalPlan(data, limit=40, resamples=20))
    assert made.data.cases == 40
    assert made.scores["fp32"]["mae"].value is not None
    assert made.scores["fp32"]["mae"].value.value == pytest.approx(0, abs=1e-9)


def test_a_classification_of_rows(dear_bundle: Path, tmp_path: Path) -> None:
    rows = homes()
    draw = np.random.default_rng(3)
    truth = ["dear" if draw.random() < 0.8 else "cheap" for _ in rows]
    data = tmp_path / "homes.csv"
    data.write_text(text(rows, "label", truth), encoding="utf-8")
    made = evaluate(open_bundle(dear_bundle), EvalPlan(data, resamples=50))
    answers = ["dear" if tiny_numbers.price(row) > 0 else "cheap" for row in rows]
    scores = made.scores["fp32"]
    assert scores["accuracy"].value is not None
    assert scores["f1-macro"].value is not None
    assert scores["accuracy"].value.value == pytest.approx(metrics_of.accuracy_score(truth, answers))
    assert scores["f1-macro"].value.value == pytest.approx(
        metrics_of.f1_score(truth, answers, average="macro", zero_division=0.0)
    )


WRONG_ROWS = {
    "no column": ("area,rooms,price\n1,2,3\n", "has no column for city"),
    "no truth": ("area,rooms,city\n1,2,Oslo\n", "has no column for target; .* price"),
    "text": ("area,rooms,city,price\n1,2,Oslo,3\nmany,2,Oslo,3\n", "line 3: Row 2, column 'area'"),
    "infinity": ("area,rooms,city,price\n1,2,Oslo,3\n1e999,2,Oslo,3\n", "line 3: .* infinite"),
    "missing": ("area,rooms,city,price\n,2,Oslo,3\n", "line 2: .* missing"),
    "truth is text": ("area,rooms,city,price\n1,2,Oslo,much\n", "line 2: the target is 'much'"),
    "empty": ("area,rooms,city,price\n", "has no rows"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_wrong_rows_are_named_before_the_model_is_loaded(house_bundle: Path, tmp_path: Path, name: str) -> None:
    content, message = WRONG_ROWS[name]
    data = tmp_path / "homes.csv"
    data.write_text(content, encoding="utf-8")
    with pytest.raises(EvalError, match=message):
        evaluate(open_bundle(house_bundle), EvalPlan(data))


def by_hand(series: np.ndarray[Any, Any]) -> tuple[list[float], list[float], list[bool]]:
    """Truths, means and whether each truth lies in the first interval, from every origin."""
    truth, mean, within = [], [], []
    low, high = np.array([-1.0, -2.0]), np.array([1.0, 2.5])
    for origin in range(4, len(series) - 1):
        seen = series[:origin]
        lags = np.array([seen[-lag] for lag in tiny_numbers.LAGS]) - seen[-1]
        ahead = lags @ tiny_numbers.STEP + seen[-1]
        real = series[origin : origin + 2]
        truth += real.tolist()
        mean += ahead.tolist()
        within += ((ahead + low <= real) & (real <= ahead + high)).tolist()
    return truth, mean, within


def test_a_forecaster_from_rolling_origins(tide_bundle: Path, tmp_path: Path) -> None:
    series = np.round(np.sin(np.arange(60) / 4) * 2 + np.random.default_rng(1).normal(0, 0.8, 60), 3)
    data = tmp_path / "tide.csv"
    data.write_text("hour,height\n" + "\n".join(f"{i},{v}" for i, v in enumerate(series)), encoding="utf-8")
    made = evaluate(open_bundle(tide_bundle), EvalPlan(data, resamples=30))
    truth, mean, within = by_hand(series)
    assert made.data.cases == len(truth) == 2 * (60 - 4 - 2 + 1)
    assert made.truth["truth"] == tuple(truth)
    scores = {name: score.value for name, score in made.scores["fp32"].items()}
    assert scores["rmse"] is not None
    assert scores["mae"] is not None
    assert scores["coverage"] is not None
    assert scores["rmse"].value == pytest.approx(metrics_of.root_mean_squared_error(truth, mean))
    assert scores["mae"].value == pytest.approx(metrics_of.mean_absolute_error(truth, mean))
    assert scores["coverage"].value == pytest.approx(np.mean(within))
    assert 0 < scores["coverage"].value < 1
    assert made.data.lines[:3] == (6, 7, 7)
    assert evaluate(open_bundle(tide_bundle), EvalPlan(data, limit=5, resamples=5)).data.cases == 10
    out = io.StringIO()
    evaluation_table.show(made, Console(file=out, width=100))
    assert "from rolling origins in a series of 60" in " ".join(out.getvalue().split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("height\n1\n2\n3\n4\n5\n", "has 5 values; at least 6 are needed"),
        ("height,x\n1,0\n2,0\n,0\n4,0\n5,0\n6,0\n", "line 4: the value is missing"),
        ("height\n1\n2\nhigh\n4\n5\n6\n", "line 4: the value is 'high'"),
        ("a,b\n1,2\n", "has no column 'height'; it has a, b"),
    ],
)
def test_wrong_series_are_named(tide_bundle: Path, tmp_path: Path, content: str, message: str) -> None:
    data = tmp_path / "tide.csv"
    data.write_text(content, encoding="utf-8")
    with pytest.raises(EvalError, match=message):
        evaluate(open_bundle(tide_bundle), EvalPlan(data))


@pytest.mark.parametrize("kind", ["house", "tide"])
def test_the_bench_measures_models_of_numbers(kind: str, house_bundle: Path, tide_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(house_bundle if kind == "house" else tide_bundle)
    made = measure(bundle, inputs_for(bundle), Plan(rounds=2, samples=6, cold_starts=1, threads=1))
    assert made.settings.modality == ("tabular" if kind == "house" else "series")
    samples = made.samples["fp32"]
    assert len(samples.single_stream) == 6
    assert len(samples.cold_start) == 1
    assert (samples.peak_memory_bytes or 0) > 20e6
    assert samples.same_label_as_fp32 == ()
    out = io.StringIO()
    table.show(made, Console(file=out, width=120))
    assert ("rows/s" if kind == "house" else "series/s") in out.getvalue()


def test_the_bench_takes_files_of_rows_and_of_series(
    house_bundle: Path, dear_bundle: Path, tide_bundle: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "homes.csv"
    rows.write_text("city,rooms,area\nOslo,,12.5\nPorto,3,40\n", encoding="utf-8")
    given = inputs_for(open_bundle(house_bundle), [rows])
    assert (given.modality, given.items) == ("tabular", ([12.5, None, "Oslo"], [40.0, 3, "Porto"]))
    assert json.loads(given.raw[0]) == [12.5, None, "Oslo"]
    heights = tmp_path / "tide.csv"
    heights.write_text("height\n4\n1\n2\n3\n", encoding="utf-8")
    assert inputs_for(open_bundle(tide_bundle), [heights, heights]).items == ([4.0, 1.0, 2.0, 3.0],) * 2
    made = measure(
        open_bundle(dear_bundle), inputs_for(open_bundle(dear_bundle)), Plan(rounds=1, samples=2, cold_starts=0)
    )
    assert all(made.samples["fp32"].same_label_as_fp32)
    rows.write_text("city,rooms\nOslo,2\n", encoding="utf-8")
    with pytest.raises(TableError, match="lacks the columns 'area'"):
        inputs_for(open_bundle(house_bundle), [rows])
    with pytest.raises(BenchError, match="does not exist"):
        inputs_for(open_bundle(house_bundle), [tmp_path / "none.csv"])
