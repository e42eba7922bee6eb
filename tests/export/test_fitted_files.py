"""Fitted pipelines in files: skops with what is trusted, recipes of them, and pickles that are never loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
skops_io = pytest.importorskip("skops.io")

from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler  # noqa: E402

from sanderling import load  # noqa: E402
from sanderling.cli import build_app  # noqa: E402
from sanderling.errors import CheckpointError, ExportError  # noqa: E402
from sanderling_export import fitted  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`house.skops`, fitted on `rows.csv`."""
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"area": random.random(60) * 90, "city": pandas.Series(random.choice(["Oslo", "Porto"], 60), dtype=object)}
    )
    encoder = ColumnTransformer(
        [("a", StandardScaler(), ["area"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )
    model = make_pipeline(encoder, Ridge()).fit(frame, frame["area"] * 2 + (frame["city"] == "Oslo") * 30)
    skops_io.dump(model, tmp_path / "house.skops")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


def export(*arguments: str | Path) -> Any:
    testing = pytest.importorskip("typer.testing")
    return testing.CliRunner().invoke(build_app(), ["export", *map(str, arguments)])


def test_a_skops_file_with_rows_is_a_bundle(folder: Path) -> None:
    done = export(folder / "house.skops", "-o", folder / "b", "--data", folder / "rows.csv", "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["task"] == "tabular-regression"
    with load(folder / "b") as model:
        assert model({"area": 10.0, "city": "Rome"}).report.unseen == ("city",)
        assert model.bundle.manifest.provenance.checkpoint == "house.skops"
        assert model(folder / "rows.csv").values.shape == (60, 1)


def test_a_recipe_describes_the_table(folder: Path) -> None:
    recipe = """
name = "house"
checkpoint = "house.skops"
license = "Apache-2.0"

[tabular]
rows = "rows.csv"
targets = [{ name = "price", unit = "kEUR" }]

[[tabular.columns]]
name = "area"
unit = "m2"
missing = "fill"
fill = 50.0

[[tabular.columns]]
name = "city"
"""
    (folder / "house.toml").write_text(recipe, "utf-8")
    assert export(folder / "house.toml").exit_code == 0
    with load(folder / "bundles" / "house") as model:
        assert model.units == ("kEUR",)
        assert model.columns[0].fill == 50.0
        assert model({"area": None, "city": "Oslo"}).value == model({"area": 50.0, "city": "Oslo"}).value


@pytest.mark.parametrize("suffix", fitted.PICKLES)
def test_pickles_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ExportError, match=r"is a pickle .*runs whatever code it holds.*skops\.io\.dump"):
        fitted.find(str(tmp_path / f"model{suffix}"))
    assert "is a pickle" in str(export(tmp_path / f"model{suffix}", "-o", tmp_path / "b").exception)
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "x"\ncheckpoint = "model{suffix}"\n', "utf-8")
    with pytest.raises(ExportError, match="is a pickle"):
        fitted.find(str(recipe))


def own(values: Any) -> Any:
    return values


def test_types_that_are_not_trusted_are_named(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(own), Ridge()).fit(np.eye(4), np.arange(4.0))
    skops_io.dump(model, tmp_path / "own.skops")
    with pytest.raises(ExportError, match=r"holds types that are not trusted: .*own.*--trust "):
        fitted.load_skops(tmp_path / "own.skops", ())


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "no.skops").write_bytes(b"not a zip")
    with pytest.raises(CheckpointError, match="cannot be read as a skops file"):
        fitted.load_skops(tmp_path / "no.skops", ())
    with pytest.raises(CheckpointError, match="is not there"):
        fitted.find(str(tmp_path / "other.skops"))
    assert fitted.find("sentence-transformers/all-MiniLM-L6-v2") is None


def test_what_is_needed_is_asked_for(folder: Path) -> None:
    assert "--data ROWS.csv" in str(export(folder / "house.skops", "-o", folder / "b").exception)
    assert "-o FOLDER" in str(export(folder / "house.skops").exception)
    assert "--trust goes with" in str(export(folder, "-o", folder / "b", "--trust", "x.y").exception)
