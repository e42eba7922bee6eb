"""The record of an evaluation, version 1: every case's truth and answers, and apart from them the scores.

`docs/eval.md` describes the fields. Unknown fields are ignored; an unknown version is refused.
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

from msgspec import Meta, Struct

from sanderling.errors import EvalError
from sanderling_bench import record
from sanderling_bench.envelope import Envelope
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
    """What was evaluated on. `kind` is classification, pairs, retrieval, regression, forecast, captions, answers,
    continuation or transcripts; `cases` were answered.

    `lines` has the line of each case (of each query) in the first file. `cut` counts the texts of which the models
    saw only a part, and the sounds whose files have less than they promise.
    """

    kind: str
    files: tuple[DataFile, ...]
    columns: dict[str, str]
    cases: int
    lines: tuple[int, ...]
    cut: int


class EvalSettings(Struct, frozen=True):
    """What was asked for. `prompt` and `query_prompt` are the names of the prompts that were used.

    Of `dimensions` and `precisions` a variant has entries of its own, as "fp32:192:int8". `language` is what is spoken,
    as models that hear were told; null where they recognize it, or know one alone.
    """

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
    dimensions: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    language: str | None = None


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


ENVELOPE = Envelope(EvalRecord, FORMAT, VERSION, EvalError, "evaluation", "evaluate")
encode, decode, read, write = ENVELOPE.encode, ENVELOPE.decode, ENVELOPE.read, ENVELOPE.write


def versions() -> dict[str, str]:
    """Versions of Python, of what decides an answer, and of what the metrics are from."""
    return record.versions() | {
        name: metadata.version(name) for name in ("scikit-learn", "scipy", "sacrebleu", "jiwer")
    }
