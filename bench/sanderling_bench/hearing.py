"""Models that hear, measured: how long each sound takes beside how long it lasts, until its first word, and its errors.

Variants alternate in rounds, each hearing every sound once a round. `docs/bench.md` describes the record.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from rich.console import Console
from rich.table import Table

from sanderling.bundle import Bundle
from sanderling.choices import choose_variant
from sanderling.errors import BenchError
from sanderling.loading import load
from sanderling_bench import record
from sanderling_bench.envelope import Envelope
from sanderling_bench.inputs import Inputs
from sanderling_bench.machine import Machine, this_machine
from sanderling_bench.measure import Plan
from sanderling_bench.recognizing import Recognizer, transcript
from sanderling_bench.record import BundleId
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import median, percentile
from sanderling_bench.words import word_errors

FORMAT, VERSION = "sanderling-bench-speech", 1
# Beside the sounds of a folder: what is said in each, by the columns `file` and `text`.
TRANSCRIPTS = "transcripts.tsv"

Progress = Callable[[str, int, int], None]
Seconds = Annotated[float, Meta(ge=0.0)]


class Heard(Struct, frozen=True):
    """One sound written down: its round and index, seconds in all and until the first token, and how long it lasts."""

    round: int
    input: int
    seconds: Seconds
    first_word: Seconds
    lasts: Seconds


class SpeechSettings(Struct, frozen=True):
    """What was asked for; `inputs_digest` as in a record of `bench`."""

    variants: tuple[str, ...]
    provider: str
    threads: int
    rounds: int
    inputs: int
    inputs_digest: str
    inputs_from: str
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


class SpeechRecord(Struct, frozen=True):
    """What was measured, sample by sample, and the summary made of it."""

    format: str
    version: int
    created: str
    bundle: BundleId
    machine: Machine
    versions: dict[str, str]
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
    if plan.rounds < 1:
        raise BenchError(f"rounds is {plan.rounds}; a whole number of at least 1 was expected.")
    names = tuple(dict.fromkeys(choose_variant(bundle, name) for name in plan.variants)) or bundle.manifest.variants
    with ExitStack() as stack:
        models: dict[str, Recognizer] = {}
        for name in names:
            model = stack.enter_context(load(bundle.path, variant=name, provider=plan.provider, threads=plan.threads))
            assert isinstance(model, Recognizer)  # of this task there are no others
            models[name] = model
        texts = {
            name: tuple(transcript(model, item, language).text for item in sounds.items)
            for name, model in models.items()
        }
        wrong = {name: None if said is None else word_errors(texts[name], said).rate for name in names}
        samples: dict[str, list[Heard]] = {name: [] for name in names}
        for done, (number, name) in enumerate(alternate(plan.rounds, names)):
            if progress is not None:
                progress(f"{name}: round {number + 1}", done, plan.rounds * len(names))
            for place, item in enumerate(sounds.items):
                found = transcript(models[name], item, language)
                timing = found.timing
                samples[name].append(Heard(number, place, timing.total, timing.first_token, found.report.seconds))
        used = models[names[0]].threads
    settings = SpeechSettings(
        names, plan.provider, used, plan.rounds, len(sounds.items), sounds.digest, sounds.source, language
    )
    return SpeechRecord(
        format=FORMAT,
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=BundleId(bundle.manifest.name, bundle.manifest.task, bundle.digest),
        machine=this_machine(),
        versions=record.versions(),
        settings=settings,
        samples={name: tuple(taken) for name, taken in samples.items()},
        transcripts=texts,
        summary={name: summarized(samples[name], wrong[name]) for name in names},
    )


def summarized(taken: Sequence[Heard], wrong: float | None) -> SpeechSummary:
    """The figures of one variant's samples; `wrong` is its share of wrong words, where that is known."""
    factors = []
    for number in sorted({one.round for one in taken}):
        of_round = [one for one in taken if one.round == number]
        factors.append(sum(one.seconds for one in of_round) / sum(one.lasts for one in of_round))
    first = [one.first_word for one in taken]
    return SpeechSummary(
        median(factors), min(factors), max(factors), percentile(first, 0.5), percentile(first, 0.9), wrong
    )  # fmt: skip


def show(made: SpeechRecord, console: Console) -> None:
    """The summary as a table."""
    settings = made.settings
    console.print(
        f"{made.bundle.name} on {settings.provider}, {settings.threads} threads: {settings.inputs} sounds "
        f"({settings.inputs_from}), {settings.rounds} rounds",
        markup=False,
    )
    table = Table("variant", "real-time factor", "first word p50", "p90", "wrong words")
    for name, one in made.summary.items():
        table.add_row(
            name,
            f"{one.real_time_factor:.3f} ({one.least:.3f} to {one.greatest:.3f})",
            *("-" if value is None else f"{value:.2f} s" for value in (one.first_word_p50, one.first_word_p90)),
            "-" if one.word_error_rate is None else f"{one.word_error_rate:.1%}",
        )
    console.print(table)
