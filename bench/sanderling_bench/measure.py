"""One run of the bench: every variant of a bundle in every scenario, alternating in rounds, to one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sanderling.bundle import Bundle
from sanderling.choices import choose_variant
from sanderling.commands.drift import variant_size
from sanderling.errors import BenchError
from sanderling.loading import load
from sanderling.model import Answers, Model
from sanderling.providers import CPU
from sanderling.results import TextReport, Timing
from sanderling.schema.answers import ClassificationOutput
from sanderling.verification import cosines
from sanderling_bench import flops, record
from sanderling_bench.inputs import Inputs, measured_component
from sanderling_bench.machine import this_machine
from sanderling_bench.metal import measure_metal
from sanderling_bench.process import Child
from sanderling_bench.record import BundleId, Call, ColdStart, Record, Samples, Scenario, Settings, Stages
from sanderling_bench.residence import measure_residence
from sanderling_bench.scenario import Sample, alternate, null_system, offline, single_stream
from sanderling_bench.statistics import SEED
from sanderling_bench.summary import summarize
from sanderling_bench.writing import NEW_TOKENS, Taken, taken, writer, writes

REFERENCE = "fp32"
SCENARIOS: tuple[Scenario, ...] = ("single-stream", "offline")
HARNESS_SAMPLES = 1000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure. `samples` is the fewest single-stream calls of each variant, spread evenly over the rounds.

    Before it is timed in a round, a variant answers `warmup` single inputs that are not counted, so that what the
    variant before it left in the caches is gone; before all rounds it answers every input once. `cold_starts` of 0
    leaves the fresh processes out, and with them the peak memory. `component` is the one to measure, of a bundle whose
    components answer by themselves; `new_tokens` are those of each text that a model writes.
    """

    variants: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = SCENARIOS
    provider: str = "cpu"
    threads: int | None = None
    rounds: int = 7
    samples: int = 662
    warmup: int = 3
    cold_starts: int = 5
    seed: int = SEED
    component: str | None = None
    new_tokens: int = NEW_TOKENS


def measure(bundle: Bundle, inputs: Inputs, plan: Plan, progress: Progress | None = None) -> Record:
    """Measure the bundle on the inputs. `progress` hears of each step: what, steps done, steps in all.

    Variants answer in the same rounds; the drift is from the same run's fp32, where the bundle has one.
    Raises BenchError for a plan that cannot be carried out, and what loading and answering raise.
    """
    _check(plan)
    variants = _variants(bundle, plan.variants)
    component = measured_component(bundle, plan.component)
    with ExitStack() as stack:
        names = [*variants, *([REFERENCE] if REFERENCE in bundle.manifest.variants else [])]
        models = {
            name: stack.enter_context(
                load(
                    bundle.path,
                    variant=name,
                    provider=plan.provider,
                    threads=plan.threads,
                    components=component,
                )
            )
            for name in dict.fromkeys(names)
        }
        threads = models[variants[0]].threads
        steps = _Steps(progress, plan, len(variants))
        answers = {name: model.answer(list(inputs.items)) for name, model in models.items()}
        measured = {name: _System(models[name], plan.new_tokens if writes(bundle) else None) for name in variants}
        streams = _streams(measured, inputs, plan, steps)
        batches = _batches(measured, inputs, plan, steps)
        # What a writer computes depends on what it writes.
        metal = measure_metal(threads) if plan.provider == CPU and not writes(bundle) else None
        works = {name: _work(models[name], inputs, component) if metal and component else {} for name in variants}
        none: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
        runs = {
            name: none
            if plan.provider == CPU or writes(bundle)
            else measure_residence(models[name], inputs.items, plan.rounds)
            for name in variants
        }
    new_tokens = plan.new_tokens if writes(bundle) else None
    children = {name: Child(bundle.path, name, plan.provider, threads, component, new_tokens) for name in variants}
    cold, peaks = _processes(children, inputs, plan, steps)
    samples = {
        name: Samples(
            single_stream=tuple(streams[name]),
            offline=tuple(batches[name]),
            cold_start=tuple(cold[name]),
            peak_memory_bytes=peaks.get(name),
            tokens=None if new_tokens is not None else _tokens(answers[name]),
            **_drift(answers[name], answers.get(REFERENCE), bundle),
            **works[name],
            host_runs=runs[name][0],
            resident_runs=runs[name][1],
        )
        for name in variants
    }
    sizes = {name: variant_size(bundle, name, component) for name in variants}
    return Record(
        format=record.FORMAT,
        version=record.VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=BundleId(bundle.manifest.name, bundle.manifest.task, bundle.digest),
        machine=this_machine(),
        versions=record.versions(),
        settings=_settings(plan, variants, threads, inputs, new_tokens),
        harness=harness_seconds(inputs.items),
        samples=samples,
        summary=summarize(samples, sizes, len(inputs.items), REFERENCE, plan.seed, metal),
        metal=metal,
    )


def harness_seconds(inputs: Sequence[Any], count: int = HARNESS_SAMPLES) -> tuple[float, ...]:
    """Seconds of `count` single-stream calls to a system that does nothing: what the harness itself adds to each."""
    samples = single_stream(null_system, inputs, samples=count, warmup=10, keep=lambda answer: answer)
    return tuple(sample.seconds for sample in samples)


class _Steps:
    """Counts the steps of a run for whoever watches it."""

    def __init__(self, progress: Progress | None, plan: Plan, variants: int) -> None:
        processes = plan.cold_starts + 1 if plan.cold_starts else 0
        self._progress = progress
        self._total = variants * (len(plan.scenarios) * plan.rounds + processes)
        self._done = 0

    def next(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what, self._done, self._total)
        self._done += 1


