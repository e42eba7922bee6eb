"""What `sanderling run` does with numbers: rows and series from files or as JSON, predictions and forecasts shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sanderling.commands.console import clean
from sanderling.errors import InputError
from sanderling.number_fronts import SeriesFront, TableFront
from sanderling.predictions import Prediction

if TYPE_CHECKING:
    from sanderling.model import Model
    from sanderling.predictions import Forecast

MODALITIES = ("tabular", "series")

_SHOWN_STEPS = 24


def settings(model: Model, top_k: int, horizon: int | None, level: float | None) -> dict[str, Any] | None:
    """The keyword arguments of a call of a model of numbers, None for another. Raises InputError for wrong options."""
    if model.task == "time-series-forecasting":
        return {"horizon": horizon, "level": level}
    for option, value in (("--horizon", horizon), ("--level", level)):
        if value is not None:
            raise InputError(f"{option} goes with forecasting models; {model.name} is for {model.task}.")
    if model.modality not in MODALITIES:
        return None
    return {} if model.task == "tabular-regression" else {"top_k": top_k}


def items(model: Model, given: str) -> Iterator[tuple[str, Any, str | None]]:
    """Name, value and error of each input that an argument means: JSON, or a file with a row (or a series) in it."""
    if given.lstrip()[:1] in ("{", "["):
        yield literal(given)
        return
    name = clean(given)
    front = model.front
    try:
        if isinstance(front, TableFront):
            for number, row in enumerate(front.file_rows(given), 1):
                yield f"{name}, row {number}", row, None
        elif isinstance(front, SeriesFront):
            yield name, front.file_series(Path(given)), None
    except InputError as error:
        yield name, None, str(error)


def literal(text: str) -> tuple[str, Any, str | None]:
    """Name, value and error of a row or a series that is given as JSON."""
    wanted = "A row is a JSON object or a list, a series is a list."
    try:
        value = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        return clean(text), None, f"This is no valid JSON: {error}. {wanted}"
    if not isinstance(value, dict | list):
        return clean(text), None, f"This is a single value. {wanted}"
    return clean(text), value, None


def record(result: Prediction | Forecast) -> dict[str, Any]:
    """What `--json` says of a prediction or a forecast."""
    if isinstance(result, Prediction):
        units = {name: unit for name, unit in zip(result.targets, result.units, strict=True) if unit}
        predicted = dict(zip(result.targets, result.values, strict=True))
        return {"predictions": predicted} | ({"units": units} if units else {})
    return {
        "horizon": result.horizon,
        "level": result.level,
        "unit": result.unit,
        "mean": result.mean.tolist(),
        "lower": result.lower.tolist(),
        "upper": result.upper.tolist(),
    }


def lines(record: dict[str, Any]) -> Iterator[str]:
    """A record in a few lines for people."""
    if "predictions" in record:
        units = record.get("units", {})
        for name, value in record["predictions"].items():
            yield f"{value:12.6g}  {name} {units.get(name, '')}".rstrip()
        return
    yield f"{record['horizon']} values ahead, with the interval of level {record['level']:g}"
    found = list(zip(record["mean"], record["lower"], record["upper"], strict=True))
    for step, (mean, lower, upper) in enumerate(found[:_SHOWN_STEPS], 1):
        yield f"{step:4}  {mean:10.6g}  ({lower:.6g} to {upper:.6g}) {record['unit']}".rstrip()
    if len(found) > _SHOWN_STEPS:
        yield f"and {len(found) - _SHOWN_STEPS} more; --json has them all"


def in_words(name: str, value: Any) -> str:
    """What a report says of a row's columns, or of a series' gaps."""
    if isinstance(value, int):
        return f"{value:,} missing values filled in"
    columns = ", ".join(value)
    return f"missing: {columns}" if name == "missing" else f"categories never seen: {columns}"
