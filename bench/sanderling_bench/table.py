"""A record as tables that a person likes to read."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sanderling_bench.record import Percentiles, RatioSummary, Record, Summary
from sanderling_bench.statistics import QUANTILES, median, samples_needed

_NONE = "–"


def render(record: Record) -> Group:
    """The tables of a record, for a rich console."""
    return Group(_head(record), _speed(record), _footprint(record), *_notes(record))


def show(record: Record, console: Console) -> None:
    """Print the tables of a record."""
    console.print(render(record))


def _head(record: Record) -> Text:
    settings, machine = record.settings, record.machine
    text = Text()
    text.append(f"{record.bundle.name}", style="bold")
    text.append(f"  {record.bundle.task}, {settings.inputs} {settings.modality}s ({settings.inputs_from})\n")
    text.append(
        f"{machine.processor}, {machine.processor_class}; {settings.threads} threads on {settings.provider}, "
        f"onnxruntime {record.versions['onnxruntime']}, {settings.rounds} rounds, variants alternating",
        style="dim",
    )
    return text


def _speed(record: Record) -> Table:
    table = Table(title="Speed", title_justify="left")
    table.add_column("variant", style="bold")
    for quantile in QUANTILES:
        table.add_column(f"p{quantile * 100:.0f} ms", justify="right")
    for name in ("prepare", "run", "finish ms"):
        table.add_column(name, justify="right")
    table.add_column("x fp32, one", justify="right")
    table.add_column("per s, all", justify="right")
    if record.settings.modality == "text":
        table.add_column("tokens/s", justify="right")
    table.add_column("x fp32, all", justify="right")
    for name, of in record.summary.items():
        table.add_row(name, *_latencies(of.latency), *_stages(of), *_throughput(record, of))
    return table


def _latencies(of: Percentiles | None) -> list[str]:
    return [_NONE] * 3 if of is None else [_ms(value) for value in (of.p50, of.p90, of.p99)]


def _stages(of: Summary) -> list[str]:
    stages = of.stages
    split = [_NONE] * 3 if stages is None else [_ms(s) for s in (stages.preprocess, stages.run, stages.postprocess)]
    return [*split, _ratio(of.speedup_single_stream)]


def _throughput(record: Record, of: Summary) -> list[str]:
    rates = of.throughput
    cells = [_NONE if rates is None else f"{rates.items_per_second:,.1f}"]
    if record.settings.modality == "text":
        tokens = rates.tokens_per_second if rates else None
        cells.append(_NONE if tokens is None else f"{tokens:,.0f}")
    return [*cells, _ratio(of.speedup_offline)]


def _footprint(record: Record) -> Table:
    table = Table(title="Weight and truth", title_justify="left")
    table.add_column("variant", style="bold")
    labelled = any(s.drift is not None and s.drift.agreement is not None for s in record.summary.values())
    columns = ["size MB", "peak MB", "import", "load", "answer ms", "cold start ms", "cosine mean", "min"]
    for column in [*columns, *(["same label"] if labelled else [])]:
        table.add_column(column, justify="right")
    for name, of in record.summary.items():
        start, drift = of.cold_start, of.drift
        cells = [_mb(of.size_bytes), _mb(of.peak_memory_bytes)]
        cells += (
            [_NONE] * 4
            if start is None
            else [_ms(s) for s in (start.imported, start.loaded, start.answered, start.wall)]
        )
        cells += [_NONE] * 2 if drift is None else [f"{drift.cosine_mean:.5f}", f"{drift.cosine_min:.5f}"]
        if labelled:
            cells.append(_NONE if drift is None or drift.agreement is None else f"{drift.agreement:.1%}")
        table.add_row(name, *cells)
    return table


def _notes(record: Record) -> list[Text]:
    counts = {of.latency.samples for of in record.summary.values() if of.latency is not None}
    notes = []
    if counts:
        count = min(counts)
        missing = [f"p{q * 100:.0f} needs {samples_needed(q)}" for q in QUANTILES if count < samples_needed(q)]
        notes.append(f"Percentiles of {count} calls each" + (f"; {', '.join(missing)}." if missing else "."))
    if any(of.speedup_single_stream or of.speedup_offline for of in record.summary.values()):
        notes.append("x fp32: fp32's time over the variant's, with its 95% interval over the rounds.")
    notes.append(f"The harness itself takes {median(record.harness) * 1e6:.2f} µs a call.")
    return [Text(note, style="dim") for note in notes]


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds * 1e3:,.2f}"


def _mb(count: int | None) -> str:
    return _NONE if count is None else f"{count / 1e6:,.1f}"


def _ratio(of: RatioSummary | None) -> str:
    return _NONE if of is None else f"{of.value:.2f} ({of.low:.2f}–{of.high:.2f})"
