"""Rows of tables: what is answered, what is reported, and what is refused with its row and column."""

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
from tiny_bundles import read_manifest, reseal

from sanderling import InputError, ManifestError, TableError, load, open_bundle, tune, verify
from sanderling.cli import build_app
from sanderling.codec import encode
from sanderling.preprocess.tabular import TableEncoder
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import ColumnSpec, TabularPreprocessing
from sanderling.tasks.tabular import Regressor, TableClassifier
from sanderling.verification import Report

ROWS = list(tiny_numbers.ROWS)
PRICES = [tiny_numbers.price(row) for row in ROWS]


@pytest.fixture(scope="module")
def house(house_bundle: Path) -> Iterator[Regressor]:
    with load(house_bundle) as model:
        assert isinstance(model, Regressor)
        yield model


def test_a_dict_is_one_row_with_units_and_a_report(house: Regressor) -> None:
    found = house(ROWS[2])
    assert found.value == PRICES[2]
    assert (found.targets, found.units) == (("price",), ("EUR",))
    assert (found.report.missing, found.report.unseen, found.report.complete) == ((), ("city",), False)
    assert "price" in repr(found)


@pytest.mark.parametrize(
    "given",
    [
        ROWS,
        iter(ROWS),
        [list(row.values()) for row in ROWS],
        [tuple(row.values()) for row in ROWS],
        [dict(reversed(row.items())) for row in ROWS],
        np.array([list(row.values()) for row in ROWS], object),
    ],
    ids=["dicts", "an iterator", "lists", "tuples", "another order", "an array"],
)
def test_rows_of_every_kind(house: Regressor, given: Any) -> None:
    found = house(given)
    assert found.values.dtype == np.float64
    assert found.values[:, 0].tolist() == PRICES
    assert [report.missing for report in found.reports] == [(), ("rooms",), (), ("city",)]
    assert [item.value for item in found] == PRICES
    assert [item.value for item in found[1:3]] == PRICES[1:3]


@pytest.mark.parametrize("row", [[40.5, 2, "Oslo"], (40.5, 2, "Oslo"), np.array([40.5, 2, "Oslo"], object)])
def test_plain_values_are_one_row(house: Regressor, row: Any) -> None:
    assert house(row).value == PRICES[0]


def test_a_data_frame_is_known_by_what_it_can_do(house: Regressor) -> None:
    class Frame:
        columns = ("city", "rooms", "area")

        def itertuples(self, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
            return iter([(row["city"], row["rooms"], row["area"]) for row in ROWS])

    assert house(Frame()).values[:, 0].tolist() == PRICES


def test_no_rows_are_no_answers(house: Regressor) -> None:
    assert len(house([])) == 0


def test_streams(house: Regressor) -> None:
    assert [item.value for item in house.stream(ROWS[i % 4] for i in range(50))] == [PRICES[i % 4] for i in range(50)]
    with pytest.raises(InputError, match="iterable"):
        next(house.stream(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"area": 1.0, "rooms": 2}, "Row 1 lacks the columns 'city'"),
        ({"area": 1.0, "rooms": 2, "city": "Oslo", "lift": 1}, "has the columns 'lift', which"),
        ({"area": 1.0, "rooms": 2, "town": "Oslo"}, "lacks the columns 'city' and has the columns 'town'"),
        ({"area": "large", "rooms": 2, "city": "Oslo"}, "Row 1, column 'area': the value is 'large'; a number"),
        ({"area": "1", "rooms": 2, "city": "Oslo"}, "column 'area': the value is '1'; a number"),
        ({"area": math.inf, "rooms": 2, "city": "Oslo"}, "column 'area': the value is infinite"),
        ({"area": 1.0, "rooms": 2, "city": -math.inf}, "column 'city': the value is infinite"),
        ({"area": None, "rooms": 2, "city": "Oslo"}, "column 'area': the value is missing"),
        ({"area": math.nan, "rooms": 2, "city": "Oslo"}, "column 'area': the value is missing"),
        ({"area": 1.0, "rooms": 2.5, "city": "Oslo"}, "column 'rooms': the value is 2.5; a whole number"),
        ({"area": 2**60, "rooms": 2, "city": "Oslo"}, "whole number beyond"),
        ({"area": 1.0, "rooms": 2, "city": ["Oslo"]}, "column 'city': the value is of type list"),
        ({"area": [1.0], "rooms": 2, "city": "Oslo"}, r"column 'area': the value is \[1.0\]"),
        ([1.0, 2], "2 values; the model takes 3: 'area', 'rooms', 'city'"),
        ([[1.0, 2, "Oslo"], "Oslo"], "Row 2 is of type str"),
        (b"1,2,3", "of type bytes"),
        (7, "of type int"),
        ({1.0, 2.0}, "of type set"),
        (np.zeros((1, 2, 3)), r"the shape \(1, 2, 3\)"),
        (np.zeros((2, 2)), "Row 1 has 2 values"),
    ],
)
def test_what_is_no_row_is_refused_with_its_place(house: Regressor, row: Any, words: str) -> None:
    with pytest.raises(TableError, match=words):
        house(row)


