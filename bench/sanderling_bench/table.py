"""A record as tables that a person likes to read, 80 columns wide."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sanderling_bench.record import Modality, RatioSummary, Record, Summary
from sanderling_bench.statistics import QUANTILES, median, samples_needed

# What an input is called, one and several.
_NOUNS: dict[Modality, tuple[str, str]] = {
    "text": ("text", "texts"),
    "image": ("image", "images"),
    "tabular": ("row", "rows"),
    "series": ("series", "series"),
}
_NONE = "–"


def render(record: Record) -> Group:
    """The tables of a record, for a rich console: those for which something was measured."""
    summaries = record.summary.values()
    tables = []
    if any(of.latency for of in summaries):
        tables.append(_one_at_a_time(record))
    if any(of.throughput for of in summaries):
        tables.append(_all_at_once(record))
    if any(of.generation for of in summaries):
        tables.append(_writing(record))
    if any(of.cold_start for of in summaries):
        tables.append(_cold_start(record))
    tables.append(_weight(record))
    if any(of.metal for of in summaries):
        tables.append(_metal(record))
    return Group(_head(record), *tables, *_notes(record))


def show(record: Record, console: Console) -> None:
    """Print the tables of a record."""
    console.print(render(record))


def _head(record: Record) -> Text:
    settings, machine = record.settings, record.machine
    text = Text(record.bundle.name, style="bold")
    text.append(f"  {record.bundle.task}\n")
    lines = (
        f"{settings.inputs} {_NOUNS[settings.modality][1]}: {settings.inputs_from}",
        f"{machine.processor} ({machine.processor_class}), {settings.provider}, "
        f"{settings.threads} {'thread' if settings.threads == 1 else 'threads'}, "
        f"onnxruntime {record.versions['onnxruntime']}",
    )
    text.append("\n".join(lines) + "\n", style="dim")
    return text


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("variant")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _one_at_a_time(record: Record) -> Table:
    ranks = [f"p{quantile * 100:.0f}" for quantile in QUANTILES]
    table = _table("One at a time, ms", *ranks, "prepare", "run", "finish", "times fp32's speed")
    for name, of in record.summary.items():
        latency = of.latency
        times = (None,) * 3 if latency is None else (latency.p50, latency.p90, latency.p99)
        stages = of.stages
        split = (None,) * 3 if stages is None else (stages.preprocess, stages.run, stages.postprocess)
        table.add_row(name, *map(_ms, times), *map(_ms, split), _ratio(of.speedup_single_stream))
    return table


def _all_at_once(record: Record) -> Table:
    modality = record.settings.modality
    texts = modality == "text"
    table = _table("All at once", f"{_NOUNS[modality][1]}/s", *(["tokens/s"] if texts else []), "times fp32's speed")
    for name, of in record.summary.items():
        rates = of.throughput
        cells = [_rate(None if rates is None else rates.items_per_second)]
        if texts:
            cells.append(_rate(None if rates is None else rates.tokens_per_second))
        table.add_row(name, *cells, _ratio(of.speedup_offline))
    return table


def _writing(record: Record) -> Table:
    title = f"Writing {record.settings.new_tokens} tokens"
    table = _table(title, "first token p50, ms", "p90", "tokens/s behind it", "tokens/s, all at once")
    for name, of in record.summary.items():
        found = of.generation
        if found is None:
            table.add_row(name, *[_NONE] * 4)
            continue
        rates = (found.tokens_per_second, found.tokens_per_second_offline)
        table.add_row(name, *map(_ms, (found.first_token_p50, found.first_token_p90)), *map(_rate, rates))
    return table


def _cold_start(record: Record) -> Table:
    table = _table("Cold start in a fresh process, ms", "import", "load", "first answer", "in all")
    for name, of in record.summary.items():
        start = of.cold_start
        parts = (None,) * 4 if start is None else (start.imported, start.loaded, start.answered, start.wall)
        table.add_row(name, *map(_ms, parts))
    return table


def _weight(record: Record) -> Table:
    labelled = any(of.drift is not None and of.drift.agreement is not None for of in record.summary.values())
    columns = ["size MB", "peak memory MB", "cosine to fp32, mean", "min"]
    table = _table("Weight and drift", *columns, *(["same label"] if labelled else []))
    for name, of in record.summary.items():
        cells = [_mb(of.size_bytes), _mb(of.peak_memory_bytes), *_drift(of)]
        table.add_row(name, *cells[: None if labelled else -1])
    return table


def _metal(record: Record) -> Table:
    noun = _NOUNS[record.settings.modality][0]
    columns = [f"GFLOP a {noun}", "in int8", "one at a time", "all at once", "weights read"]
    table = _table("Distance to the metal: share of the peak, weights of a single call", *columns)
    for name, of in record.summary.items():
        metal = of.metal
        if metal is None:
            table.add_row(name, *[_NONE] * len(columns))
            continue
        operations = metal.float_operations + metal.integer_operations
        shares = (metal.single_stream, metal.offline, metal.weights)
        in_int8 = metal.integer_operations / operations if operations else 0.0
        table.add_row(name, f"{operations / 1e9:,.3f}", *map(_share, (in_int8, *shares)))
    return table


def _share(of: float | None) -> str:
    return _NONE if of is None else f"{of:.1%}"


def _drift(of: Summary) -> list[str]:
    drift = of.drift
    if drift is None:
        return [_NONE] * 3
    agreement = _NONE if drift.agreement is None else f"{drift.agreement:.1%}"
    return [f"{drift.cosine_mean:.5f}", f"{drift.cosine_min:.5f}", agreement]


def _notes(record: Record) -> list[Text]:
    counts = {of.latency.samples for of in record.summary.values() if of.latency is not None}
    notes = []
    if counts:
        count = min(counts)
        missing = [f"p{q * 100:.0f} needs {samples_needed(q)}" for q in QUANTILES if count < samples_needed(q)]
        notes.append(f"Percentiles of {count} calls of each variant" + (f"; {', '.join(missing)}." if missing else "."))
    if any(of.speedup_single_stream or of.speedup_offline for of in record.summary.values()):
        rounds = record.settings.rounds
        notes.append(f"Speeds beside fp32's with a 95% interval, over {rounds} rounds in which the variants alternate.")
    if record.metal is not None:
        peak = record.metal
        notes.append(
            f"Peaks in this run, {peak.threads} {'thread' if peak.threads == 1 else 'threads'}: "
            f"{peak.float_operations / 1e9:,.0f} GFLOP/s in fp32, {peak.integer_operations / 1e9:,.0f} GOP/s in int8, "
            f"{peak.memory_bytes / 1e9:,.1f} GB/s copying memory."
        )
    for name, of in record.samples.items():
        if of.host_runs and of.resident_runs:
            notes.append(
                f"{name}: the graph alone takes {_ms(median(of.host_runs))} ms from host to host, "
                f"{_ms(median(of.resident_runs))} ms with its data left in {record.settings.provider}'s memory."
            )
    notes.append(f"The harness itself takes {median(record.harness) * 1e6:.2f} µs a call.")
    return [Text(note, style="dim") for note in notes]


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds * 1e3:,.2f}"


def _rate(per_second: float | None) -> str:
    return _NONE if per_second is None else f"{per_second:,.1f}"


def _mb(count: int | None) -> str:
    return _NONE if count is None else f"{count / 1e6:,.1f}"


def _ratio(of: RatioSummary | None) -> str:
    return _NONE if of is None else f"{of.value:.2f} ({of.low:.2f}–{of.high:.2f})"
