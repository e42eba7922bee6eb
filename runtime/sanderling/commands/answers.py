"""Answers of one run an input, as JSON and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sanderling.commands import hearing, losses, numbers, pictures
from sanderling.commands.console import clean, plain, stdout
from sanderling.commands.items import Item
from sanderling.counts import counted
from sanderling.faces.results import Faces
from sanderling.results import Classification, Embedding, TextReport
from sanderling.tasks.late_interaction import TokenEmbedding
from sanderling.tasks.sparse import SparseEmbedding

if TYPE_CHECKING:
    from sanderling.model import Model
    from sanderling.predictions import Forecast, Prediction

    Result: TypeAlias = Embedding | TokenEmbedding | SparseEmbedding | Classification | Prediction | Forecast | Faces


def record(item: Item, result: Result | str) -> dict[str, Any]:
    """An answer, or why there is none, as it is printed in JSON."""
    record: dict[str, Any] = {"input": item.name} | ({} if item.question is None else {"question": item.question})
    if isinstance(result, str):
        return record | {"error": clean(result)}
    if isinstance(result, Embedding):
        record["embedding"] = result.embedding.tolist()
        if result.precision != "float32":
            record["precision"] = result.precision
        if result.scale is not None:
            record["scale"] = result.scale
    elif isinstance(result, Classification):
        record |= {"labels": result.labels, "scores": result.scores}
        if result.selected != result.labels[:1]:
            record["selected"] = result.selected
    elif isinstance(result, SparseEmbedding):
        record["weights"] = result.by_token
    elif isinstance(result, TokenEmbedding):
        record |= {"tokens": result.tokens, "embeddings": result.embeddings.tolist()}
    elif isinstance(result, Faces):
        record |= pictures.record(result)
    else:
        record |= numbers.record(result)
    if isinstance(result.report, TextReport) and result.report.windows > 1:
        record["windows"] = result.report.windows
    if lost := losses.lost(result.report):
        record["lost"] = lost
    return record


class Shown:
    """Answers for people, a few lines each."""

    def __init__(self, model: Model) -> None:
        self._console = stdout()
        self._hears = model.modality == "audio"
        threads = counted(model.threads, "thread")
        self._console.print(f"[bold]{model.name}[/] {model.variant} on {model.provider}, {threads}")

    def show(self, record: dict[str, Any]) -> None:
        """Print what `record` made of an answer."""
        name = " ".join(record["input"].split())
        name = plain(name if len(name) <= 72 else name[:71] + "…") or "[dim](empty)[/]"
        asked = f" {plain(clean(record['question']))}" if "question" in record else ""
        self._console.print(name + asked, soft_wrap=True)
        if "error" in record:
            self._below(f"[red]{plain(record['error'])}[/]")
        elif "embedding" in record:
            vector = record["embedding"]
            whole = record.get("precision") in ("int8", "binary")
            head = " ".join(f"{value:+d}" if whole else f"{value:+.4f}" for value in vector[:6])
            kind = {"int8": f" times {record.get('scale', 0):.3g}", "binary": " (bytes of bits)"}
            self._below(f"{len(vector)} numbers{kind.get(record.get('precision', ''), '')}: {head} …")
        elif "weights" in record:
            for token, weight in record["weights"].items():
                self._below(f"{weight:7.4f}  {plain(token)}")
        elif "embeddings" in record:
            for token, vector in zip(record["tokens"], record["embeddings"], strict=True):
                head = " ".join(f"{value:+.4f}" for value in vector[:4])
                self._below(f"{plain(token)}  {len(vector)} numbers: {head} …")
        elif "faces" in record:
            for line in pictures.lines(record):
                self._below(plain(line))
        elif "labels" not in record:
            for line in numbers.lines(record):
                self._below(plain(line))
        else:
            held = record.get("selected")
            for label, score in zip(record["labels"], record["scores"], strict=True):
                # Where several labels may hold, those that do are marked.
                mark = "" if held is None else "* " if label in held else "  "
                self._below(f"{mark}{score:7.4f}  {plain(label)}")
        if "windows" in record:
            self._below(f"[dim]in {record['windows']:,} windows[/]")
        if lost := record.get("lost"):
            words = hearing.in_words if self._hears else losses.in_words
            self._below("[yellow]" + ", ".join(words(name, value) for name, value in lost.items()) + "[/]")

    def _below(self, line: str) -> None:
        """A line that belongs to the one above: it stays indented where a terminal breaks it; in a pipe it is whole."""
        from rich.padding import Padding

        if self._console.is_terminal:
            self._console.print(Padding(line, (0, 0, 0, 2), expand=False))
        else:
            self._console.print(f"  {line}", soft_wrap=True)
