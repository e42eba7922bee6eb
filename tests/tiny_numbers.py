"""Tiny bundles of numbers, made by hand: a regression and a classification of rows, a forecast of a series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from tiny_bundles import Graph, _Build

from sanderling.manifest import Preprocessing
from sanderling.schema.answers import ClassificationOutput, ForecastOutput, IntervalSpec, RegressionOutput, Target
from sanderling.schema.preprocessing import ColumnSpec, SeriesPreprocessing, TabularPreprocessing
from sanderling.schema.variants import TensorSpec, Tolerance

CITIES = ("Oslo", "Porto")
COLUMNS = (
    ColumnSpec("area", "number", unit="m²"),
    ColumnSpec("rooms", "number", "int64", missing="fill", fill=2),
    ColumnSpec("city", "category", "string", missing="pass", categories=CITIES),
)
# Of Oslo, Porto, a city never seen, and none at all.
CITY_VALUES = np.array([[100.0], [50.0], [10.0], [0.0]])
WEIGHT = np.array([[2.0], [5.0]])
ROWS: tuple[dict[str, Any], ...] = (
    {"area": 40.5, "rooms": 2, "city": "Oslo"},
    {"area": 81.25, "rooms": None, "city": "Porto"},
    {"area": 12.0, "rooms": 1, "city": "Ghent"},
    {"area": 33.0, "rooms": 3, "city": None},
)
ONE = Tolerance(0.999999, 1e-9)
LAGS = (1, 2, 4)
STEP = np.array([[1.0, 1.0], [0.5, 0.0], [0.0, 0.25]])


def price(row: dict[str, Any]) -> float:
    """What the regression answers for a row."""
    place = CITIES.index(row["city"]) if row["city"] in CITIES else 3 if row["city"] is None else 2
    rooms = 2 if row["rooms"] is None else row["rooms"]
    return float(row["area"] * 2 + rooms * 5 + CITY_VALUES[place, 0])


def vector(row: dict[str, Any]) -> list[float]:
    """What the graph is given for a row."""
    place = CITIES.index(row["city"]) if row["city"] in CITIES else 3 if row["city"] is None else 2
    return [float(row["area"]), float(2 if row["rooms"] is None else row["rooms"]), float(place)]


def _house(outputs: list[Any]) -> Graph:
    nodes = [
        helper.make_node("Gather", ["rows", "measures"], ["numbers"], axis=1),
        helper.make_node("MatMul", ["numbers", "weight"], ["measured"]),
        helper.make_node("Gather", ["rows", "last"], ["place"], axis=1),
        helper.make_node("Cast", ["place"], ["code"], to=TensorProto.INT64),
        helper.make_node("Gather", ["cities", "code"], ["city"]),
        helper.make_node("Add", ["measured", "city"], ["price"]),
        *outputs,
    ]
    weights = {
        "measures": np.array([0, 1], np.int64),
        "last": np.array(2, np.int64),
        "weight": WEIGHT,
        "cities": CITY_VALUES,
    }
    return nodes, weights


def regression_bundle(target: Path) -> Path:
    """`tiny-house`: two numbers and a category to a price."""
    component = (
        (TensorSpec("rows", "float64", ("batch", 3)),),
        (TensorSpec("price", "float64", ("batch", 1)),),
    )
    samples: list[Any] = [{"id": f"row-{i}", "row": row} for i, row in enumerate(ROWS)]
    tensors = {f"row-{i}.output": np.array([price(row)]) for i, row in enumerate(ROWS)}
    tensors |= {f"row-{i}.input.rows": np.array(vector(row)) for i, row in enumerate(ROWS)}
    with _Build(target) as build:
        build.commit(
            "tiny-house",
            ("general", "tabular-regression"),
            build.component(component, {"fp32": _house([])}, {"fp32": ONE}),
            Preprocessing(tabular=TabularPreprocessing(COLUMNS, ("", "NA"))),
            RegressionOutput("price", (Target("price", "EUR"),)),
            build.golden(samples, tensors),
        )
    return target


def classification_bundle(target: Path) -> Path:
    """`tiny-dear`: the same rows to `cheap` or `dear`, with scores as they are."""
    outputs = [
        helper.make_node("Neg", ["price"], ["less"]),
        helper.make_node("Concat", ["less", "price"], ["s"], axis=1),
    ]
    component = (
        (TensorSpec("rows", "float64", ("batch", 3)),),
        (TensorSpec("s", "float64", ("batch", 2)),),
    )
    samples: list[Any] = [{"id": f"row-{i}", "row": row} for i, row in enumerate(ROWS)]
    tensors = {f"row-{i}.output": np.array([-price(row), price(row)]) for i, row in enumerate(ROWS)}
    with _Build(target) as build:
        build.commit(
            "tiny-dear",
            ("general", "tabular-classification"),
            build.component(component, {"fp32": _house(outputs)}, {"fp32": ONE}),
            Preprocessing(tabular=TabularPreprocessing(COLUMNS)),
            ClassificationOutput("s", "none", ("cheap", "dear")),
            build.golden(samples, tensors),
        )
    return target


def forecast_bundle(target: Path) -> Path:
    """`tiny-tide`: two values ahead from the lags 1, 2 and 4, around the last value."""
    graph: Graph = ([helper.make_node("MatMul", ["lags", "step"], ["mean"])], {"step": STEP})
    component = (
        (TensorSpec("lags", "float64", ("batch", 3)),),
        (TensorSpec("mean", "float64", ("batch", 2)),),
    )
    series = (4.0, 1.0, 2.0, 3.0)
    lags = np.array([0.0, -1.0, 1.0])
    tensors = {"series-1.output": lags @ STEP, "series-1.input.lags": lags}
    intervals = (IntervalSpec(0.9, (-1.0, -2.0), (1.0, 2.5), 0.88, 50), IntervalSpec(0.5, (-0.5, -1.0), (0.5, 1.0)))
    with _Build(target) as build:
        build.commit(
            "tiny-tide",
            ("general", "time-series-forecasting"),
            build.component(component, {"fp32": graph}, {"fp32": ONE}),
            Preprocessing(series=SeriesPreprocessing(LAGS, "last", "interpolate", "height", "m", "hour")),
            ForecastOutput("mean", 2, intervals),
            build.golden([{"id": "series-1", "series": series}], tensors),
        )
    return target
