"""One contest: settings found, then rounds in which all contestants take turns, one process running at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sanderling.errors import BenchError
from sanderling.verification import cosines
from sanderling_bench.peers.catalogue import PROGRAMS, Contestant, Purpose, Settings
from sanderling_bench.peers.environments import OFFLINE
from sanderling_bench.peers.inputs import PeerInputs, token_limit
from sanderling_bench.peers.process import ContestantError, Running
from sanderling_bench.peers.record import Chosen, Result, Tried
from sanderling_bench.peers.search import fastest
from sanderling_bench.scenario import alternate

Say = Callable[[str], None]

# A contestant whose first settings are this many times slower than the fastest peer's is not searched further, and
# measured once, on an eighth of the inputs: it could decide no bound, and would take the time of all others.
LEFT_BEHIND = 4.0
_PART = 8
# Single calls that a search gives a candidate for latency, for each of the inputs it would give for throughput.
_CALLS_PER_INPUT = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: rounds of all inputs, single calls in blocks, fresh starts, inputs for a search at first.

    Before a block a contestant makes `warmup` calls that are not counted: what others left in the caches is gone then.
    """

    rounds: int = 5
    calls: int = 2000
    block: int = 50
    warmup: int = 5
    starts: int = 3
    search: int = 48

    def __post_init__(self) -> None:
        for name in ("rounds", "calls", "block", "starts", "search"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}; a whole number of at least 1 was expected.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant that can take part: the interpreter and the folder of models that its process is given."""

    contestant: Contestant
    python: Path
    models: Path

    @property
    def name(self) -> str:
        """The contestant's name."""
        return self.contestant.name


class Arena:
    """Starts contestants on one file of inputs, and keeps what they write in `folder`."""

    def __init__(self, inputs: PeerInputs, folder: Path, cores: int, say: Say) -> None:
        self.inputs = inputs
        self.cores = cores
        self.say = say
        self._folder = folder
        self._started = 0

    def start(self, entry: Entry, load: Settings) -> Running:
        """A process of this contestant with these load settings, which has answered one input."""
        self._started += 1
        program = PROGRAMS / f"{entry.contestant.program}.py"
        arguments = [str(program), str(entry.models), msgspec.json.encode(load).decode(), str(self.inputs.path)]
        # -P: the folder of the script does not come before the libraries.
        command = [str(entry.python), "-P", str(PROGRAMS / "serve.py"), *arguments]
        return Running(entry.name, command, self._folder / f"{self._started}.log", OFFLINE)

    def rows(
        self, running: Running, call: Mapping[str, object], *, count: int | None = None, probes: bool = False
    ) -> tuple[NDArray[np.float32], float]:
        """A contestant's answers to the first `count` inputs, or to the probes after all; and the seconds they took."""
        path = self._folder / "rows.npy"
        first, asked = (self.inputs.count, self.inputs.probes) if probes else (0, count or self.inputs.count)
        seconds = running.all(asked, call, first=first, to=path)
        found: NDArray[np.float32] = np.load(path)
        return found, seconds


