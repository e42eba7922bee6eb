"""Files of labelled rows: TSV, CSV or JSON lines, read line by line and bounded; what is wrong is named by its line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sanderling.errors import EvalError

MAX_FILE_BYTES = 4 * 2**30
MAX_LINE_BYTES = 16 * 2**20
MAX_ROWS = 5_000_000
MAX_COLUMNS = 1000
SUFFIXES = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins at, counting from 1, and its cells by column; a JSON null is no cell."""

    line: int
    cells: dict[str, str]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file, its format known by the ending of its name; empty lines are passed over.

    The first line of `.tsv` and `.csv` names the columns. TSV knows no quotes: a tab ends a cell, whatever stands
    around it (IANA text/tab-separated-values); CSV is that of RFC 4180; JSON lines have one flat object a line.
    Raises EvalError: no such file, of another kind, not UTF-8, too large, or a row that does not fit.
    """
    form = SUFFIXES.get(path.suffix.lower())
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise EvalError(f"{path} {what}; a file of rows was expected ({', '.join(SUFFIXES)}).")
    if form is None:
        raise EvalError(
            f"{path} ends in {path.suffix or 'nothing'!r}; its format is known by {', '.join(SUFFIXES)}. Rename it."
        )
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise EvalError(f"{path} has {size:,} bytes; a data file has at most {MAX_FILE_BYTES:,}. Split it.")
    reader = {"tsv": _tsv, "csv": _csv, "jsonl": _jsonl}[form]
    for count, row in enumerate(reader(path)):
        if count == MAX_ROWS:
            raise _wrong(path, row.line, f"there are more than {MAX_ROWS:,} rows. Split the file")
        yield row


def pick(path: Path, row: Row, role: str, names: Sequence[str]) -> str:
    """The cell of `row` under the first of `names` that it has. Raises EvalError: none of them."""
    for name in names:
        if name in row.cells:
            return row.cells[name]
    met = list(row.cells)
    shown = ", ".join(map(_quoted, met[:_SHOWN])) + (", ..." if len(met) > _SHOWN else "")
    raise EvalError(
        f"{path}, line {row.line}: there is no {' or '.join(map(_quoted, names))}; the columns are {shown or 'none'}. "
        f"Say which it is with: --column {role}=NAME"
    )


def number(path: Path, row: Row, role: str, names: Sequence[str]) -> float:
    """The finite number in the cell that `pick` finds. Raises EvalError: not a number, NaN, or infinite."""
    cell = pick(path, row, role, names)
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):  # NaN compares as false
        raise _wrong(path, row.line, f"the {role} is {_quoted(cell)}; a finite number was expected")
    return value


def names_of(roles: Mapping[str, tuple[str, ...]], given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns that may hold each role: those `given` by the user, else the usual ones. Raises EvalError."""
    for role in given:
        if role not in roles:
            raise EvalError(f"--column {role}={given[role]}: this data has {', '.join(roles)}, not {role!r}.")
    return {role: (given[role],) if role in given else names for role, names in roles.items()}


def columns(path: Path, roles: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The column of each role, as the first row has them; of one that it has not, the first of its names."""
    first = next(rows(path), None)
    cells = {} if first is None else first.cells
    return {role: next((name for name in names if name in cells), names[0]) for role, names in roles.items()}


def counted(path: Path, cases: Iterable[object], model: str, roles: Mapping[str, tuple[str, ...]]) -> int:
    """How many cases there are. Raises EvalError where there is none, with the columns that `model` wants."""
    count = sum(1 for _ in cases)
    if not count:
        wanted = ", ".join(" or ".join(names) for names in roles.values())
        raise EvalError(f"{path} has no rows. For {model} the columns are: {wanted}.")
    return count


def _wrong(path: Path, line: int, what: str) -> EvalError:
    return EvalError(f"{path}, line {line}: {what}.")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number and its end, as text."""
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise _wrong(path, number, f"it has more than {MAX_LINE_BYTES:,} bytes; a text file was expected")
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise _wrong(
                        path, number, f"it is no valid UTF-8 (byte {error.start} of the line); convert it first"
                    ) from error
    except OSError as error:
        raise EvalError(f"{path} cannot be read: {error.strerror or error}.") from error


def _tsv(path: Path) -> Iterator[Row]:
    lines = ((number, line.rstrip("\r\n")) for number, line in _lines(path))
    return _with_header(path, ((number, line.split("\t")) for number, line in lines if line))


def _csv(path: Path) -> Iterator[Row]:
    return _with_header(path, _csv_records(path))


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    begin = 1
    try:
        for cells in reader:
            if cells:
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise _wrong(path, begin, f"it is no valid CSV ({error}); JSON lines take any text") from error


def _with_header(path: Path, records: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    line, header = next(records, (1, []))
    header = [name.strip() for name in header]
    if len(header) > MAX_COLUMNS:
        raise _wrong(path, line, f"it names {len(header):,} columns; at most {MAX_COLUMNS:,} are read")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise _wrong(path, line, f"it names the column {_quoted(twice)} more than once")
    for line, cells in records:
        if len(cells) != len(header):
            raise _wrong(path, line, f"it has {len(cells)} cells; the first line names {len(header)} columns")
        yield Row(line, dict(zip(header, cells, strict=True)))


def _jsonl(path: Path) -> Iterator[Row]:
    for line, text in _lines(path):
        if not text.strip():
            continue
        try:
            found = msgspec.json.decode(text.encode(), type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _wrong(path, line, f"it is no JSON object ({error})") from error
        if len(found) > MAX_COLUMNS:
            raise _wrong(path, line, f"it has {len(found):,} fields; at most {MAX_COLUMNS:,} are read")
        # Fields that nobody asks for may hold anything.
        yield Row(line, {name: _cell(value) for name, value in found.items() if isinstance(value, str | int | float)})


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else repr(value)
