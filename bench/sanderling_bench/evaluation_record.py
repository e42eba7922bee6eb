"""The record of an evaluation, version 1: every case's truth and answers, and apart from them the scores.

`docs/eval.md` describes the fields. Unknown fields are ignored; an unknown version is refused.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sanderling.errors import EvalError
from sanderling.storage import write_atomic
from sanderling_bench import record
from sanderling_bench.machine import Machine
from sanderling_bench.record import BundleId

FORMAT = "sanderling-eval"
VERSION = 1

Column = tuple[float | int | str, ...]


class DataFile(Struct, frozen=True):
    """One file that was read: `sha256` is of its bytes, `rows` counts all that it has."""

    path: str
    sha256: str
    rows: int


class Data(Struct, frozen=True):
    """What was evaluated on. `kind` is classification, pairs, retrieval or regression; `cases` were answered.

    `lines` has the line of each case (of each query) in the first file. `cut` counts the texts of which the models
    saw only a part.
    """

    kind: str
    files: tuple[DataFile, ...]
    columns: dict[str, str]
    cases: int
    lines: tuple[int, ...]
    cut: int


class EvalSettings(Struct, frozen=True):
    """What was asked for. `prompt` and `query_prompt` are the names of the prompts that were used."""

    variants: tuple[str, ...]
    metrics: tuple[str, ...]
    reference: str
    provider: str
    threads: int
    limit: int | None
    seed: int
    resamples: int
    prompt: str | None
    query_prompt: str | None


class Interval(Struct, frozen=True):
    """A figure, and the ends of its 95% interval over `resamples` draws in which it was defined; null if in none."""

    value: float
    low: float | None
    high: float | None
    resamples: int


class Score(Struct, frozen=True):
    """A metric of one variant; null where it is not defined. `difference` is the variant's less the reference's."""

    higher_is_better: bool
    value: Interval | None
    difference: Interval | None = None


class EvalRecord(Struct, frozen=True):
    """One evaluation. `truth` and `answers` (by variant) hold one entry a case, by column."""

    format: str
    version: Annotated[int, Meta(ge=1)]
    created: str
    bundle: BundleId
    machine: Machine
    versions: dict[str, str]
    settings: EvalSettings
    data: Data
    truth: dict[str, Column]
    answers: dict[str, dict[str, Column]]
    scores: dict[str, dict[str, Score]]


class _Header(Struct, frozen=True):
    format: str
    version: int


def encode(made: EvalRecord) -> bytes:
    """The record as JSON, UTF-8, in one line ending in a newline."""
    return msgspec.json.encode(made) + b"\n"


def decode(raw: bytes, where: str) -> EvalRecord:
    """Read a record; `where` names it in errors. Raises EvalError: not a record, or of a version not known here."""
    try:
        header = msgspec.json.decode(raw, type=_Header)
        if header.format != FORMAT:
            raise EvalError(f"{where} has the format {header.format[:80]!r}, expected {FORMAT!r}.")
        if header.version != VERSION:
            raise EvalError(
                f"{where} has record version {header.version}; this Sanderling reads version {VERSION}. "
                "Update it, or evaluate again."
            )
        return msgspec.json.decode(raw, type=EvalRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EvalError(f"{where} is no evaluation record: {error}. Evaluate again.") from error


def read(path: Path) -> EvalRecord:
    """The record in the file `path`. Raises EvalError if it cannot be read or is none."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise EvalError(f"{path} cannot be read: {error.strerror or error}.") from error
    return decode(raw, str(path))


def write(made: EvalRecord, path: Path) -> None:
    """Write the record to `path`, whole or not at all. Raises StorageError if it cannot be."""
    write_atomic(path, encode(made))


def versions() -> dict[str, str]:
    """Versions of Python, of what decides an answer, and of what the metrics are from."""
    return record.versions() | {name: metadata.version(name) for name in ("scikit-learn", "scipy")}
