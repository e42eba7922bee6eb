"""Voices, measured: how long each text takes beside how long it is heard, and until its first sound.

Variants alternate in rounds, each saying every text once a round as a whole, and once as a stream up to its first
sentence. `docs/bench.md` describes the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct
from rich.console import Console
from rich.table import Table

from sanderling.bundle import Bundle
from sanderling.choices import choose_variant
from sanderling.errors import BenchError
from sanderling.loading import load
from sanderling.tasks.text_to_speech import Voice
from sanderling_bench import record
from sanderling_bench.envelope import Envelope
from sanderling_bench.inputs import Inputs
from sanderling_bench.machine import Machine, this_machine
from sanderling_bench.measure import Plan
from sanderling_bench.record import BundleId
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import median, percentile

TASK = "text-to-speech"
FORMAT, VERSION = "sanderling-bench-voice", 1

Progress = Callable[[str, int, int], None]
Seconds = Annotated[float, Meta(ge=0.0)]


class Said(Struct, frozen=True):
    """One text said: its round and index, seconds in all and until the first sound, and how long it is heard."""

    round: int
    input: int
    seconds: Seconds
    first_sound: Seconds
    lasts: Seconds


class VoiceBenchSettings(Struct, frozen=True):
    """What was asked for; `inputs_digest` as in a record of `bench`."""

    variants: tuple[str, ...]
    provider: str
    threads: int
    rounds: int
    inputs: int
    inputs_digest: str
    inputs_from: str


class VoiceSummary(Struct, frozen=True):
    """Of one variant: the real-time factor of each round (seconds it took a second of sound) as median, least and
    greatest; and the time to the first sound, percentiles null where the samples do not support them."""

    real_time_factor: float
    least: float
    greatest: float
    first_sound_p50: float | None
    first_sound_p90: float | None


class VoiceRecord(Struct, frozen=True):
    """What was measured, sample by sample, and the summary made of it."""

    format: str
    version: int
    created: str
    bundle: BundleId
    machine: Machine
    versions: dict[str, str]
    settings: VoiceBenchSettings
    samples: dict[str, tuple[Said, ...]]
    summary: dict[str, VoiceSummary]


ENVELOPE = Envelope(VoiceRecord, FORMAT, VERSION, BenchError, "voice benchmark", "measure")


def measure(bundle: Bundle, texts: Inputs, plan: Plan, progress: Progress | None = None) -> VoiceRecord:
    """Let each of the plan's variants say all texts once a round, one after the other, and the first one once before,
    uncounted.

    Of the plan, variants, provider, threads and rounds are meant. Raises BenchError: rounds below 1, texts of which
    nothing is heard; MissingExtraError; and what loading and speaking raise.
    """
    if plan.rounds < 1:
        raise BenchError(f"rounds is {plan.rounds}; a whole number of at least 1 was expected.")
    names = tuple(dict.fromkeys(choose_variant(bundle, name) for name in plan.variants)) or bundle.manifest.variants
    with ExitStack() as stack:
        voices: dict[str, Voice] = {}
        for name in names:
            voice = stack.enter_context(load(bundle.path, variant=name, provider=plan.provider, threads=plan.threads))
            assert isinstance(voice, Voice)  # of this task there are no others
            voice(texts.items[0])
            voices[name] = voice
        samples: dict[str, list[Said]] = {name: [] for name in names}
        for done, (number, name) in enumerate(alternate(plan.rounds, names)):
            if progress is not None:
                progress(f"{name}: round {number + 1}", done, plan.rounds * len(names))
            samples[name] += [_said(voices[name], number, place, text) for place, text in enumerate(texts.items)]
        used = voices[names[0]].threads
    settings = VoiceBenchSettings(names, plan.provider, used, plan.rounds, len(texts.items), texts.digest, texts.source)
    return VoiceRecord(
        format=FORMAT,
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=BundleId(bundle.manifest.name, bundle.manifest.task, bundle.digest),
        machine=this_machine(),
        versions=record.versions(),
        settings=settings,
        samples={name: tuple(taken) for name, taken in samples.items()},
        summary={name: summarized(samples[name]) for name in names},
    )


def summarized(taken: Sequence[Said]) -> VoiceSummary:
    """The figures of one variant's samples. Raises BenchError where nothing is heard."""
    factors = []
    for number in sorted({one.round for one in taken}):
        of_round = [one for one in taken if one.round == number]
        lasts = sum(one.lasts for one in of_round)
        if not lasts:
            raise BenchError("Nothing of the texts is heard; give others, in the language of the voice.")
        factors.append(sum(one.seconds for one in of_round) / lasts)
    first = [one.first_sound for one in taken if one.lasts]
    return VoiceSummary(
        median(factors), min(factors), max(factors), percentile(first, 0.5), percentile(first, 0.9)
    )  # fmt: skip


def show(made: VoiceRecord, console: Console) -> None:
    """The summary as a table."""
    settings = made.settings
    console.print(
        f"{made.bundle.name} on {settings.provider}, {settings.threads} threads: {settings.inputs} texts "
        f"({settings.inputs_from}), {settings.rounds} rounds",
        markup=False,
    )
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
    return Said(number, place, seconds, first, whole.seconds)
