"""Who takes part: the environments, the contestants and the knobs that each may turn, read from `peers.toml`."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sanderling.errors import BenchError
from sanderling_bench.peers.inputs import Modality

FILE = Path(__file__).with_name("peers.toml")
PROGRAMS = Path(__file__).with_name("systems")

Purpose = Literal["throughput", "latency"]
Value = str | int | bool | None
Settings = dict[str, Value]
Knobs = dict[str, tuple[Value, ...]]

# In the knobs: the cores that this process was granted.
CORES = "cores"


class Environment(Struct, frozen=True, forbid_unknown_fields=True):
    """`requires` are pinned requirements for pip. Without any, it is the environment that runs the contest."""

    requires: tuple[str, ...] = ()


class Grid(Struct, frozen=True, forbid_unknown_fields=True):
    """Values to try, all combined: of what is settled at loading, and of what each call may choose."""

    load: Knobs = {}
    call: Knobs = {}


class Contestant(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table. `load` and `call` are settings that stay; the grids are searched for each purpose.

    `program` names a file in `systems`, `models` what it needs of `convert.py`. `every_round` holds for a
    contestant that a bound names: it is measured in every round, however slow it is.
    """

    name: str
    environment: str
    program: str
    modality: Modality
    models: tuple[str, ...] = ()
    load: Settings = {}
    call: Settings = {}
    throughput: Grid = Grid()
    latency: Grid = Grid()
    every_round: bool = False

    @property
    def ours(self) -> bool:
        """Whether this is Sanderling itself, which takes bundles and no converted models."""
        return self.environment == "sanderling"

    def candidates(self, purpose: Purpose, cores: int) -> list[tuple[Settings, Settings]]:
        """Every combination of load and call settings to try, each once."""
        grid = self.throughput if purpose == "throughput" else self.latency
        fixed = _settled(self.load, cores), _settled(self.call, cores)
        found: dict[bytes, tuple[Settings, Settings]] = {}
        for load in _combined(grid.load, cores):
            for call in _combined(grid.call, cores):
                pair = (fixed[0] | load, fixed[1] | call)
                found[msgspec.json.encode(pair)] = pair
        return list(found.values())


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    """All environments by name, and the contestants in the order of the table."""

    environments: dict[str, Environment]
    contestants: tuple[Contestant, ...]

    def of(self, modality: Modality) -> tuple[Contestant, ...]:
        """Those that take texts, or images."""
        return tuple(contestant for contestant in self.contestants if contestant.modality == modality)


def read(path: Path = FILE) -> Catalogue:
    """Read a catalogue. Raises BenchError: not one, or a contestant of an environment or program that is not there."""
    try:
        catalogue = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Catalogue)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BenchError(f"{path} is no catalogue of peers: {error}.") from error
    for contestant in catalogue.contestants:
        if contestant.environment not in catalogue.environments:
            raise BenchError(f"{path}: {contestant.name} is in the environment {contestant.environment!r}, not listed.")
        if not (PROGRAMS / f"{contestant.program}.py").is_file():
            raise BenchError(f"{path}: {contestant.name} is run by {contestant.program}.py, which is not there.")
    return catalogue


def _combined(knobs: Mapping[str, tuple[Value, ...]], cores: int) -> list[Settings]:
    return [_settled(dict(zip(knobs, values, strict=True)), cores) for values in itertools.product(*knobs.values())]


def _settled(settings: Mapping[str, Any], cores: int) -> Settings:
    # TOML has no null: a knob left at its library's own default is written "default" and not handed over.
    return {name: cores if value == CORES else value for name, value in settings.items() if value != "default"}
