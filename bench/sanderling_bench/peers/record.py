"""The record of a contest: what each contestant was, how it was set, and every sample of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from sanderling.errors import BenchError
from sanderling.storage import write_atomic
from sanderling_bench.machine import Machine
from sanderling_bench.peers.catalogue import Settings
from sanderling_bench.peers.inputs import Modality


class Tried(Struct, frozen=True):
    """A combination of settings that the search measured: seconds for one input, None where it failed (`reason`)."""

    load: Settings
    call: Settings
    seconds: float | None
    reason: str = ""


class Chosen(Struct, frozen=True):
    """The settings that the search found, and all that it tried, the best first."""

    load: Settings
    call: Settings
    tried: tuple[Tried, ...]


class Result(Struct, frozen=True):
    """One contestant. Where `unavailable` says why it took no part, all else is empty.

    `rounds`: seconds of a call with all inputs, by round. `blocks`: seconds of single calls, by block. `starts`:
    seconds from spawning a process to its first answer. `cosines`: of each answer to the reference's. `agreement`: the
    share of first labels that are the reference's (images).
    `token_limit`: how many tokens of a text it reads, None where unknown.
    """

    name: str
    modality: Modality
    versions: dict[str, str] = {}
    unavailable: str = ""
    throughput: Chosen | None = None
    latency: Chosen | None = None
    rounds: tuple[float, ...] = ()
    blocks: tuple[tuple[float, ...], ...] = ()
    starts: tuple[float, ...] = ()
    peak_bytes: int | None = None
    cosines: tuple[float, ...] = ()
    agreement: float | None = None
    token_limit: int | None = None


class Contest(Struct, frozen=True):
    """One run: the results of one modality alternated with each other."""

    created: str
    machine: Machine
    versions: dict[str, str]
    inputs: dict[Modality, tuple[int, str, str]]
    results: tuple[Result, ...]
    minutes: float

    def of(self, modality: Modality) -> tuple[Result, ...]:
        """The results for texts, or for images."""
        return tuple(result for result in self.results if result.modality == modality)


def write(contest: Contest, path: Path) -> None:
    """Write the record to `path`, whole or not at all."""
    write_atomic(path, msgspec.json.encode(contest) + b"\n")


def read(path: Path) -> Contest:
    """The record in a file. Raises BenchError: it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Contest)
    except (OSError, msgspec.MsgspecError) as error:
        raise BenchError(f"{path} is no record of a contest of peers: {error}.") from error
