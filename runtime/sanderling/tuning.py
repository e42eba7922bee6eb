"""`tune`: the fastest plan on this device that still answers right, by successive halving.

Every candidate first answers the golden samples under its own batching; one that fails is out, however fast it is.
The rest are measured in rounds, alternating; after each round the slower half is dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal

from msgspec import Struct

from sanderling import cores
from sanderling.bundle import Bundle, open_bundle
from sanderling.counts import counted
from sanderling.errors import InputError, SanderlingError, TuneError
from sanderling.golden import Golden, read_golden, sample_input
from sanderling.loading import assemble
from sanderling.manifest import Tolerance
from sanderling.model import Model
from sanderling.plan import IMAGE_BUDGET, ROW_BUDGET, TOKEN_BUDGET, Plan, remember_plan
from sanderling.providers import CPU, RUNTIME_VERSION, available
from sanderling.verification import replay, tolerance

Purpose = Literal["latency", "throughput"]
Progress = Callable[[str], None]

_TOKEN_BUDGETS = (1, 128, 256, 512, 1024)
_IMAGE_BUDGETS = (1, IMAGE_BUDGET, 16)
_ROW_BUDGETS = (1, 64, ROW_BUDGET)
# Inputs of one throughput measurement, made of the golden samples in turn; calls of one latency measurement.
_BULK = 96
_CALLS = 24


class Trial(Struct):
    """What became of one plan: the lowest cosine of the golden samples under its own batching, and its speed.

    `seconds` is the median of the measured rounds: of one call for latency, of one input for throughput; None where
    the plan failed its floor, could not be loaded (`reason` says why), or was not reached in time.
    """

    plan: Plan
    cosine: float | None = None
    reason: str = ""
    seconds: float | None = None
    rounds: int = 0


class Tuned(Struct, frozen=True):
    """The plan that won, for what, and all trials, the best first."""

    plan: Plan
    purpose: Purpose
    trials: tuple[Trial, ...]
    complete: bool


def tune(
    path: str | os.PathLike[str],
    purpose: Purpose = "throughput",
    *,
    min_cosine: float | None = None,
    batch_invariant: bool = False,
    time_limit: float = 60.0,
    inputs: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Find the fastest plan for `purpose` on this device, and keep it for `load`.

    A plan counts only if each golden sample's answer has at least the cosine `min_cosine` to the original's (default:
    the variant's own tolerance), alone and in batches as the plan makes them. With `batch_invariant` only plans that
    answer every input alone are tried. `inputs` are what to measure on (default: the golden samples), `time_limit` the
    seconds to spend; interrupted, or out of time, the best so far is kept.

    Raises TuneError if no plan holds the floor (with the best cosine reached), InputError for wrong arguments,
    BundleError for a damaged bundle.
    """
    if purpose not in ("latency", "throughput"):
        raise InputError(f'purpose is {purpose!r}; it takes "latency" or "throughput".')
    if not time_limit > 0:
        raise InputError(f"time_limit is {time_limit!r}; a number of seconds above 0 was expected.")
    if min_cosine is not None and not -1 <= min_cosine <= 1:
        raise InputError(f"min_cosine is {min_cosine!r}; a number from -1 to 1 was expected.")
    bundle = open_bundle(path)
    search = _Search(bundle, purpose, min_cosine, inputs, time.monotonic() + time_limit, progress or _silent)
    complete = True
    try:
        search.run(_candidates(bundle, purpose, batch_invariant))
    except KeyboardInterrupt:
        complete = False
        if search.best() is None:
            raise
    finally:
        search.close()
    best = search.best()
    if best is None:
        raise TuneError(search.failure())
    remember_plan(bundle.digest, RUNTIME_VERSION, best.plan)
    return Tuned(best.plan, purpose, tuple(search.ranked()), complete and not search.out_of_time)


def _candidates(bundle: Bundle, purpose: Purpose, batch_invariant: bool) -> list[Plan]:
    """Plans worth a try, the likeliest first, so that a short time limit still finds a good one."""
    manifest = bundle.manifest
    variants = sorted(manifest.variants, key=lambda name: name != manifest.default_variant)
    granted = cores.granted()
    known: tuple[int, ...] = _IMAGE_BUDGETS
    which = 1
    if manifest.preprocessing.text is not None:
        known, which = _TOKEN_BUDGETS, 0
    elif manifest.preprocessing.image is None:
        known, which = _ROW_BUDGETS, 2
    budgets: tuple[int, ...] = (1,) if batch_invariant else known
    found = []
    for provider in available():
        for variant in variants:
            for threads, workers in _shapes(granted, purpose, provider):
                for budget in budgets if purpose == "throughput" else budgets[-1:]:
                    # What the model does not take is bounded as by default, or by 1 in a batch-invariant plan.
                    bounds = [1, 1, 1] if budget == 1 else [TOKEN_BUDGET, IMAGE_BUDGET, ROW_BUDGET]
                    bounds[which] = budget
                    found.append(Plan(variant, provider, threads, workers, bounds[0], bounds[1], bounds[2]))
    return found


