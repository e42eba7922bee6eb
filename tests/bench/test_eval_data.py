"""Labelled data of every format, and all that can be wrong with it, named by file and line."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st

from sanderling.bundle import open_bundle
from sanderling.errors import EvalError
from sanderling_bench import datasets
from sanderling_bench.datasets import rows
from sanderling_bench.labelled import Labelled, kind_of, sample
from sanderling_bench.retrieval import Retrieval

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    return [(row.line, row.cells) for row in rows(path)]


def test_tsv_takes_quotes_as_they_stand(write: Write) -> None:
    path = write("a.tsv", '\ufefftext\tlabel\r\n"half a quote\tcalm\r\n\r\n\twindy\n')
    assert cells(path) == [(2, {"text": '"half a quote', "label": "calm"}), (4, {"text": "", "label": "windy"})]


def test_csv_takes_commas_and_line_ends_in_quotes(write: Write) -> None:
    path = write("a.CSV", 'text,label\r\n"one, ""two""\nthree",calm\r\n\r\nfour,windy')
    assert cells(path) == [
        (2, {"text": 'one, "two"\nthree', "label": "calm"}),
        (5, {"text": "four", "label": "windy"}),
    ]


def test_json_lines_take_numbers_and_pass_over_what_is_not_flat(write: Write) -> None:
    path = write("a.jsonl", '{"text": "a\\tb", "score": 1.5, "label": 2, "none": null, "list": [1]}\n\n{"text": "c"}\n')
    assert cells(path) == [(1, {"text": "a\tb", "score": "1.5", "label": "2"}), (3, {"text": "c"})]


WRONG = {
    "cells.tsv": ("text\tlabel\na\tb\tc\n", "line 2: it has 3 cells; the first line names 2 columns"),
    "missing.csv": ("text,label\na\n", "line 2: it has 1 cells; the first line names 2 columns"),
    "twice.tsv": ("text\ttext\n", "line 1: it names the column 'text' more than once"),
    "quote.csv": ('text,label\n"open,calm\n', r"line 2: it is no valid CSV \(unexpected end of data\)"),
    "bytes.tsv": (b"text\tlabel\nb\xff\tcalm\n", r"line 2: it is no valid UTF-8 \(byte 1 of the line\)"),
    "list.jsonl": ("[1]\n", "line 1: it is no JSON object"),
    "cut.jsonl": ('{"text": "a"}\n{"text": \n', "line 2: it is no JSON object"),
    "deep.jsonl": ('{"a": ' + "[" * 100_000, "line 1: it is no JSON object"),
    "nan.jsonl": ('{"score": NaN}\n', "line 1: it is no JSON object"),
    "a.parquet": ("PAR1", "its format is known by .tsv, .csv, .jsonl"),
    "noending": ("", "ends in 'nothing'; its format is known by"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_named_by_its_line(write: Write, name: str) -> None:
    content, message = WRONG[name]
    path = write(name, content)
    with pytest.raises(EvalError, match=message) as raised:
        list(rows(path))
    assert str(path) in str(raised.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="is a folder; a file of rows was expected"):
        list(rows(tmp_path))
    with pytest.raises(EvalError, match="does not exist"):
        list(rows(tmp_path / "none.tsv"))


def test_sizes_are_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.tsv", "text\n" + "a" * 100 + "\nb\nc\n")
    monkeypatch.setattr(datasets, "MAX_LINE_BYTES", 50)
    with pytest.raises(EvalError, match="line 2: it has more than 50 bytes"):
        list(rows(path))
    monkeypatch.setattr(datasets, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(datasets, "MAX_ROWS", 2)
    with pytest.raises(EvalError, match="line 4: there are more than 2 rows"):
        list(rows(path))
    monkeypatch.setattr(datasets, "MAX_FILE_BYTES", 3)
    with pytest.raises(EvalError, match="has 110 bytes; a data file has at most 3"):
        list(rows(path))
    monkeypatch.setattr(datasets, "MAX_FILE_BYTES", 10**6)
    monkeypatch.setattr(datasets, "MAX_LINE_BYTES", 10**6)
    monkeypatch.setattr(datasets, "MAX_COLUMNS", 2)
    for name, content in (("wide.csv", "a,b,c\n"), ("wide.jsonl", '{"a": 1, "b": 2, "c": 3}\n')):
        with pytest.raises(EvalError, match="at most 2 are read"):
            list(rows(write(name, content)))
    with pytest.raises(EvalError, match="field larger than field limit"):
        list(rows(write("long.csv", "text\n" + "a" * 200_000 + "\n")))


def labelled(bundle: Path, path: Path, **columns: str) -> Labelled:
    opened = open_bundle(bundle)
    return Labelled(opened, kind_of(opened, path), path, columns)


def test_a_label_is_a_name_or_a_number(text_bundle: Path, write: Write) -> None:
    data = labelled(text_bundle, write("a.tsv", "sentence\tlabel\nthe sea\tstormy\na bird\t1\n"))
    assert data.check() == 2
    assert [(case.line, case.inputs, case.truth) for case in data.cases(2, None, 0)] == [
        (2, ("the sea",), 2),
        (3, ("a bird",), 1),
    ]
    assert data.columns() == {"text": "sentence", "label": "label"}


def test_a_name_that_two_labels_share_has_to_be_a_number(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_bundles, "LABELS", ("crane", "gull", "crane"))
    bundle = tiny_bundles.text_classification_bundle(tmp_path / "birds")
    with pytest.raises(EvalError, match="'crane' is the name of the labels 0 and 2 of this model; give the number"):
        labelled(bundle, write("a.tsv", "text\tlabel\na\tcrane\n")).check()
    assert labelled(bundle, write("b.tsv", "text\tlabel\na\t2\n")).check() == 1


def test_numbers_that_are_names_are_names(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_bundles, "LABELS", ("1", "2", "3"))
    bundle = tiny_bundles.text_classification_bundle(tmp_path / "stars")
    data = labelled(bundle, write("a.tsv", "text\tlabel\na\t3\n"))
    assert [case.truth for case in data.cases(data.check(), None, 0)] == [2]
    with pytest.raises(EvalError, match="'0' is none of this model's: 1, 2, 3"):
        labelled(bundle, write("b.tsv", "text\tlabel\na\t0\n")).check()


def test_rows_that_are_no_cases_are_refused(text_bundle: Path, write: Write) -> None:
    for content, message in (
        (
            "text\tlabel\na\tcalm\nb\tsunny\n",
            "line 3: the label 'sunny' is none of this model's: calm, windy, stormy, or",
        ),
        ("text\tlabel\na\t3\n", "line 2: the label '3' is none of this model's"),
        ("text\tlabel\na\t\n", "line 2: the label '' is none of this model's"),
        (
            "review\tlabel\na\tcalm\n",
            r"no column for text; it has review, label. For tiny-sentiment \(classification\) the columns are: text or",
        ),
        (
            "text\tmood\na\tcalm\n",
            "text or sentence, label. Tell other names with: --column label=NAME",
        ),
        ("text\tlabel\n", "has no rows below its first line, which names the columns. For tiny-sentiment"),
        ("", "has no rows"),
    ):
        with pytest.raises(EvalError, match=message):
            labelled(text_bundle, write("a.tsv", content)).check()
    lines = write("a.jsonl", '{"text": "a", "label": "calm"}\n{"text": "b", "label": null}\n')
    with pytest.raises(EvalError, match=r"line 2: there is no 'label'; the columns are 'text'\. Say which it is with"):
        labelled(text_bundle, lines).check()
    with pytest.raises(EvalError, match=r"none\.jsonl has no rows\. For"):
        labelled(text_bundle, write("none.jsonl", "\n")).check()


def test_columns_may_have_other_names(text_bundle: Path, write: Write) -> None:
    path = write("a.csv", "review,text,mood\ngood,other,calm\n")
    data = labelled(text_bundle, path, text="review", label="mood")
    assert [case.inputs for case in data.cases(data.check(), None, 0)] == [("good",)]
    assert data.columns() == {"text": "review", "label": "mood"}
    with pytest.raises(EvalError, match="--column score=mood: this data has text, label, not 'score'"):
        labelled(text_bundle, path, score="mood")


def test_numbers_of_any_length_are_read_or_refused(embedding_bundle: Path, write: Write) -> None:
    for digits in (30, 5000, 100_000):
        path = write("a.jsonl", '{"text1": "a", "text2": "b", "score": ' + "1" * digits + "}\n")
        if digits == 30:
            assert labelled(embedding_bundle, path).check() == 1
        else:
            with pytest.raises(EvalError, match=r"a\.jsonl, line 1: "):
                labelled(embedding_bundle, path).check()


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "-inf", "1e999"])
def test_scores_are_finite_numbers(embedding_bundle: Path, write: Write, score: str) -> None:
    path = write("a.tsv", f"text1\ttext2\tscore\na\tb\t1\na\tb\t{score}\n")
    with pytest.raises(EvalError, match=f"line 3: the score is '{score}'; a finite number was expected"):
        labelled(embedding_bundle, path).check()


def test_images_are_found_beside_the_data(image_bundle: Path, write: Write) -> None:
    write("data/pictures/a.png", tiny_bundles.png(tiny_bundles.PICTURE))
    data = labelled(image_bundle, path := write("data/a.tsv", "image\tlabel\npictures/a.png\tsea\n"))
    assert [case.inputs for case in data.cases(data.check(), None, 0)] == [(path.parent / "pictures/a.png",)]
    for missing in ("pictures/b.png", "", "a\0b", "x" * 5000):
        with pytest.raises(EvalError, match="line 2: there is no image"):
            labelled(image_bundle, write("data/b.tsv", f"image\tlabel\n{missing}\tsea\n")).check()


def test_a_limit_draws_rows_with_the_seed(text_bundle: Path, write: Write) -> None:
    content = "text\tlabel\n" + "".join(f"{n}\tcalm\n" for n in range(50))
    data = labelled(text_bundle, write("a.tsv", content))
    drawn = [[case.line for case in data.cases(50, 10, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0]))
    assert len(drawn[0]) == 10
    assert [case.line for case in data.cases(50, 50, 1)] == list(range(2, 52))
    assert sample(3, None, 0) is None


def test_a_file_that_changes_while_it_is_read_is_an_error(text_bundle: Path, write: Write) -> None:
    data = labelled(text_bundle, write("a.tsv", "text\tlabel\na\tcalm\nb\tcalm\n"))
    count = data.check()
    write("a.tsv", "text\tlabel\na\tcalm\n")
    with pytest.raises(EvalError, match="was changed while it was read"):
        list(data.cases(count, None, 0))


QUERIES = '{"_id": "q1", "text": "sea"}\n{"_id": "q2", "text": "bird"}\n'
CORPUS = "id\ttitle\ttext\nd1\tThe sea\tis wide\nd2\t\ta small bird\nd3\t\tthe edge\n"
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n"


def folder(write: Write, **changed: str | None) -> Path:
    contents = {"queries.jsonl": QUERIES, "corpus.tsv": CORPUS, "qrels/test.tsv": QRELS}
    for name, content in contents.items():
        given = changed.get(name.split(".")[0].split("/")[0], content)
        if given is not None:
            path = write(f"set/{name}", given)
    return path.parents[1] if path.parent.name == "qrels" else path.parent


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"qrels": None}, "has no qrels.jsonl or qrels/test.jsonl"),
        ({"corpus": None}, "has no corpus.jsonl"),
        ({"corpus": "id\ttext\nd1\tsea\n"}, "has 1 documents; ranking needs at least 2"),
        ({"corpus": "id\ttext\nd1\tsea\nd1\tsea\n"}, "line 3: the id 'd1' was there before"),
        ({"corpus": "id\tbody\nd1\tsea\n"}, "line 2: there is no 'text'"),
        ({"queries": ""}, "has no rows"),
        ({"queries": '{"text": "sea"}\n'}, "there is no '_id' or 'id'"),
        ({"qrels": QRELS + "q3\td1\t1\n"}, "line 4: there is no 'q3' in queries.jsonl"),
        ({"qrels": QRELS + "q1\td9\t1\n"}, "line 4: there is no 'd9' in corpus.tsv"),
        ({"qrels": QRELS + "q1\td1\t1\n"}, "line 4: 'q1' and 'd1' are judged twice"),
        ({"qrels": QRELS + "q2\td1\t-1\n"}, "line 4: the relevance is -1.0; at least 0"),
        ({"qrels": QRELS + "q2\td1\tnan\n"}, "line 4: the relevance is 'nan'; a finite number"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, "judges no document relevant"),
    ],
)
def test_a_retrieval_that_does_not_fit_is_refused(
    embedding_bundle: Path, write: Write, changed: dict[str, str | None], message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        Retrieval(open_bundle(embedding_bundle), folder(write, **changed), {})


def test_a_retrieval_counts_its_rows(embedding_bundle: Path, write: Write) -> None:
    data = Retrieval(open_bundle(embedding_bundle), folder(write), {})
    assert {path.name: count for path, count in data.counts.items()} == {
        "queries.jsonl": 2,
        "corpus.tsv": 3,
        "test.tsv": 2,
    }


@given(st.binary(max_size=200), st.sampled_from(sorted(datasets.SUFFIXES)))
def test_any_bytes_are_rows_or_an_error_of_ours(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        found: list[tuple[int, dict[str, str]]] = []
        with contextlib.suppress(EvalError):
            found = cells(path)
        assert all(isinstance(cell, str) for _, row in found for cell in row.values())
        assert [line for line, _ in found] == sorted({line for line, _ in found})
