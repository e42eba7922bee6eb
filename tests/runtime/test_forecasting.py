"""Series to forecasts: lags, gaps, levels and horizons, and what cannot be continued."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_numbers
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_bundles import read_manifest

from sanderling import InputError, ManifestError, SeriesError, load, open_bundle, verify
from sanderling.cli import build_app
from sanderling.codec import encode
from sanderling.preprocess.series import SeriesEncoder
from sanderling.schema.preprocessing import SeriesPreprocessing
from sanderling.tasks.forecasting import Forecaster

SERIES = [9.0, 4.0, 1.0, 2.0, 3.0]
# Lags 1, 2 and 4 of SERIES, less its last value, through STEP, and the value added again.
MEAN = [2.5, 3.25]


@pytest.fixture(scope="module")
def tide(tide_bundle: Path) -> Iterator[Forecaster]:
    with load(tide_bundle) as model:
        assert isinstance(model, Forecaster)
        yield model


def test_a_forecast_with_its_interval(tide: Forecaster) -> None:
    found = tide(SERIES)
    assert (found.horizon, found.level, found.unit, found.step) == (2, 0.9, "m", "hour")
    assert found.mean.tolist() == MEAN
    assert found.lower.tolist() == [1.5, 1.25]
    assert found.upper.tolist() == [3.5, 5.75]
    assert (found.report.values, found.report.unused, found.report.missing, found.report.level) == (5, 1, 0, 3.0)
    assert (tide.horizon, tide.levels, tide.lookback) == (2, (0.9, 0.5), 4)
    assert "2 hours ahead" in repr(found)


def test_a_shorter_horizon_and_another_level(tide: Forecaster) -> None:
    found = tide(SERIES, horizon=1, level=0.5)
    assert (found.mean.tolist(), found.lower.tolist(), found.upper.tolist()) == ([2.5], [2.0], [3.0])


@pytest.mark.parametrize("horizon", [0, 3, True, 1.0, "2"])
def test_a_horizon_beyond_the_model_is_refused(tide: Forecaster, horizon: Any) -> None:
    with pytest.raises(InputError, match="a whole number from 1 to 2"):
        tide(SERIES, horizon=horizon)
    with pytest.raises(InputError, match=r"of the levels 0\.9, 0\.5"):
        tide(SERIES, level=0.95)


def test_several_series(tide: Forecaster) -> None:
    found = tide([SERIES, [x + 100 for x in SERIES]])
    assert found.mean.tolist() == [MEAN, [x + 100 for x in MEAN]]
    assert [item.mean.tolist() for item in found] == found.mean.tolist()
    assert len(found[:1]) == 1
    assert tide(np.array([SERIES, SERIES])).upper.shape == (2, 2)
    assert tide(np.array(SERIES)).mean.tolist() == MEAN


def test_a_gap_is_filled_and_counted(tide: Forecaster) -> None:
    for missing in (None, math.nan):
        found = tide([9.0, 4.0, 1.0, missing, 3.0])
        assert found.report.missing == 1
        assert found.mean.tolist() == MEAN
    # The gap begins before the part that is looked at; its other end still counts.
    assert tide([5.0, None, 1.0, 2.0, 3.0]).report.missing == 1


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ([1.0, 2.0, 3.0], "has 3 values; this model looks back over 4"),
        ([], "is empty"),
        ([4.0, 1.0, 2.0, None], "its first or last values"),
        ([None, 1.0, 2.0, 3.0], "its first or last values"),
        ([None] * 5, "its first or last values"),
        ([1.0, 2.0, math.inf, 3.0], "value 3 is infinite"),
        ([1.0, 2.0, "three", 3.0], "value 3 is 'three'"),
        ([1.0, 2.0, True, 3.0], "value 3 is True"),
        ([1.0, 2.0, 10**400, 3.0], "cannot be read as numbers"),
        ("1,2,3", "is not there"),
        (b"1234", "of type bytes"),
        (5, "of type int"),
        ([SERIES, "text"], "Series 2 is of type str"),
        (np.zeros((1, 2, 3)), r"of the shape \(1, 2, 3\)"),
        (np.array(["a", "b"]), "one dimension of numbers"),
    ],
)
def test_what_cannot_be_continued_is_refused(tide: Forecaster, series: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tide(series)


def test_missing_values_are_refused_where_the_bundle_says_so() -> None:
    with pytest.raises(SeriesError, match="this model takes none"):
        SeriesEncoder(SeriesPreprocessing((1,))).encode([None], 1)


numbers = st.none() | st.floats() | st.integers() | st.text(max_size=2)


@given(st.lists(numbers, max_size=12))
def test_any_series_is_finite_lags_or_a_series_error(series: list[Any]) -> None:
    encoder = SeriesEncoder(SeriesPreprocessing((3, 1), "none", "interpolate"))
    try:
        lags, report = encoder.encode(series, 1)
    except SeriesError as error:
        assert "Series 1" in str(error)  # noqa: PT017 - an error is one of two right outcomes
        return
    assert np.isfinite(lags).all()
    assert report.values == len(series) == report.unused + 3
    assert report.missing == sum(value is None or value != value for value in series[-3:])


def test_a_csv_file_has_a_series(tide: Forecaster, tmp_path: Path) -> None:
    path = tmp_path / "tide.csv"
    path.write_text("time,height\n" + "".join(f"{i},{value}\n" for i, value in enumerate(SERIES)), "utf-8")
    assert tide(path).mean.tolist() == MEAN
    path.write_text("anything\n4\n1\n \n3\n", "utf-8")
    assert tide(str(path)).report.missing == 1
    path.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(SeriesError, match="no column 'height', and more than one: a, b"):
        tide(path)
    path.write_text("height\n1\n2\nmuch\n", "utf-8")
    with pytest.raises(SeriesError, match="line 4: 'much' is no number"):
        tide(path)


def test_it_verifies(tide_bundle: Path) -> None:
    assert verify(tide_bundle).held


def test_contradictory_intervals_are_refused(tmp_path: Path) -> None:
    bundle = tiny_numbers.forecast_bundle(tmp_path / "b")
    sealed = read_manifest(bundle)
    head: Any = sealed.postprocessing
    short, crossed = replace(head.intervals[0], lower=(0.0,)), replace(head.intervals[0], lower=(5.0, 5.0))
    for interval, words in ((short, "one offset for each"), (crossed, "upper end is below")):
        changed = replace(sealed, postprocessing=replace(head, intervals=(interval,)))
        (bundle / "bundle.json").write_bytes(encode(changed))
        with pytest.raises(ManifestError, match=words):
            open_bundle(bundle)


def test_the_command_line(tide_bundle: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    path = tmp_path / "tide.csv"
    path.write_text("height\n9\n4\n1\n\n2\n3\n", "utf-8")
    runner = testing.CliRunner()
    done = runner.invoke(
        build_app(), ["run", str(tide_bundle), json.dumps(SERIES), str(path), "--horizon", "1", "--json"]
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["mean"] == second["mean"] == [2.5]
    assert second["lost"] == {"missing": 1}
    assert (first["horizon"], first["level"], first["unit"]) == (1, 0.9, "m")
    shown = runner.invoke(build_app(), ["run", str(tide_bundle), "[9, 4, 1, null, 3]"]).stdout
    assert "2.5" in shown
    assert "(1.5 to 3.5) m" in shown
    assert "1 missing values filled in" in shown
