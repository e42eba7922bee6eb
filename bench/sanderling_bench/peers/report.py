"""`docs/benchmarks.md`: the tables of a contest, the machine, the versions and the settings, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sanderling_bench.machine import Machine
from sanderling_bench.peers.bounds import SANDERLING, Bound, bounds, call_ratio, speedup
from sanderling_bench.peers.inputs import Modality
from sanderling_bench.peers.record import Chosen, Contest, Result
from sanderling_bench.statistics import Ratio, median, percentile

_NONE = "–"
_TITLES: dict[Modality, str] = {"text": "Texts: all-MiniLM-L6-v2", "image": "Images: EfficientNet-Lite0"}
_HEAD = """# Benchmarks

Written by `make peers`; do not edit. What is measured and how is said at the end.
"""
_METHOD = """## How it is measured

Each contestant is a process in a virtual environment of its own, with the packages named above. It first finds its own
best settings on this machine, by its own knobs, with successive halving over all combinations, once for throughput
and once for single calls; all are listed. "As it comes" is a library without any setting.

All contestants of a table answer the same inputs in the same run. They take turns, each round beginning with the next
of them, and whoever has no turn is suspended, so that no idle thread of it spins. Throughput is one call with all
inputs; whether and how they are sorted and batched is the contestant's own matter and its time counts, as do
tokenizing, resizing, pooling and labels. Single calls alternate in blocks; the first calls of a block
are not counted. Images are handed over decoded.

The factors are medians over medians of the same rounds with their 95% bootstrap intervals (percentile bootstrap, 10,000
draws over the rounds, 2,000 over the blocks of single calls). Above 1, Sanderling is faster. A contestant whose first
settings are more than four times slower than the fastest peer's is measured once, on an eighth of the inputs.

The cosine is that of each answer to sentence-transformers' in torch fp32 (for images, to torch's logits). A peer counts
at whatever quality it has. *Reads* is the number of tokens after which a contestant drops the rest of a text, found by
texts that differ in their last word alone.

*First answer* is from spawning the process to its first answer, the median of fresh starts with warm file caches.
*Memory* is the most its process had resident in the throughput rounds.

Compare the figures of one run only. To repeat it: `make peers`.
"""


def markdown(contest: Contest) -> str:
    """The whole document."""
    parts = [_HEAD, _machine(contest)]
    for modality, title in _TITLES.items():
        results = contest.of(modality)
        if results:
            count, source, digest = contest.inputs[modality]
            parts.append(f"## {title}\n\n{count:,} inputs ({source}; SHA-256 {digest[:16]}…).\n")
            parts.append(_measures(results, count))
            parts.append(_factors(results))
    parts += ["## What must hold\n", _bounds(contest), "## Settings found\n", *map(_settings, contest.results), _METHOD]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def bounds_table(found: Sequence[Bound]) -> str:
    """The bounds beside what was reached, as a Markdown table."""
    rows = []
    for bound in found:
        reached = _NONE if bound.value is None else f"{bound.value:.3f}"
        interval = _NONE if bound.low is None else f"{bound.low:.3f} to {bound.high:.3f}"
        held = {True: "yes", False: "**no**", None: "not measured"}[bound.held]
        rows.append((bound.what, bound.note, reached, interval, bound.limit, held))
    return _table(("what", "peer", "reached", "95% interval", "bound", "held"), rows)


def _machine(contest: Contest) -> str:
    machine: Machine = contest.machine
    features = ", ".join(
        f"{name} {'unknown' if has is None else 'yes' if has else 'no'}" for name, has in machine.features.items()
    )
    memory = "unknown" if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in contest.versions.items())
    return (
        f"Measured on {contest.created[:10]} in {contest.minutes:.0f} minutes, on {machine.processor}, {machine.cores} "
        f"cores granted of {machine.processors}, {memory} memory; {machine.system}.\n\n"
        f"Processor: {features}. int8 and bf16 are fast only where VNNI or AMX is there; the bounds below are stated "
        f"for AMX.\n\nSanderling runs with {versions}.\n"
    )


def _measures(results: Sequence[Result], count: int) -> str:
    texts = any(result.token_limit for result in results)
    last = ("reads",) if texts else ("same label",)
    inputs = "texts/s" if results[0].modality == "text" else "images/s"
    head = ("", inputs, "p50 ms", "p99 ms", "first answer s", "memory MB", "cosine mean", "min", *last)
    rows = [_row(result, count, texts) for result in results]
    return _table(head, rows)


def _row(result: Result, count: int, texts: bool) -> tuple[str, ...]:
    if result.unavailable:
        return (result.name, f"took no part: {_cell(result.unavailable)}", *[""] * 7)
    calls = [seconds for block in result.blocks for seconds in block]
    p99 = percentile(calls, 0.99)
    mean = _NONE if not result.cosines else f"{sum(result.cosines) / len(result.cosines):.4f}"
    least = _NONE if not result.cosines else f"{min(result.cosines):.4f}"
    if texts:
        last = _NONE if result.token_limit is None else f"{result.token_limit} tokens"
    else:
        last = _NONE if result.agreement is None else f"{100 * result.agreement:.1f}%"
    return (
        result.name,
        f"{count / median(result.rounds):.0f}",
        f"{median(calls) * 1e3:.2f}",
        _NONE if p99 is None else f"{p99 * 1e3:.2f}",
        f"{median(result.starts):.2f}",
        _NONE if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}",
        mean,
        least,
        last,
    )


def _factors(results: Sequence[Result]) -> str:
    ours = next((result for result in results if result.name == SANDERLING and not result.unavailable), None)
    if ours is None:
        return ""
    rows = []
    for peer in results:
        if peer is ours or peer.unavailable:
            continue
        p50, p99 = (call_ratio(ours, peer, quantile) for quantile in (0.5, 0.99))
        rows.append((peer.name, _ratio(speedup(ours, peer)), _inverse(p50), _inverse(p99)))
    return "Sanderling, times as fast as:\n\n" + _table(("", "throughput", "one input, p50", "one input, p99"), rows)


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return _NONE
    if ratio.pairs == 1:
        return f"{ratio.value:.2f} (measured once)"
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _inverse(ratio: Ratio | None) -> str:
    return _ratio(ratio and Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.pairs))


def _bounds(contest: Contest) -> str:
    return bounds_table(bounds(contest))


def _settings(result: Result) -> str:
    if result.throughput is None or result.latency is None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [f"**{result.name}** ({_TITLES[result.modality].partition(':')[0].lower()}). {versions}".rstrip(" ") + "\n"]
    lines += [
        f"- {what}: {_chosen(chosen)}"
        for what, chosen in (("all at once", result.throughput), ("one at a time", result.latency))
    ]
    return "\n".join(lines) + "\n"


def _chosen(chosen: Chosen) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in (chosen.load | chosen.call).items())
    count = len(chosen.tried)
    return f"{settings or 'nothing set'}" + (f" (the best of {count})" if count else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
