"""`tune`: the fastest plan on this device that still answers right, by successive halving.

First each graph of the bundle is measured in one likely batching; the fastest few go on, and the fusions that ONNX
Runtime is to leave out are tried on them; then they are measured in all batchings, and the fastest of those in
alternating rounds, after each of which the slower half is dropped. A plan is only measured once it answered the golden
samples under its own batching, and one that fails is out, however fast it is. A model whose graphs answer together is
measured by whole answers, and judged by each step of those that it writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, get_args

from sanderling import components, footprint
from sanderling.bundle import Bundle, open_bundle
from sanderling.counts import megabytes
from sanderling.errors import InputError, SanderlingError, TuneError
from sanderling.golden import Golden, read_golden
from sanderling.loading import assemble
from sanderling.model import Model
from sanderling.plan import Plan, remember_plan
from sanderling.providers import RUNTIME_VERSION
from sanderling.schema.variants import Tolerance
from sanderling.shared import Shared, graph_of
from sanderling.tuning import candidates
from sanderling.tuning.candidates import Purpose
from sanderling.tuning.trials import Floor, Trial, Tuned, describe
from sanderling.tuning.whole_answers import ask, writes
from sanderling.tuning.workload import workload
from sanderling.verification import replay, tolerance

Progress = Callable[[str], None]

# Inputs of one throughput measurement, calls of one latency measurement: as many as take this share of the time.
_BULK, _CALLS, _FEWEST = 96, 24, 12
# The fewest of a model that writes: many written side by side, calls of one.
_FEWEST_WRITTEN, _FEWEST_CALLS = 8, 3
_SHARE = 1 / 60
# Graphs that go on to all batchings, if none is this many times slower than the fastest; plans that go into the rounds.
_GRAPHS, _FAR = 3, 1.5
_FINALISTS = 8
# Seconds that a process of its own may take for its memory to be measured.
_CHILD_SECONDS = 120.0


def tune(
    path: str | os.PathLike[str],
    purpose: Purpose = "throughput",
    *,
    min_cosine: float | None = None,
    min_agreement: float | None = None,
    batch_invariant: bool = False,
    max_memory: int | None = None,
    time_limit: float = 60.0,
    inputs: Sequence[Any] | None = None,
    component: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Find the fastest plan for `purpose` on this device, or for "memory" the smallest, and keep it for `load`.

    A plan counts only if each golden sample's answer has at least the cosine `min_cosine` to the original's (default:
    the variant's own tolerance), alone and in batches as the plan makes them. Of a model that writes, the scores of
    each token of the original's count as well, behind those before it, and `min_agreement` is the least share of these
    tokens that a plan has to take, too (default: any); its speed is that of whole answers. With `batch_invariant` only
    plans that answer every input alone are tried, with `max_memory` only those whose process stays within so many
    bytes. `inputs` are what to measure speed on (default: texts of all lengths made of the golden samples, or those
    themselves), `time_limit` the seconds to spend; interrupted, or out of time, the best so far is kept. Of a model of
    two towers each has a plan of its own: `component` says which is looked for, and `load` uses it for that tower.
    Other models of several graphs have one plan for all of them.

    Raises TuneError if no plan holds the floor (with the best cosine reached), InputError for wrong arguments,
    BundleError for a damaged bundle.
    """
    if purpose not in get_args(Purpose):
        raise InputError(f'purpose is {purpose!r}; it takes "latency", "throughput" or "memory".')
    if not time_limit > 0:
        raise InputError(f"time_limit is {time_limit!r}; a number of seconds above 0 was expected.")
    if min_cosine is not None and not -1 <= min_cosine <= 1:
        raise InputError(f"min_cosine is {min_cosine!r}; a number from -1 to 1 was expected.")
    if min_agreement is not None and not 0 <= min_agreement <= 1:
        raise InputError(f"min_agreement is {min_agreement!r}; a number from 0 to 1 was expected.")
    if max_memory is not None and not max_memory > 0:
        raise InputError(f"max_memory is {max_memory!r}; a number of bytes above 0 was expected.")
    bundle = open_bundle(path)
    if min_agreement is not None and not writes(bundle):
        raise InputError(
            f"min_agreement is of the tokens that a model writes; {bundle.path} is for {bundle.manifest.task}. Use "
            "min_cosine."
        )
    tuned = tunable(bundle, component)
    if len(tuned) != 1:
        raise TuneError(
            f"{bundle.path} has {', '.join(name for name in tuned if name)}, each with a plan of its own. Say which is "
            f"to be tuned: component={tuned[0]!r} (--component {tuned[0]})."
        )
    (part,) = tuned
    floor = Floor(min_cosine, min_agreement)
    search = _Search(bundle, part, purpose, floor, max_memory, inputs, time_limit, progress or _silent)
    complete = True
    try:
        search.run(batch_invariant)
    except KeyboardInterrupt:
        complete = False
        if search.best() is None:
            raise
    finally:
        search.close()
    best = search.best()
    if best is None:
        raise TuneError(search.failure())
    remember_plan(bundle.digest, RUNTIME_VERSION, best.plan, part or "")
    return Tuned(best.plan, purpose, tuple(search.ranked()), complete and not search.out_of_time)


