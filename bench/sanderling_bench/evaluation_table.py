"""An evaluation as a table that a person likes to read, 80 columns wide."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sanderling.commands.console import visible
from sanderling_bench.evaluation_record import EvalRecord, Interval, Score

_NONE = "–"
_WHAT = {
    "classification": "labelled {}",
    "pairs": "pairs with a score",
    "retrieval": "queries",
    "regression": "{} with a number",
    "forecast": "values forecast",
    "captions": "captioned pictures",
    "answers": "answered questions",
    "continuation": "texts",
    "transcripts": "sounds with what is said",
}


def render(record: EvalRecord) -> Group:
    """The table of a record, for a rich console: each metric with all variants under one another."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in ("metric", "variant"):
        table.add_column(column, no_wrap=True)
    compared = any(score.difference for scores in record.scores.values() for score in scores.values())
    for column in ("value", "95% interval", *((f"difference to {record.settings.reference}",) if compared else ())):
        table.add_column(column, justify="right", overflow="fold")
    for metric in record.settings.metrics:
        for index, variant in enumerate(record.settings.variants):
            score = record.scores[variant][metric]
            name = f"{metric} {'↑' if score.higher_is_better else '↓'}" if index == 0 else ""
            cells: list[Text | str] = [
                _figure(score.value),
                _ends(score.value),
                *([_difference(score)] if compared else []),
            ]
            last = index == len(record.settings.variants) - 1
            table.add_row(name, Text(variant), *cells, end_section=last and metric != record.settings.metrics[-1])
    return Group(_head(record), table, *_notes(record))


def show(record: EvalRecord, console: Console) -> None:
    """Print the table of a record."""
    console.print(render(record))


def _head(record: EvalRecord) -> Text:
    data, settings = record.data, record.settings
    task = record.bundle.task
    nouns = {"image": "images", "tabular": "rows", "audio": "sounds"}
    modality = nouns.get(task.partition("-")[0], "texts")
    text = Text(visible(record.bundle.name), style="bold")
    text.append(f"  {record.bundle.task}\n")
    rows = data.files[0].rows
    part = ""
    if data.kind == "forecast":
        part = f", from rolling origins in a series of {rows:,}"
    elif data.cases == settings.limit and data.cases < rows:
        part = f", drawn from {rows:,} rows with the seed {settings.seed}"
    elif data.cases < rows:
        part = f", those of {rows:,} to which a document is relevant"
    names = ", ".join(visible(file.path) for file in data.files)
    lines = [
        f"{data.cases:,} {_WHAT[data.kind].format(modality)}{part}: {names}",
        f"{settings.provider}, {settings.threads} {'thread' if settings.threads == 1 else 'threads'}, "
        f"onnxruntime {record.versions['onnxruntime']}, scikit-learn {record.versions['scikit-learn']}, "
        f"scipy {record.versions['scipy']}",
    ]
    if settings.query_prompt or settings.prompt:
        of_queries = f"{settings.query_prompt or 'none'} for queries, " if data.kind == "retrieval" else ""
        lines.append(visible(f"prompts: {of_queries}{settings.prompt or 'none'} for the texts"))
    if settings.language:
        lines.append(visible(f"language: {settings.language}"))
    text.append("\n".join(lines) + "\n", style="dim")
    return text


def _figure(value: Interval | None) -> str:
    return _NONE if value is None else f"{value.value:.4f}"


def _ends(value: Interval | None) -> str:
    return _NONE if value is None or value.low is None or value.high is None else f"{value.low:.3f}–{value.high:.3f}"


def _difference(score: Score) -> Text:
    found = score.difference
    if found is None or found.low is None or found.high is None:
        return Text("")
    text = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    better, worse = found.low > 0, found.high < 0
    if not score.higher_is_better:
        better, worse = worse, better
    return Text(text, style="green" if better else "red" if worse else "")


def _notes(record: EvalRecord) -> list[Text]:
    settings = record.settings
    scores = [score for of in record.scores.values() for score in of.values()]
    notes = [
        f"Intervals from {settings.resamples:,} bootstrap draws of the {record.data.cases:,} cases"
        + (", the same for all variants" if len(settings.variants) > 1 else "")
        + "."
    ]
    if settings.dimensions or settings.precisions:
        notes.append(f"{settings.variants[-1]}: a variant with vectors of fewer numbers, or in fewer bytes.")
    if any(score.difference for score in scores):
        notes.append(f"A difference is clear where its interval leaves out 0. ↑ higher is better{_down(record)}.")
    if any(score.value is None for score in scores):
        notes.append(f"{_NONE}: not defined, since all scores or all answers are the same.")
    if record.data.cut:
        notes.append(
            f"Of {record.data.cut:,} sounds a part is missing in their files: it was not heard."
            if record.data.kind == "transcripts"
            else f"The models saw only the beginning of {record.data.cut:,} texts: they take no more tokens."
        )
    if record.data.cases < 100:
        notes.append("Fewer than 100 cases: intervals of so few are too narrow rather than too wide.")
    return [Text("\n" + "\n".join(notes), style="dim")]


def _down(record: EvalRecord) -> str:
    lower = any(not score.higher_is_better for of in record.scores.values() for score in of.values())
    return ", ↓ lower" if lower else ""