class _System:
    """A model as the scenarios call it, and what is kept of a call."""

    def __init__(self, model: Any, new_tokens: int | None) -> None:
        self.call: Callable[[Any], Any] = model if new_tokens is None else writer(model, new_tokens)
        self.keep: Callable[[Any], Taken] = _taken if new_tokens is None else taken


def _call(number: int, sample: Sample[Taken]) -> Call:
    """A sample as the record has it."""
    found = sample.answer
    return Call(number, sample.input, sample.seconds, found.stages, found.first_token, found.new_tokens)


def _streams(models: dict[str, _System], inputs: Inputs, plan: Plan, steps: _Steps) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {name: [] for name in models}
    if "single-stream" not in plan.scenarios:
        return calls
    per_round = -(-plan.samples // plan.rounds)
    for number, name in alternate(plan.rounds, list(models)):
        steps.next(f"{name}: one after another")
        system = models[name]
        samples = single_stream(
            system.call,
            inputs.items,
            samples=per_round,
            warmup=plan.warmup,
            start=number * per_round,
            keep=system.keep,
        )
        calls[name] += [_call(number, sample) for sample in samples]
    return calls


def _batches(models: dict[str, _System], inputs: Inputs, plan: Plan, steps: _Steps) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {name: [] for name in models}
    if "offline" not in plan.scenarios:
        return calls
    for number, name in alternate(plan.rounds, list(models)):
        steps.next(f"{name}: all at once")
        system = models[name]
        for item in inputs.items[: plan.warmup]:
            system.call(item)
        sample = offline(system.call, list(inputs.items), keep=system.keep)
        calls[name].append(_call(number, sample))
    return calls


def _processes(
    children: dict[str, Child], inputs: Inputs, plan: Plan, steps: _Steps
) -> tuple[dict[str, list[ColdStart]], dict[str, int]]:
    cold: dict[str, list[ColdStart]] = {name: [] for name in children}
    peaks: dict[str, int] = {}
    if plan.cold_starts == 0:
        return cold, peaks
    for name, child in children.items():
        # First, so that the files of every variant are in the system's cache before a start is timed.
        steps.next(f"{name}: peak memory")
        peaks[name] = child.peak_memory(inputs)
    for _, name in alternate(plan.cold_starts, list(children)):
        steps.next(f"{name}: cold start")
        cold[name].append(children[name].cold_start(inputs))
    return cold, peaks


def _taken(answer: Any) -> Taken:
    timing: Timing = answer.timing
    return Taken(Stages(timing.preprocess, timing.run, timing.postprocess))


def _tokens(answers: Answers) -> int | None:
    counts = [report.tokens for report in answers.reports if isinstance(report, TextReport)]
    return sum(counts) if counts else None


def _drift(answers: Answers, reference: Answers | None, bundle: Bundle) -> dict[str, Any]:
    if reference is None:
        return {}
    found: dict[str, Any] = {"cosine_to_fp32": tuple(cosines(answers.rows, reference.rows).tolist())}
    if isinstance(bundle.manifest.postprocessing, ClassificationOutput):
        same = answers.rows.argmax(axis=1) == reference.rows.argmax(axis=1)
        found["same_label_as_fp32"] = tuple(same.tolist())
    return found


def _work(model: Model, inputs: Inputs, component: str) -> dict[str, Any]:
    """The arithmetic of each input alone, in the graph that answers."""
    graph = (
        model.bundle.path
        / model.bundle.manifest.components[component].variants[model.variant].forms[model.plan.form].graph
    )
    prepared = model.front.prepare(list(inputs.items), None)
    counted = flops.count(graph, [model.front.feeds([one])[0] for one in prepared])
    return {
        "float_operations": tuple(work.float_operations for work in counted),
        "integer_operations": tuple(work.integer_operations for work in counted),
        "weight_bytes": max((work.weight_bytes for work in counted), default=0),
    }


def _variants(bundle: Bundle, asked: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(choose_variant(bundle, name) for name in asked)) or bundle.manifest.variants


def _check(plan: Plan) -> None:
    for name, value, least in (
        ("rounds", plan.rounds, 1),
        ("samples", plan.samples, 1),
        ("warmup", plan.warmup, 0),
        ("cold_starts", plan.cold_starts, 0),
        ("new_tokens", plan.new_tokens, 1),
    ):
        if value < least:
            raise BenchError(f"{name} is {value}; a whole number of at least {least} was expected.")
    if not plan.scenarios or not set(plan.scenarios) <= set(SCENARIOS):
        raise BenchError(f"The scenarios are {' and '.join(SCENARIOS)}; met {', '.join(plan.scenarios) or 'none'}.")
    if plan.threads is not None and plan.threads < 1:
        raise BenchError(f"threads is {plan.threads}; a whole number of at least 1 was expected.")


def _settings(plan: Plan, variants: tuple[str, ...], threads: int, inputs: Inputs, new_tokens: int | None) -> Settings:
    return Settings(
        variants=variants,
        scenarios=plan.scenarios,
        provider=plan.provider,
        threads=threads,
        rounds=plan.rounds,
        samples=plan.samples,
        warmup=plan.warmup,
        cold_starts=plan.cold_starts,
        modality=inputs.modality,
        inputs=len(inputs.items),
        inputs_digest=inputs.digest,
        inputs_from=inputs.source,
        seed=plan.seed,
        component=plan.component,
        new_tokens=new_tokens,
    )
