"""What a search found so far, in a file beside the bundle: killed at any moment and started again, it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from sanderling.storage import write_atomic
from sanderling_export.recipe import Precision
from sanderling_export.search.records import Candidate, Found, Group, Outcome, Target
from sanderling_export.search.strategy import Evaluator

FORMAT = "sanderling-search"
VERSION = 1
_MAX_BYTES = 16 * 2**20

Times = Annotated[float, Meta(gt=0.0)]


class State(Struct, frozen=True):
    """The state file: JSON. `key` says what was searched, for what and by which versions; another key, another search.

    `found` and `rough` (mean drift) are by candidate; `races` by "candidate | other": the time of the other divided by
    that of the candidate, round by round. `names` are the outcome's variants in the bundle.
    """

    format: str
    version: int
    key: str
    target: Target
    seed: int
    found: dict[str, Found] = {}
    rough: dict[str, float] = {}
    races: dict[str, tuple[Times, ...]] = {}
    outcome: Outcome | None = None


def beside(output: Path) -> Path:
    """Where the state of a search for the bundle at `output` is kept."""
    return output.with_name(f"{output.name}.search.json")


def key_of(parts: Mapping[str, object]) -> str:
    """The SHA-256 of what a search depends on, as canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def read(path: Path) -> State | None:
    """The state kept there; None if there is none, or what is there is no state of this version."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return state if (state.format, state.version) == (FORMAT, VERSION) else None


class Recorder:
    """An evaluator that asks another only for what the state does not know yet, and keeps each answer at once."""

    def __init__(self, path: Path, state: State, evaluator: Evaluator) -> None:
        self._path = path
        self._evaluator = evaluator
        self.state = state
        # How much of the answers came from the file, and how much was measured now.
        self.known = 0
        self.measured = 0

    @property
    def convolutional(self) -> bool:
        return self._evaluator.convolutional

    def groups(self, precision: Precision) -> Sequence[Group]:
        return self._evaluator.groups(precision)

    def measure(self, candidate: Candidate) -> Found:
        kept = self.state.found.get(candidate.key)
        if kept is not None:
            self.known += 1
            return kept
        found = self._evaluator.measure(candidate)
        self._keep(replace(self.state, found=self.state.found | {candidate.key: found}))
        return found

    def rough(self, candidate: Candidate) -> float:
        kept = self.state.rough.get(candidate.key)
        if kept is not None:
            self.known += 1
            return kept
        drift = self._evaluator.rough(candidate)
        self._keep(replace(self.state, rough=self.state.rough | {candidate.key: drift}))
        return drift

    def race(self, candidate: Candidate, other: Candidate, number: int) -> float:
        pair = f"{candidate.key} | {other.key}"
        rounds = self.state.races.get(pair, ())
        if number < len(rounds):
            self.known += 1
            return rounds[number]
        ratio = self._evaluator.race(candidate, other, number)
        self._keep(replace(self.state, races=self.state.races | {pair: (*rounds, ratio)}))
        return ratio

    def finish(self, outcome: Outcome) -> None:
        """Keep the outcome; the state stays, so that the same search asked again answers the same."""
        self._keep(replace(self.state, outcome=outcome), counted=False)

    def _keep(self, state: State, *, counted: bool = True) -> None:
        self.state = state
        self.measured += counted
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")


def opened(path: Path, key: str, target: Target, seed: int, evaluator: Evaluator) -> tuple[Recorder, str]:
    """A recorder that goes on where the file stopped, or begins anew; and a word on which, empty for a first search."""
    kept = read(path)
    if kept is not None and kept.key == key:
        answers = len(kept.found) + len(kept.rough) + sum(map(len, kept.races.values()))
        return Recorder(path, kept, evaluator), f"goes on from {answers} measurements in {path.name}"
    fresh = State(FORMAT, VERSION, key, target, seed)
    if kept is None and not path.exists():
        return Recorder(path, fresh, evaluator), ""
    why = "is of another search" if kept is not None else "cannot be read"
    return Recorder(path, fresh, evaluator), f"begins anew: {path.name} {why}"