def _shapes(granted: int, purpose: Purpose, provider: str) -> list[tuple[int, int]]:
    """Threads of a single run, and workers: all cores in one run, one run a core, and what lies between."""
    if provider != CPU:
        return [(1, 1)]
    counts = sorted({1, max(1, granted // 2), granted}, reverse=True)
    if purpose == "latency":
        return [(threads, 1) for threads in counts]
    return [(granted, granted), *((threads, 1) for threads in counts if threads > 1)]


class _Racer:
    """A plan that held its floor, loaded, with the seconds of its rounds so far."""

    def __init__(self, trial: Trial, model: Model) -> None:
        self.trial = trial
        self.model = model
        self.samples: list[float] = []

    def add(self, seconds: float) -> None:
        self.samples.append(seconds)
        self.trial.seconds = median(self.samples)
        self.trial.rounds = len(self.samples)


class _Search:
    """The trials of one tuning, and those of them that are still in the race."""

    def __init__(
        self,
        bundle: Bundle,
        purpose: Purpose,
        min_cosine: float | None,
        inputs: Sequence[Any] | None,
        deadline: float,
        progress: Progress,
    ) -> None:
        self._bundle = bundle
        self._purpose = purpose
        self._min_cosine = min_cosine
        self._deadline = deadline
        self._progress = progress
        self._golden: Golden = read_golden(bundle)
        self._items = list(inputs) if inputs else [sample_input(bundle, sample) for sample in self._golden.samples]
        self._trials: list[Trial] = []
        self._race: list[_Racer] = []
        self.out_of_time = False

    def run(self, plans: Sequence[Plan]) -> None:
        """Try all plans: first the floor, with one measurement each; then rounds among those left."""
        for count, plan in enumerate(plans):
            if self._is_late():
                return
            self._progress(f"{count + 1} of {len(plans)}: {_describe(plan)}")
            self._enter(plan)
        while len(self._race) > 1:
            self._race.sort(key=lambda racer: racer.trial.seconds or 0.0)
            half = (len(self._race) + 1) // 2
            self._leave(self._race[half:])
            for _ in range(max(2, 8 // half)):
                for racer in self._race:
                    if self._is_late():
                        return
                    self._measure(racer)
            self._progress(f"{half} left, the best is {_describe(self.ranked()[0].plan)}")

    def best(self) -> Trial | None:
        """The fastest trial that held its floor."""
        ranked = self.ranked()
        return ranked[0] if ranked and ranked[0].seconds is not None else None

    def ranked(self) -> list[Trial]:
        """All trials: those that lasted longest first, the fastest of them first, failures last."""
        return sorted(self._trials, key=lambda t: (t.seconds is None, -t.rounds, t.seconds or 0.0))

    def failure(self) -> str:
        """Why there is no plan at all."""
        reached = [trial.cosine for trial in self._trials if trial.cosine is not None]
        if not reached:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in self._trials if trial.reason))
            return f"No plan could be measured for {self._bundle.path}: {reasons or 'there was no time'}."
        floor = "its variant's tolerance" if self._min_cosine is None else f"a cosine of {self._min_cosine}"
        return (
            f"No plan for {self._bundle.path} reaches {floor} on every golden sample; the best lowest cosine was "
            f"{max(reached):.6f}. Lower the floor, or export a more precise variant."
        )

    def close(self) -> None:
        """Free every model that is still loaded."""
        self._leave(list(self._race))

    def _enter(self, plan: Plan) -> None:
        trial = Trial(plan)
        self._trials.append(trial)
        try:
            model = assemble(self._bundle, plan)
        except SanderlingError as error:
            trial.reason = str(error)
            return
        racer = _Racer(trial, model)
        self._race.append(racer)
        trial.reason = self._objection(racer)
        if trial.reason:
            self._leave([racer])
        else:
            self._measure(racer)

    def _objection(self, racer: _Racer) -> str:
        """Why a loaded plan may not run here; empty if it may."""
        if not racer.model.placement.complete:
            return f"partial placement: {racer.model.placement}"
        limits = tolerance(self._bundle, racer.trial.plan.variant)
        if self._min_cosine is not None:
            limits = Tolerance(self._min_cosine)
        try:
            checks = replay(racer.model, self._golden, limits)
        except SanderlingError as error:
            return str(error)
        racer.trial.cosine = min(check.cosine for check in checks)
        if all(check.held for check in checks):
            return ""
        return f"below its floor: cosine {racer.trial.cosine:.6f}, {limits.min_cosine:.6f} was asked for"

    def _measure(self, racer: _Racer) -> None:
        if self._purpose == "throughput":
            items = [self._items[i % len(self._items)] for i in range(_BULK)]
            started = time.perf_counter()
            racer.model.answer(items)
            racer.add((time.perf_counter() - started) / len(items))
            return
        calls = []
        for i in range(_CALLS):
            started = time.perf_counter()
            racer.model.answer([self._items[i % len(self._items)]])
            calls.append(time.perf_counter() - started)
        racer.add(median(calls))

    def _leave(self, racers: Sequence[_Racer]) -> None:
        for racer in racers:
            self._race.remove(racer)
            racer.model.close()

    def _is_late(self) -> bool:
        """Whether time is up and there is something to keep."""
        if time.monotonic() >= self._deadline and self.best() is not None:
            self.out_of_time = True
        return self.out_of_time


def _describe(plan: Plan) -> str:
    return (
        f"{plan.variant} on {plan.provider}, {counted(plan.threads, 'thread')}, {counted(plan.workers, 'worker')}, "
        f"budget {plan.token_budget} tokens, {plan.image_budget} images or {plan.row_budget} rows"
    )


def _silent(stage: str) -> None:
    """Progress that nobody asked for."""
    del stage
