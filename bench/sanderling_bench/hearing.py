"""Models that hear, measured: how long each sound takes beside how long it lasts, until its first word, and its errors.

Variants alternate in rounds, each hearing every sound once a round. `docs/bench.md` describes the record.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from sanderling.bundle import Bundle
from sanderling.errors import BenchError
from sanderling_bench.envelope import Envelope
from sanderling_bench.inputs import Inputs
from sanderling_bench.measure import Plan
from sanderling_bench.recognizing import Recognizer, transcript
from sanderling_bench.sounding import (
    Progress,
    RoundRecord,
    RoundSettings,
    Seconds,
    Taken,
    asked,
    begun,
    heading,
    in_rounds,
    opened,
    real_time_factors,
)
from sanderling_bench.statistics import median, percentile
from sanderling_bench.words import word_errors

FORMAT, VERSION = "sanderling-bench-speech", 1
# Beside the sounds of a folder: what is said in each, by the columns `file` and `text`.
TRANSCRIPTS = "transcripts.tsv"


class Heard(Taken, frozen=True, kw_only=True):
    """One sound written down: besides, seconds until the first token."""

    first_word: Seconds


class SpeechSettings(RoundSettings, frozen=True, kw_only=True):
    """What was asked for, and the language that is spoken."""

    language: str | None


class SpeechSummary(Struct, frozen=True):
    """Of one variant: the real-time factor of each round (seconds it took a second of sound) as median, least and
    greatest; the time to the first word, percentiles null where the samples do not support them; and the share of
    words that are wrong, null where what is said is not known."""

    real_time_factor: float
    least: float
    greatest: float
    first_word_p50: float | None
    first_word_p90: float | None
    word_error_rate: float | None


class SpeechRecord(RoundRecord, frozen=True):
    """What was measured, sample by sample, and the summary made of it."""

    settings: SpeechSettings
    samples: dict[str, tuple[Heard, ...]]
    transcripts: dict[str, tuple[str, ...]]
    summary: dict[str, SpeechSummary]


ENVELOPE = Envelope(SpeechRecord, FORMAT, VERSION, BenchError, "speech benchmark", "measure")


def transcripts_of(paths: Sequence[Path], count: int) -> tuple[str, ...] | None:
    """What is said in the sounds of one folder, in their order; None where it has no `transcripts.tsv`.

    Raises BenchError: one that does not have each of the folder's sounds.
    """
    if len(paths) != 1 or not (paths[0] / TRANSCRIPTS).is_file():
        return None
    try:
        with (paths[0] / TRANSCRIPTS).open(encoding="utf-8", newline="") as file:
            said = {row["file"]: row["text"] for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise BenchError(
            f"{paths[0] / TRANSCRIPTS} cannot be read: {error}. It has the columns file and text, with tabs between."
        ) from error
    found = tuple(said[name] for name in sorted(said))
    if len(found) != count:
        raise BenchError(f"{paths[0] / TRANSCRIPTS} has {len(found)} sounds, and its folder {count}; name each once.")
    return found


def measure(
    bundle: Bundle,
    sounds: Inputs,
    plan: Plan,
    *,
    language: str | None = None,
    said: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> SpeechRecord:
    """Let each of the plan's variants hear all sounds once a round, one after the other, and once before uncounted.

    Of the plan, variants, provider, threads and rounds are meant; `said` is what is said in each sound. Raises
    BenchError: rounds below 1, a language where there is none to choose; MissingExtraError; and what loading and
    hearing raise.
    """

    def take(model: Recognizer, number: int, place: int, item: Any) -> Heard:
        found = transcript(model, item, language)
        timing = found.timing
        return Heard(number, place, timing.total, found.report.seconds, first_word=timing.first_token)

    with opened(bundle, plan) as models:
        texts = {
            name: tuple(transcript(model, item, language).text for item in sounds.items)
            for name, model in models.items()
        }
        wrong = {name: None if said is None else word_errors(texts[name], said).rate for name in models}
        samples = in_rounds(models, sounds, plan.rounds, take, progress)
        settings = SpeechSettings(**asked(models, sounds, plan), language=language)
    return SpeechRecord(
        **begun(bundle, FORMAT, VERSION),
        settings=settings,
        samples=samples,
        transcripts=texts,
        summary={name: summarized(samples[name], wrong[name]) for name in samples},
    )


def summarized(taken: Sequence[Heard], wrong: float | None) -> SpeechSummary:
    """The figures of one variant's samples; `wrong` is its share of wrong words, where that is known."""
    factors = real_time_factors(taken)
    first = [one.first_word for one in taken]
    return SpeechSummary(
        median(factors), min(factors), max(factors), percentile(first, 0.5), percentile(first, 0.9), wrong
    )  # fmt: skip


def show(made: SpeechRecord, console: Console) -> None:
    """The summary as a table."""
    console.print(heading(made, made.settings, "sounds"), markup=False)
    table = Table("variant", "real-time factor", "first word p50", "p90", "wrong words")
    for name, one in made.summary.items():
        table.add_row(
            name,
            f"{one.real_time_factor:.3f} ({one.least:.3f} to {one.greatest:.3f})",
            *("-" if value is None else f"{value:.2f} s" for value in (one.first_word_p50, one.first_word_p90)),
            "-" if one.word_error_rate is None else f"{one.word_error_rate:.1%}",
        )
    console.print(table)