def tunable(bundle: Bundle, component: str | None = None) -> tuple[str | None, ...]:
    """The components that have plans of their own, or the one asked for; (None,) for a bundle of one graph, or of
    several that answer together.

    Raises BundleError for a component that is not there, or does not answer by itself.
    """
    chosen = components.choose(bundle, component)
    there = bundle.manifest.components
    return chosen if 1 < len(there) == len(components.apart(bundle)) else (None,)


class _Racer:
    """A plan that held its floor, loaded, with the seconds of its rounds so far."""

    def __init__(self, trial: Trial, model: Model) -> None:
        self.trial = trial
        self.model = model
        self.samples: list[float] = []

    @property
    def seconds(self) -> float:
        return median(self.samples) if self.samples else float("inf")

    def add(self, seconds: float, tokens: float) -> None:
        """Another round: the seconds of an input, and the tokens written for it."""
        self.samples.append(seconds)
        self.trial.seconds = self.seconds
        self.trial.tokens = tokens / self.seconds if tokens else None
        self.trial.rounds = len(self.samples)


class _Search:
    """The trials of one tuning, and those of them that are still in the race."""

    def __init__(
        self,
        bundle: Bundle,
        component: str | None,
        purpose: Purpose,
        floor: Floor,
        max_memory: int | None,
        inputs: Sequence[Any] | None,
        time_limit: float,
        progress: Progress,
    ) -> None:
        self._bundle = bundle
        self._component = component
        self._purpose = purpose
        self._floor = floor
        self._max_memory = max_memory
        self._deadline = time.monotonic() + time_limit
        self._step = time_limit * _SHARE
        self._progress = progress
        self._golden: Golden = read_golden(bundle)
        self._writes = writes(bundle)
        count = _CALLS if purpose == "latency" else _BULK
        given = list(inputs) if inputs else workload(bundle, self._golden, count, component)
        self._items = [given[i % len(given)] for i in range(count)]
        self._shared = Shared()
        self._trials: dict[Plan, Trial] = {}
        self._race: list[_Racer] = []
        self._coming: list[Plan] = []
        self._longest = 0.0
        self.out_of_time = False

    def run(self, batch_invariant: bool) -> None:
        """Graphs, then fusions, then batchings, then rounds; what was chosen is checked for its memory last."""
        graphs = candidates.graphs(self._bundle, self._purpose, batch_invariant, self._component)
        self._enter_all(graphs)
        if self._max_memory is not None and not self._race:
            every = [self._batchings(plan, batch_invariant) for plan in graphs]
            self._enter_all([batchings[-1] for batchings in every])  # those of the smallest runs
        self._keep_graphs()
        chosen = [racer.trial.plan for racer in self._race]
        self._enter_all([other for plan in chosen for other in self._fusions(plan)])
        self._keep_graphs()
        found = [
            self._batchings(racer.trial.plan, batch_invariant)
            for racer in sorted(self._race, key=lambda racer: racer.seconds)
        ]
        self._enter_all([plan for each in found for plan in each])
        self._leave(sorted(self._race, key=lambda racer: racer.seconds)[_FINALISTS:])
        if self._purpose != "memory":
            self._rounds()
        while self._max_memory is not None and (best := self._fastest()) is not None and best.memory is None:
            best.reason = self._too_large(best)

    def _fusions(self, plan: Plan) -> list[Plan]:
        return candidates.fusions(self._bundle, plan, self._component)

    def _batchings(self, plan: Plan, batch_invariant: bool) -> list[Plan]:
        return candidates.batchings(self._bundle, self._purpose, plan, batch_invariant, self._component)

    def best(self) -> Trial | None:
        """The best trial that held its floor, and its bound of memory if there is one."""
        held = (trial for trial in self.ranked() if trial.seconds is not None and not trial.reason)
        return next((t for t in held if self._max_memory is None or t.memory is not None), None)

    def ranked(self) -> list[Trial]:
        """All trials: those of the last rounds first, the best of them first, failures last."""
        racing = {id(racer.trial) for racer in self._race}

        def rank(trial: Trial) -> tuple[bool, bool, float, float]:
            failed = trial.seconds is None or bool(trial.reason)
            if self._purpose == "memory":
                return failed, False, trial.memory or float("inf"), trial.seconds or 0.0
            return (
                failed,
                id(trial) not in racing,
                -trial.rounds if id(trial) not in racing else 0,
                trial.seconds or 0.0,
            )

        return sorted(self._trials.values(), key=rank)

    def failure(self) -> str:
        """Why there is no plan at all."""
        return self._floor.failure(self._bundle.path, list(self._trials.values()), self._max_memory)

    def close(self) -> None:
        """Free every model that is still loaded; the order of the trials stays."""
        for racer in self._race:
            racer.model.close()
        self._shared.close()

    def _enter_all(self, plans: Sequence[Plan]) -> None:
        new = [plan for plan in dict.fromkeys(plans) if plan not in self._trials]
        for count, plan in enumerate(new):
            if self._is_late():
                break
            self._progress(f"{count + 1} of {len(new)}: {describe(plan)}")
            self._coming = new[count + 1 :]
            started = time.monotonic()
            self._enter(plan)
            self._longest = max(self._longest, time.monotonic() - started)
        self._coming = []

    def _enter(self, plan: Plan) -> None:
        trial = self._trials[plan] = Trial(plan)
        try:
            racer = _Racer(trial, assemble(self._bundle, plan, self._shared, self._component))
        except SanderlingError as error:
            trial.reason = str(error)
            return
        self._race.append(racer)
        trial.reason = self._objection(racer)
        if trial.reason:
            self._leave([racer])
        elif self._purpose != "memory":
            if len(self._trials) == 1:
                self._fit(racer.model)
            self._measure(racer)
            self._drop_far()

    def _objection(self, racer: _Racer) -> str:
        """Why a loaded plan may not run here; empty if it may."""
        if not racer.model.placement.complete:
            return f"partial placement: {racer.model.placement}"
        names = (self._component,) if self._component else None
        limits = tolerance(self._bundle, racer.trial.plan.variant, names)
        if self._floor.cosine is not None:
            limits = Tolerance(self._floor.cosine)
        try:
            checks = replay(racer.model, self._golden, limits)
        except SanderlingError as error:
            return str(error)
        if objection := self._floor.objection(racer.trial, checks, limits):
            return objection
        known = graph_of(racer.trial.plan)
        measured = any(t.memory and not t.reason and graph_of(t.plan) == known for t in self._trials.values())
        if self._purpose == "memory" or (self._max_memory is not None and not measured):
            return self._too_large(racer.trial)
        return ""

    def _too_large(self, trial: Trial) -> str:
        """Measure what memory the plan takes; why that is too much, empty if it is not."""
        started = time.monotonic()
        try:
            found = footprint.footprint(self._bundle.path, trial.plan, _CHILD_SECONDS, self._component)
        except TuneError as error:
            return str(error)
        self._longest = max(self._longest, time.monotonic() - started)
        trial.memory = found.memory
        if self._purpose == "memory":
            trial.seconds, trial.rounds = found.seconds, 1
        if self._max_memory is None or found.memory <= self._max_memory:
            return ""
        return f"it takes {megabytes(found.memory, 0)}, {megabytes(self._max_memory, 0)} was asked for"

    def _fit(self, model: Model) -> None:
        """Measure on no more inputs than there is time for, as the first plan takes them; the same for all plans."""
        calls = _FEWEST_CALLS if self._purpose == "latency" else _FEWEST_WRITTEN
        few = self._items[: calls if self._writes else _FEWEST]
        started = time.perf_counter()
        ask(model, few)
        each = max(1e-9, (time.perf_counter() - started) / len(few))
        del self._items[max(len(few), int(min(self._step / each, len(self._items)))) :]

    def _measure(self, racer: _Racer) -> None:
        if self._purpose == "throughput":
            started = time.perf_counter()
            tokens = ask(racer.model, self._items)
            racer.add((time.perf_counter() - started) / len(self._items), tokens / len(self._items))
            return
        calls, tokens = [], 0
        for item in self._items:
            started = time.perf_counter()
            tokens += ask(racer.model, [item])
            calls.append(time.perf_counter() - started)
        racer.add(median(calls), tokens / len(self._items))

    def _rounds(self) -> None:
        """Alternating measurements; after each few, the slower half is dropped."""
        while len(self._race) > 1:
            half = (len(self._race) + 1) // 2
            for _ in range(max(2, 8 // len(self._race))):
                for racer in self._race:
                    if self._is_late():
                        return
                    self._measure(racer)
            self._leave(sorted(self._race, key=lambda racer: racer.seconds)[half:])
            self._progress(f"{half} left, the best is {describe(self.ranked()[0].plan)}")

    def _fastest(self) -> Trial | None:
        return next((trial for trial in self.ranked() if trial.seconds is not None and not trial.reason), None)

    def _keep_graphs(self) -> None:
        """Go on with the fastest few graphs alone; for the least memory, with all."""
        if self._purpose != "memory":
            self._leave(sorted(self._race, key=lambda racer: racer.seconds)[_GRAPHS:])

    def _drop_far(self) -> None:
        """Let go, while others are still to come, what is far behind the fastest: it takes memory."""
        fastest = min(racer.seconds for racer in self._race)
        self._leave([racer for racer in self._race if racer.seconds > _FAR * fastest])

    def _leave(self, racers: Sequence[_Racer]) -> None:
        """Let go of these, and of the sessions that nothing in the race and nothing still to come needs."""
        for racer in list(racers):
            self._race.remove(racer)
            racer.model.close()
        self._shared.keep([*(racer.trial.plan for racer in self._race), *self._coming])

    def _is_late(self) -> bool:
        """Whether there is something to keep, and no time for another step as long as the longest so far."""
        if time.monotonic() + self._longest >= self._deadline and self.best() is not None:
            self.out_of_time = True
        return self.out_of_time


def _silent(stage: str) -> None:
    """Progress that nobody asked for."""
    del stage