def table(folder: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "area,rooms,city\n40.5,2,Oslo\n81.25,,Porto\n12,1,Ghent\n33.0,3,NA\n",
        '\ufeffcity,area,rooms\r\n\r\n"Oslo",40.5,2\r\nPorto,8.125e1,NA\r\nGhent, 12 ,1.0\r\n,33,+3\r\n',
    ],
    ids=["plain", "quoted, in another order, from an editor"],
)
def test_a_csv_file(house: Regressor, tmp_path: Path, text: str) -> None:
    found = house(table(tmp_path, text))
    assert found.values[:, 0].tolist() == PRICES
    assert [report.missing for report in found.reports] == [(), ("rooms",), (), ("city",)]
    assert house(str(table(tmp_path, text.replace(",", "\t"), "rows.tsv"))).values[:, 0].tolist() == PRICES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("area,rooms,city\n", "has no rows"),
        ("area,rooms\n1,2\n", "lacks the columns 'city'"),
        ("area,rooms,city,lift\n1,2,Oslo,1\n", "has the columns 'lift'"),
        ("area,rooms,city,city\n1,2,Oslo,Oslo\n", "has the column 'city' twice"),
        ("area,rooms,city\n1,2\n", "line 2 has 2 cells; its first line has 3"),
        ("area,rooms,city\n1,2,Oslo\nlarge,2,Oslo\n", "Row 2, column 'area': the value is 'large'"),
        ("area,rooms,city\ninf,2,Oslo\n", "Row 1, column 'area': the value is infinite"),
        ("area,rooms,city\n1e999,2,Oslo\n", "Row 1, column 'area': the value is infinite"),
        ("area,rooms,city\n1_000,2,Oslo\n", "'1_000'; a number"),
        ("area,rooms,city\n,2,Oslo\n", "Row 1, column 'area': the value is missing"),
        ("area,rooms,city\n1,99999999999999999999999,Oslo\n", "column 'rooms'"),
        ('area,rooms,city\n1,2,"Oslo\n', "cannot be read as a table"),
        (b"area,rooms,city\n1,2,\xff\n", "no valid UTF-8"),
        ("area,rooms,city\n1,2," + "x" * 2_000_000, "more than 1,048,576 characters"),
    ],
)
def test_what_is_no_table_is_refused(house: Regressor, tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(TableError, match=words):
        house(table(tmp_path, text))


def test_no_file_is_refused(house: Regressor, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.csv", "is not there"), (tmp_path, "is a folder"), ("\0.csv", "is not there")):
        with pytest.raises(TableError, match=words):
            house(path)
    with pytest.raises(TableError, match="a table ends in"):
        house(table(tmp_path, "area", "rows.xlsx"))


def test_unseen_categories_are_refused_where_the_pipeline_does() -> None:
    strict = ColumnSpec("size", "category", "int64", unseen="error", categories=(3, 7.5, "3", True))
    encoder = TableEncoder(TabularPreprocessing((strict,)))
    # 3 is 3.0 and not "3"; True is 1, as everywhere in Python.
    assert [encoder.encode([value], 1)[0] for value in (3.0, np.int64(3), 7.5, "3", 1)] == [[0], [0], [1], [2], [3]]
    with pytest.raises(TableError, match="Row 9, column 'size': the value is 'x', which the model never saw"):
        encoder.encode(["x"], 9)


def test_dtypes() -> None:
    columns = (ColumnSpec("a", "number", "float32"), ColumnSpec("b", "number", "bool"))
    encoder = TableEncoder(TabularPreprocessing(columns))
    assert encoder.encode([0.1, True], 1)[0] == [float(np.float32(0.1)), 1.0]
    assert encoder.cells(["0.5", "false"], 1) == [0.5, False]
    for row, words in (([1e300, 1], "too large for float32"), ([1, 2], "true or false")):
        with pytest.raises(TableError, match=words):
            encoder.encode(row, 1)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)


@given(st.lists(anything, max_size=5) | st.dictionaries(st.sampled_from(["area", "rooms", "city", "x"]), anything))
def test_any_row_is_numbers_and_a_report_or_a_table_error(row: Any) -> None:
    encoder = TableEncoder(TabularPreprocessing(tiny_numbers.COLUMNS))
    try:
        found, report = encoder.encode(row, 1)
    except TableError as error:
        assert "Row 1" in str(error)  # noqa: PT017 - an error is one of two right outcomes
        return
    values = list(row.values()) if isinstance(row, dict) else row
    assert len(found) == 3
    assert all(math.isfinite(value) for value in found)
    assert len(report.missing) == sum(value is None or value != value for value in values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=3, max_size=3))
