"""Voices, measured: how long each text takes beside how long it is heard, and until its first sound.

Variants alternate in rounds, each saying every text once a round as a whole, and once as a stream up to its first
sentence. `docs/bench.md` describes the record.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from sanderling.bundle import Bundle
from sanderling.errors import BenchError
from sanderling.tasks.text_to_speech import Voice
from sanderling_bench.envelope import Envelope
from sanderling_bench.inputs import Inputs
from sanderling_bench.measure import Plan
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

TASK = "text-to-speech"
FORMAT, VERSION = "sanderling-bench-voice", 1


class Said(Taken, frozen=True, kw_only=True):
    """One text said: besides, seconds until the first sound."""

    first_sound: Seconds


class VoiceSummary(Struct, frozen=True):
    """Of one variant: the real-time factor of each round (seconds it took a second of sound) as median, least and
    greatest; and the time to the first sound, percentiles null where the samples do not support them."""

    real_time_factor: float
    least: float
    greatest: float
    first_sound_p50: float | None
    first_sound_p90: float | None


class VoiceRecord(RoundRecord, frozen=True):
    """What was measured, sample by sample, and the summary made of it."""

    settings: RoundSettings
    samples: dict[str, tuple[Said, ...]]
    summary: dict[str, VoiceSummary]


ENVELOPE = Envelope(VoiceRecord, FORMAT, VERSION, BenchError, "voice benchmark", "measure")


def measure(bundle: Bundle, texts: Inputs, plan: Plan, progress: Progress | None = None) -> VoiceRecord:
    """Let each of the plan's variants say all texts once a round, one after the other, and the first one once before,
    uncounted.

    Of the plan, variants, provider, threads and rounds are meant. Raises BenchError: rounds below 1, texts of which
    nothing is heard; MissingExtraError; and what loading and speaking raise.
    """
    with opened(bundle, plan) as voices:
        for voice in voices.values():
            voice(texts.items[0])
        samples = in_rounds(voices, texts, plan.rounds, _said, progress)
        settings = RoundSettings(**asked(voices, texts, plan))
    return VoiceRecord(
        **begun(bundle, FORMAT, VERSION),
        settings=settings,
        samples=samples,
        summary={name: summarized(taken) for name, taken in samples.items()},
    )


def summarized(taken: Sequence[Said]) -> VoiceSummary:
    """The figures of one variant's samples. Raises BenchError where nothing is heard."""
    factors = real_time_factors(taken)
    first = [one.first_sound for one in taken if one.lasts]
    return VoiceSummary(
        median(factors), min(factors), max(factors), percentile(first, 0.5), percentile(first, 0.9)
    )  # fmt: skip


def show(made: VoiceRecord, console: Console) -> None:
    """The summary as a table."""
    console.print(heading(made, made.settings, "texts"), markup=False)
    table = Table("variant", "real-time factor", "first sound p50", "p90")
    for name, one in made.summary.items():
        table.add_row(
            name,
            f"{one.real_time_factor:.3f} ({one.least:.3f} to {one.greatest:.3f})",
            *("-" if value is None else f"{value:.3f} s" for value in (one.first_sound_p50, one.first_sound_p90)),
        )
    console.print(table)


def _said(voice: Voice, number: int, place: int, text: str) -> Said:
    begin = time.perf_counter()
    whole = voice(text)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    stream = voice.stream(text)
    next(stream, None)
    first = time.perf_counter() - begin
    stream.close()
    return Said(number, place, seconds, whole.seconds, first_sound=first)
