"""A series to a forecaster: answers as the regressor's, intervals that cover what they say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skl2onnx")

from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor

from sanderling import load, verify
from sanderling.errors import ExportError
from sanderling_export import export_forecaster

LAGS, HORIZON = (1, 2, 3, 7, 14), 5


def tide(count: int = 900) -> Any:
    random = np.random.default_rng(3)
    return 0.01 * np.arange(count) + np.sin(np.arange(count) * 2 * np.pi / 7) * 3 + random.normal(size=count) * 0.2


@pytest.mark.parametrize(
    "regressor",
    [Ridge(), MultiOutputRegressor(GradientBoostingRegressor(n_estimators=10, random_state=0))],
    ids=["one for all steps", "one for each"],
)
def test_it_forecasts_as_the_regressor_does(regressor: Any, tmp_path: Path) -> None:
    series = tide()
    series[[100, 500, 890]] = np.nan
    bundle = export_forecaster(regressor, tmp_path / "b", series, lags=LAGS, horizon=HORIZON, unit="m", step="hour")
    assert verify(bundle).held
    with load(bundle) as model:
        found = model(series)
        last = series[-1]
        lags = series[[-lag for lag in LAGS]] - last
        assert found.mean == pytest.approx(last + regressor.predict(lags[None])[0], rel=1e-6)
        assert found.report.missing == 1
        assert (found.lower < found.mean).all()
        assert (found.mean < found.upper).all()
        assert model.levels == (0.9, 0.5)
        head: Any = model.bundle.manifest.postprocessing
        for interval in head.intervals:
            assert interval.coverage == pytest.approx(interval.level, abs=0.1)
            assert interval.samples > 500
        narrow = model(series, level=0.5)
        assert (narrow.upper - narrow.lower < found.upper - found.lower).all()
        assert "3 were missing" in model.bundle.manifest.provenance.notes[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"series": tide(60)}, "fewer than 20 windows"),
        ({"series": tide(15)}, "need more"),
        ({"levels": (1.5,)}, "levels between 0 and 1"),
        ({"levels": ()}, "levels between 0 and 1"),
        ({"levels": (0.9999,)}, "too few for the level"),
        ({"horizon": 0}, "levels between 0 and 1, and steps"),
        ({"series": [None, *tide()]}, "its first or last values"),
        ({"series": [*tide(), float("inf")]}, "is infinite"),
        ({"series": [1.0, None, *tide()], "missing": "error"}, "this model takes none"),
    ],
)
def test_what_cannot_be_forecast_is_refused(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"series": tide(), "lags": LAGS, "horizon": HORIZON} | arguments
    with pytest.raises(ExportError, match=words):
        export_forecaster(Ridge(), tmp_path / "b", asked.pop("series"), **asked)
    assert not (tmp_path / "b").exists()
