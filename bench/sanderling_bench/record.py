"""The record of a benchmark, version 1: raw samples, and apart from them the summary that was made of them.

`docs/bench.md` describes the fields. Unknown fields are ignored; an unknown version is refused.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sanderling.errors import BenchError
from sanderling.storage import write_atomic
from sanderling_bench.machine import Machine

FORMAT = "sanderling-bench"
VERSION = 1

Scenario = Literal["single-stream", "offline"]
Modality = Literal["text", "image"]


class BundleId(Struct, frozen=True):
    """Which bundle was measured: `digest` is the SHA-256 of its `bundle.json`."""

    name: str
    task: str
    digest: str


class Settings(Struct, frozen=True):
    """What was asked for. `inputs_digest` is the SHA-256 over the inputs in order, each led by its length in bytes."""

    variants: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    provider: str
    threads: int
    rounds: int
    samples: int
    warmup: int
    cold_starts: int
    modality: Modality
    inputs: int
    inputs_digest: str
    inputs_from: str
    seed: int


class Stages(Struct, frozen=True):
    """Seconds of one call before the graph, in it, and after it."""

    preprocess: float
    run: float
    postprocess: float


class Call(Struct, frozen=True):
    """One timed call: its round, the index of its input (0 if it was given all), and its seconds."""

    round: int
    input: int
    seconds: float
    stages: Stages | None = None


class ColdStart(Struct, frozen=True):
    """Seconds of one fresh process, each from its predecessor: importing, loading, the first answer.

    `wall` is from spawning the process to its answer, seen from outside: the interpreter's own start is in it.
    """

    imported: float
    loaded: float
    answered: float
    wall: float


class Samples(Struct, frozen=True):
    """Everything measured of one variant, unsummarized. `tokens` counts those of all inputs once (texts only)."""

    single_stream: tuple[Call, ...] = ()
    offline: tuple[Call, ...] = ()
    cold_start: tuple[ColdStart, ...] = ()
    peak_memory_bytes: int | None = None
    cosine_to_fp32: tuple[float, ...] = ()
    same_label_as_fp32: tuple[bool, ...] = ()
    tokens: int | None = None


class Percentiles(Struct, frozen=True):
    """Nearest-rank percentiles of `samples` times, in seconds; null where the count does not support one."""

    samples: int
    p50: float | None
    p90: float | None
    p99: float | None


class RatioSummary(Struct, frozen=True):
    """fp32's median over the variant's, by rounds: above 1 is faster. `low` and `high` end the 95% interval."""

    value: float
    low: float
    high: float
    rounds: int


class Throughput(Struct, frozen=True):
    """Medians over the rounds of the offline scenario."""

    rounds: int
    items_per_second: float
    tokens_per_second: float | None


class ColdStartSummary(Struct, frozen=True):
    """Medians over `processes` fresh processes, in seconds."""

    processes: int
    imported: float
    loaded: float
    answered: float
    wall: float


class DriftSummary(Struct, frozen=True):
    """Distance from fp32's answers in the same run, over the inputs. `agreement` is of first labels (classifiers)."""

    samples: int
    cosine_mean: float
    cosine_min: float
    agreement: float | None


class Summary(Struct, frozen=True):
    """What the samples of one variant say. What was not measured is null."""

    size_bytes: int
    latency: Percentiles | None = None
    stages: Stages | None = None
    speedup_single_stream: RatioSummary | None = None
    throughput: Throughput | None = None
    speedup_offline: RatioSummary | None = None
    cold_start: ColdStartSummary | None = None
    peak_memory_bytes: int | None = None
    drift: DriftSummary | None = None


class Record(Struct, frozen=True):
    """One run of the bench. `harness` holds the seconds of calls to a system that does nothing."""

    format: str
    version: Annotated[int, Meta(ge=1)]
    created: str
    bundle: BundleId
    machine: Machine
    versions: dict[str, str]
    settings: Settings
    harness: tuple[float, ...]
    samples: dict[str, Samples]
    summary: dict[str, Summary]


class _Header(Struct, frozen=True):
    format: str
    version: int


def encode(record: Record) -> bytes:
    """The record as JSON, UTF-8, in one line ending in a newline."""
    return msgspec.json.encode(record) + b"\n"


def decode(raw: bytes, where: str) -> Record:
    """Read a record; `where` names it in errors. Raises BenchError: not a record, or of a version not known here."""
    try:
        header = msgspec.json.decode(raw, type=_Header)
        if header.format != FORMAT:
            raise BenchError(f"{where} has the format {header.format[:80]!r}, expected {FORMAT!r}.")
        if header.version != VERSION:
            raise BenchError(
                f"{where} has record version {header.version}; this Sanderling reads version {VERSION}. "
                "Update it, or measure again."
            )
        return msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BenchError(f"{where} is no benchmark record: {error}. Measure again.") from error


def read(path: Path) -> Record:
    """The record in the file `path`. Raises BenchError if it cannot be read or is none."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from error
    return decode(raw, str(path))


def write(record: Record, path: Path) -> None:
    """Write the record to `path`, whole or not at all. Raises StorageError if it cannot be."""
    write_atomic(path, encode(record))


def versions() -> dict[str, str]:
    """Versions of Python and of what decides an answer and its speed."""
    homes = metadata.packages_distributions()
    found = {"python": platform.python_version()}
    for module, name in (
        ("numpy", "numpy"),
        ("onnxruntime", "onnxruntime"),
        ("tokenizers", "tokenizers"),
        ("PIL", "pillow"),
        ("sanderling", "sanderling"),
    ):
        # ONNX Runtime comes under several names (onnxruntime-gpu ...); the module knows which one it is from.
        distributions = homes.get(module) or [name]
        found[name] = ", ".join(sorted({metadata.version(distribution) for distribution in distributions}))
    return found