def test_numbers_go_through_unchanged_in_every_form(values: list[float]) -> None:
    columns = tuple(ColumnSpec(name, "number") for name in "abc")
    encoder = TableEncoder(TabularPreprocessing(columns))
    forms: list[Any] = [values, tuple(values), dict(zip("cba", reversed(values), strict=True)), np.array(values)]
    forms.append(encoder.cells([repr(value) for value in values], 1))
    assert [encoder.encode(form, 1)[0] for form in forms] == [values] * len(forms)


def test_a_classifier_of_rows(tmp_path: Path) -> None:
    with load(tiny_numbers.classification_bundle(tmp_path / "tiny-dear")) as model:
        assert isinstance(model, TableClassifier)
        found = model(ROWS, top_k=1)
        assert [item.label for item in found] == ["dear"] * 4
        assert [item.score for item in found] == PRICES
        one = model(ROWS[0])
        assert one.labels == ("dear", "cheap")
        assert one.scores == (PRICES[0], -PRICES[0])
        assert [item.label for item in model.stream(ROWS[:2])] == ["dear", "dear"]
        assert (model.family, model.task, model.modality) == ("general", "tabular-classification", "tabular")


def test_it_verifies_and_tunes(house_bundle: Path) -> None:
    report: Report = verify(house_bundle)
    assert report.held
    assert {check.batching for check in report.checks} == {"alone", "mixed", "batch"}
    tuned = tune(house_bundle, "throughput", time_limit=2)
    assert tuned.plan.row_budget in (1, 64, 1024)
    with load(house_bundle, batch_invariant=True) as model:
        assert model.plan.batch_invariant
        assert model(ROWS).values[:, 0].tolist() == PRICES


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (ColumnSpec("area", "number"), "is there twice"),
        (ColumnSpec("b", "number", "string"), "a dtype of numbers"),
        (ColumnSpec("b", "number", categories=("x",)), "no categories"),
        (ColumnSpec("b", "category", categories=("x", "x")), "a category twice"),
        (ColumnSpec("b", "number", missing="fill"), "a value to fill"),
        (ColumnSpec("b", "number", fill=3), "a value to fill"),
        (ColumnSpec("b", "number", missing="fill", fill="x"), "a finite number"),
    ],
)
def test_contradictory_columns_are_refused(tmp_path: Path, column: ColumnSpec, words: str) -> None:
    from msgspec.structs import replace

    bundle = tiny_numbers.regression_bundle(tmp_path / "b")
    table = TabularPreprocessing((*tiny_numbers.COLUMNS, column))
    reseal(bundle, lambda m: replace(m, preprocessing=replace(m.preprocessing, tabular=table)))
    with pytest.raises(ManifestError, match=words):
        open_bundle(bundle)


def test_a_task_needs_its_own_parts(tmp_path: Path) -> None:
    from msgspec.structs import replace

    bundle = tiny_numbers.regression_bundle(tmp_path / "b")
    sealed = read_manifest(bundle)
    for changed, words in (
        (replace(sealed, family="embedding"), "one of general models"),
        (replace(sealed, postprocessing=ClassificationOutput("price", "none", ("a",))), "of type 'regression'"),
        (replace(sealed, preprocessing=replace(sealed.preprocessing, tabular=None)), "needs preprocessing.tabular"),
    ):
        (bundle / "bundle.json").write_bytes(encode(changed))
        with pytest.raises(ManifestError, match=words):
            open_bundle(bundle)


def run(*arguments: str) -> Any:
    testing = pytest.importorskip("typer.testing")
    return testing.CliRunner().invoke(build_app(), ["run", *arguments])


def test_the_command_line_takes_files_and_json(house_bundle: Path, tmp_path: Path) -> None:
    path = table(tmp_path, "area,rooms,city\n40.5,2,Oslo\n12,1,Ghent\n")
    done = run(str(house_bundle), str(path), json.dumps(ROWS[1]), "[1, 2]", "5", "--json")
    first, second, third, fourth, fifth = map(json.loads, done.stdout.splitlines())
    assert first["predictions"] == {"price": PRICES[0]}
    assert first["units"] == {"price": "EUR"}
    assert second["lost"] == {"unseen": ["city"]}
    assert third["predictions"] == {"price": PRICES[1]}
    assert "2 values" in fourth["error"]
    assert "is not there" in fifth["error"]
    assert done.exit_code == 1
    shown = run(str(house_bundle), str(path)).stdout
    assert "price EUR" in shown
    assert "categories never seen: city" in shown


def test_options_of_other_tasks_are_refused(house_bundle: Path) -> None:
    for option in (["--horizon", "2"], ["--level", "0.9"], ["--prompt", "query"]):
        assert "goes with" in str(run(str(house_bundle), "[1, 2, 3]", *option).exception)


def test_inspect_shows_the_columns(house_bundle: Path) -> None:
    testing = pytest.importorskip("typer.testing")
    shown = testing.CliRunner().invoke(build_app(), ["inspect", str(house_bundle)]).stdout
    assert "area: number (float64) in m²" in shown
    assert "2 categories, unseen: pass" in shown
    assert "price EUR" in shown