def choose(arena: Arena, entry: Entry, purpose: Purpose, size: int, limit: float = math.inf) -> Chosen:
    """The fastest settings of a contestant by its own knobs.

    Where the first settings take more than `limit` seconds for an input, the others are not tried.
    Raises ContestantError: none of them works.
    """
    candidates = entry.contestant.candidates(purpose, arena.cores)
    if len(candidates) == 1:
        return Chosen(*candidates[0], ())
    arena.say(f"{entry.name}: the best of {len(candidates)} settings for {purpose}")
    failed: dict[bytes, str] = {}
    with ExitStack() as stack:
        running: dict[bytes, Running] = {}

        def measure(candidate: tuple[Settings, Settings], count: int) -> float:
            load, call = candidate
            key = msgspec.json.encode(load)
            try:
                if key in failed:
                    return math.inf
                if key not in running:
                    running[key] = stack.enter_context(arena.start(entry, load))
                    running[key].each(0, 1, 1, 4)
                count = min(count, arena.inputs.count)
                if purpose == "latency":
                    calls = max(8, round(count * _CALLS_PER_INPUT))
                    return float(np.median(running[key].each(0, calls, arena.inputs.count, 2)))
                return running[key].all(count, call) / count
            except ContestantError as error:
                failed[key] = str(error)
                return math.inf

        # The second call with the first settings says whether the others are worth trying.
        few = max(1, size // 4)
        measure(candidates[0], few)
        pace = measure(candidates[0], few)
        if limit < pace < math.inf:
            return Chosen(*candidates[0], (Tried(*candidates[0], pace),))
        best, trials = fastest(candidates, measure, size)
    if math.isinf(best.seconds):
        raise ContestantError(next(iter(failed.values())))
    tried = (
        Tried(load, call, None, failed.get(msgspec.json.encode(load), ""))
        if math.isinf(trial.seconds)
        else Tried(load, call, trial.seconds)
        for trial in trials
        for load, call in (trial.settings,)
    )
    return Chosen(*best.settings, tuple(tried))


class Settled:
    """The settings found earlier, kept in a file: a contest that was interrupted does not search anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, Chosen] = {}
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Chosen])

    def get(self, key: str, find: Callable[[], Chosen]) -> Chosen:
        """What was found for this key; else find it, and keep it."""
        if key not in self._kept:
            self._kept[key] = find()
            self._path.write_bytes(msgspec.json.encode(self._kept))
        return self._kept[key]


def compete(
    arena: Arena, entries: Sequence[Entry], settled: Settled, plan: Plan, reference: str, *, settings_only: bool = False
) -> list[Result]:
    """All entries against each other: throughput, single calls, starts, memory, quality beside `reference`'s answers.

    An entry that fails on the way is unavailable from then on, with the reason. With `settings_only` the settings are
    found and kept, nothing is measured, and the results are of those that failed.
    """
    field = _Field(arena, plan)
    pace: dict[Purpose, float] = {"throughput": math.inf, "latency": math.inf}
    for entry in entries:
        with field.watching(entry):
            for purpose in pace:
                key = f"{arena.inputs.digest} {arena.cores} {purpose} {msgspec.json.encode(entry.contestant).decode()}"
                limit = math.inf if entry.contestant.every_round else LEFT_BEHIND * pace[purpose]
                chosen = settled.get(key, partial(choose, arena, entry, purpose, plan.search, limit))
                field.chosen[purpose][entry.name] = chosen
                if chosen.tried and chosen.tried[0].seconds is not None:
                    if chosen.tried[0].seconds > limit:
                        field.behind[purpose].add(entry.name)
                    pace[purpose] = min(pace[purpose], chosen.tried[0].seconds)
    if settings_only:
        return [Result(name, arena.inputs.modality, unavailable=why) for name, why in field.unavailable.items()]
    field.bulk(entries)
    field.single(entries)
    return field.results(entries, reference)


class _Field:
    """What was measured so far, by contestant."""

    def __init__(self, arena: Arena, plan: Plan) -> None:
        self._arena = arena
        self._plan = plan
        self.unavailable: dict[str, str] = {}
        self.chosen: dict[Purpose, dict[str, Chosen]] = {"throughput": {}, "latency": {}}
        self.behind: dict[Purpose, set[str]] = {"throughput": set(), "latency": set()}
        self._rounds: dict[str, list[float]] = {}
        self._blocks: dict[str, list[tuple[float, ...]]] = {}
        self._starts: dict[str, list[float]] = {}
        self._peaks: dict[str, int] = {}
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._limits: dict[str, int | None] = {}

    @contextlib.contextmanager
    def watching(self, entry: Entry) -> Iterator[None]:
        """What fails inside makes the entry unavailable, and no other."""
        try:
            yield
        except ContestantError as error:
            self.unavailable[entry.name] = str(error)

    def bulk(self, entries: Sequence[Entry]) -> None:
        """Fresh starts, then rounds of all inputs in one call; the answers of the last round are kept."""
        say, count = self._arena.say, self._arena.inputs.count
        with ExitStack() as stack:
            running: dict[str, Running] = {}
            for number, entry in self._turns(entries, self._plan.starts):
                say(f"start {number + 1} of {self._plan.starts}: {entry.name}")
                with self.watching(entry):
                    started = self._arena.start(entry, self.chosen["throughput"][entry.name].load)
                    self._starts.setdefault(entry.name, []).append(started.first_answer)
                    if number + 1 < self._plan.starts:
                        started.close()
                    else:
                        running[entry.name] = stack.enter_context(started)
            part = max(1, count // _PART)
            for entry in self._still(entries):
                say(f"warming up: {entry.name}")
                with self.watching(entry):
                    running[entry.name].all(part, self.chosen["throughput"][entry.name].call)
            for number, entry in self._turns(entries, self._plan.rounds):
                behind = entry.name in self.behind["throughput"]
                if behind and number:
                    continue
                say(f"round {number + 1} of {self._plan.rounds}: {entry.name}")
                with self.watching(entry):
                    size = part if behind else count
                    call = self.chosen["throughput"][entry.name].call
                    self._rows[entry.name], taken = self._arena.rows(running[entry.name], call, count=size)
                    self._rounds.setdefault(entry.name, []).append(taken * count / size)
            for entry in self._still(entries):
                with self.watching(entry):
                    self._peaks[entry.name] = running[entry.name].peak_memory()
                if self._arena.inputs.probes:
                    # Some fail beyond their limit: then it is not known.
                    with contextlib.suppress(ContestantError):
                        call = self.chosen["throughput"][entry.name].call
                        rows, _ = self._arena.rows(running[entry.name], call, probes=True)
                        self._limits[entry.name] = token_limit(rows)

    def single(self, entries: Sequence[Entry]) -> None:
        """Blocks of single calls, each contestant answering the same inputs in a block."""
        plan, count = self._plan, self._arena.inputs.count
        size = min(plan.block, plan.calls)
        blocks = -(-plan.calls // size)
        with ExitStack() as stack:
            running: dict[str, Running] = {}
            for entry in self._still(entries):
                self._arena.say(f"one at a time: {entry.name}")
                with self.watching(entry):
                    started = stack.enter_context(self._arena.start(entry, self.chosen["latency"][entry.name].load))
                    started.each(0, 10, count, 3)
                    running[entry.name] = started
            for number, entry in self._turns(entries, blocks):
                if number and entry.name in self.behind["latency"]:
                    continue
                if number % 10 == 0:
                    self._arena.say(f"block {number + 1} of {blocks}: {entry.name}")
                with self.watching(entry):
                    taken = running[entry.name].each(number * size, size, count, plan.warmup)
                    self._blocks.setdefault(entry.name, []).append(tuple(taken))

    def results(self, entries: Sequence[Entry], reference: str) -> list[Result]:
        """What became of each."""
        truth = self._rows.get(reference)
        found = []
        for entry in entries:
            contestant, name = entry.contestant, entry.name
            if name in self.unavailable:
                found.append(Result(name, contestant.modality, unavailable=self.unavailable[name]))
                continue
            rows, agreement = self._rows[name], None
            shared = 0 if truth is None else min(len(rows), len(truth))
            near = () if truth is None else tuple(cosines(rows[:shared], truth[:shared]).tolist())
            if truth is not None and contestant.modality == "image":
                agreement = float((rows[:shared].argmax(axis=1) == truth[:shared].argmax(axis=1)).mean())
            found.append(
                Result(
                    name,
                    contestant.modality,
                    throughput=self.chosen["throughput"][name],
                    latency=self.chosen["latency"][name],
                    rounds=tuple(self._rounds[name]),
                    blocks=tuple(self._blocks[name]),
                    starts=tuple(self._starts[name]),
                    peak_bytes=self._peaks[name],
                    cosines=near,
                    agreement=agreement,
                    token_limit=self._limits.get(name),
                )
            )
        return found

    def _still(self, entries: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.name not in self.unavailable]

    def _turns(self, entries: Sequence[Entry], rounds: int) -> Iterator[tuple[int, Entry]]:
        by_name = {entry.name: entry for entry in self._still(entries)}
        if not by_name:
            return
        for number, name in alternate(rounds, list(by_name)):
            if name not in self.unavailable:
                yield number, by_name[name]
