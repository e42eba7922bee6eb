"""The record of a benchmark, version 1: raw samples, and apart from them the summary that was made of them.

`docs/bench.md` describes the fields. Unknown fields are ignored; an unknown version is refused.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.errors import BenchError
from sanderling_bench.envelope import Envelope
from sanderling_bench.machine import Machine

FORMAT = "sanderling-bench"
VERSION = 1

Scenario = Literal["single-stream", "offline"]
Modality = Literal["text", "image", "tabular", "series", "audio"]


class BundleId(Struct, frozen=True):
    """Which bundle was measured: `digest` is the SHA-256 of its `bundle.json`."""

    name: str
    task: str
    digest: str


class Settings(Struct, frozen=True):
    """What was asked for. `inputs_digest` is the SHA-256 over the inputs in order, each led by its length in bytes;
    `new_tokens` are those of each text that a model wrote."""

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
    component: str | None = None
    new_tokens: int | None = None


class Stages(Struct, frozen=True):
    """Seconds of one call before the graph, in it, and after it."""

    preprocess: float
    run: float
    postprocess: float


class Call(Struct, frozen=True):
    """One timed call: its round, the index of its input (0 if it was given all), and its seconds; of a model that
    writes also the seconds to its first token, and how many tokens there were in all."""

    round: int
    input: int
    seconds: float
    stages: Stages | None = None
    first_token: float | None = None
    new_tokens: int | None = None


class ColdStart(Struct, frozen=True):
    """Seconds of one fresh process, each from its predecessor: importing, loading, the first answer.

    `wall` is from spawning the process to its answer, seen from outside: the interpreter's own start is in it.
    """

    imported: float
    loaded: float
    answered: float
    wall: float


class Metal(Struct, frozen=True):
    """The best this machine's CPU did in the same run with `threads` threads, a second: operations of large products in
    float32 and in 8-bit integers (a multiplication with its addition is two), bytes read and written by copying."""

    threads: int
    float_operations: float
    integer_operations: float
    memory_bytes: float


class Samples(Struct, frozen=True):
    """Everything measured of one variant, unsummarized. `tokens` counts those of all inputs once (texts only).

    `float_operations` and `integer_operations` are those of each input alone, `weight_bytes` of the weights that the
    products of a run read. `host_runs` and `resident_runs` are seconds of the graph alone on single inputs: from host
    arrays to host arrays, and with inputs and outputs in the provider's memory; empty on the CPU, where that is one.
    """

    single_stream: tuple[Call, ...] = ()
    offline: tuple[Call, ...] = ()
    cold_start: tuple[ColdStart, ...] = ()
    peak_memory_bytes: int | None = None
    cosine_to_fp32: tuple[float, ...] = ()
    same_label_as_fp32: tuple[bool, ...] = ()
    tokens: int | None = None
    float_operations: tuple[int, ...] = ()
    integer_operations: tuple[int, ...] = ()
    weight_bytes: int | None = None
    host_runs: tuple[float, ...] = ()
    resident_runs: tuple[float, ...] = ()


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


class MetalSummary(Struct, frozen=True):
    """How far from what the machine can do. Operations are means of an input; `single_stream` and `offline` are the
    shares of the time taken that its operations would take at the peak, `weights` the share of a single call that
    reading the weights from memory once would take."""

    float_operations: float
    integer_operations: float
    single_stream: float | None
    offline: float | None
    weights: float | None


class GenerationSummary(Struct, frozen=True):
    """Of a model that writes, over `samples` single calls: seconds until the first token is there, and the tokens a
    second behind it (median); and the tokens a second of all inputs at once, their first ones included."""

    samples: int
    first_token_p50: float | None
    first_token_p90: float | None
    tokens_per_second: float | None
    tokens_per_second_offline: float | None


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
    metal: MetalSummary | None = None
    generation: GenerationSummary | None = None


class Record(Struct, frozen=True):
    """One run of the bench. `harness` holds the seconds of calls to a system that does nothing; `metal`
    is null on providers other than the CPU."""

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
    metal: Metal | None = None


ENVELOPE = Envelope(Record, FORMAT, VERSION, BenchError, "benchmark", "measure")
encode, decode, read, write = ENVELOPE.encode, ENVELOPE.decode, ENVELOPE.read, ENVELOPE.write


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
