"""What the measurements of models that hear and of voices share: rounds of variants that alternate, and real-time
factors of sound that lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from sanderling.bundle import Bundle
from sanderling.choices import choose_variant
from sanderling.errors import BenchError
from sanderling.loading import load
from sanderling_bench import record
from sanderling_bench.inputs import Inputs
from sanderling_bench.machine import Machine, this_machine
from sanderling_bench.measure import Plan
from sanderling_bench.record import BundleId
from sanderling_bench.scenario import alternate

M = TypeVar("M")
S = TypeVar("S")

Progress = Callable[[str, int, int], None]
Seconds = Annotated[float, Meta(ge=0.0)]


class Taken(Struct, frozen=True):
    """One input of one round: its index, seconds in all, and how long its sound lasts."""

    round: int
    input: int
    seconds: Seconds
    lasts: Seconds


class RoundSettings(Struct, frozen=True):
    """What was asked for; `inputs_digest` as in a record of `bench`."""

    variants: tuple[str, ...]
    provider: str
    threads: int
    rounds: int
    inputs: int
    inputs_digest: str
    inputs_from: str


class RoundRecord(Struct, frozen=True):
    """What every record of rounds begins with."""

    format: str
    version: int
    created: str
    bundle: BundleId
    machine: Machine
    versions: dict[str, str]


@contextmanager
def opened(bundle: Bundle, plan: Plan) -> Iterator[dict[str, Any]]:
    """The models of the plan's variants, or of all, by name. Raises BenchError for rounds below 1."""
    if plan.rounds < 1:
        raise BenchError(f"rounds is {plan.rounds}; a whole number of at least 1 was expected.")
    names = tuple(dict.fromkeys(choose_variant(bundle, name) for name in plan.variants)) or bundle.manifest.variants
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(load(bundle.path, variant=name, provider=plan.provider, threads=plan.threads))
            for name in names
        }


def in_rounds(
    models: Mapping[str, M],
    inputs: Inputs,
    rounds: int,
    take: Callable[[M, int, int, Any], S],
    progress: Progress | None,
) -> dict[str, tuple[S, ...]]:
    """What `take` makes of a model, the round, an input's index and the input: each model takes all inputs once a
    round."""
    samples: dict[str, list[S]] = {name: [] for name in models}
    for done, (number, name) in enumerate(alternate(rounds, tuple(models))):
        if progress is not None:
            progress(f"{name}: round {number + 1}", done, rounds * len(models))
        samples[name] += [take(models[name], number, place, item) for place, item in enumerate(inputs.items)]
    return {name: tuple(taken) for name, taken in samples.items()}


def asked(models: Mapping[str, Any], inputs: Inputs, plan: Plan) -> dict[str, Any]:
    """The fields of RoundSettings."""
    threads = next(iter(models.values())).threads
    settings = RoundSettings(
        tuple(models), plan.provider, threads, plan.rounds, len(inputs.items), inputs.digest, inputs.source
    )
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def begun(bundle: Bundle, kind: str, version: int) -> dict[str, Any]:
    """The fields of RoundRecord, of a record made now."""
    made = RoundRecord(
        kind,
        version,
        datetime.now(UTC).isoformat(timespec="seconds"),
        BundleId(bundle.manifest.name, bundle.manifest.task, bundle.digest),
        this_machine(),
        record.versions(),
    )
    return {name: getattr(made, name) for name in made.__struct_fields__}


def real_time_factors(taken: Sequence[Taken]) -> list[float]:
    """Seconds it took for each second of sound, of every round. Raises BenchError where no sound lasts."""
    factors = []
    for number in sorted({one.round for one in taken}):
        of_round = [one for one in taken if one.round == number]
        lasts = sum(one.lasts for one in of_round)
        if not lasts:
            raise BenchError("Nothing of the texts or sounds is heard; give others, in the language of the model.")
        factors.append(sum(one.seconds for one in of_round) / lasts)
    return factors


def heading(made: RoundRecord, settings: RoundSettings, noun: str) -> str:
    """What stands above the table of a record."""
    return (
        f"{made.bundle.name} on {settings.provider}, {settings.threads} threads: {settings.inputs} {noun} "
        f"({settings.inputs_from}), {settings.rounds} rounds"
    )
