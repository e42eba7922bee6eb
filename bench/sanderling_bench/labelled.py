"""Labelled rows to cases: an input or a pair of inputs with its truth, checked before a model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sanderling import components
from sanderling.bundle import Bundle
from sanderling.components import joins
from sanderling.errors import EvalError
from sanderling.schema.answers import ClassificationOutput, ForecastOutput, RegressionOutput
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.tasks.zero_shot import MAX_LABELS
from sanderling_bench.datasets import SUFFIXES, Row, names_of, number, pick, rows
from sanderling_bench.metrics import Kind

# The usual names of a column, by what it is for.
_INPUT = {"text": ("text", "sentence"), "image": ("image", "path"), "audio": ("audio", "path")}
_PAIR = {
    "text": (("text1", "sentence1"), ("text2", "sentence2")),
    "image": (("image1", "path1"), ("image2", "path2")),
    "audio": (("audio1", "path1"), ("audio2", "path2")),
}
_TRUTH: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "classification": ("label", ("label",)),
    "pairs": ("score", ("score",)),
    "regression": ("target", ("target", "score")),
}


# What data for models that write is of, be it what they see, what they are told, or what they hear.
_WRITTEN: dict[str, Kind] = {
    "image-to-text": "captions",
    "visual-question-answering": "answers",
    "text-generation": "continuation",
    "automatic-speech-recognition": "transcripts",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One row: its line, its inputs (texts, paths of images or sounds, or the values of a table's row), and its truth
    (a label's number, or a figure)."""

    line: int
    inputs: tuple[Any, ...]
    truth: float


def kind_of(bundle: Bundle, data: Path) -> Kind:
    """What the data is for: a folder is for retrieval, a file for what the bundle answers with."""
    if joins(bundle.manifest):
        return "retrieval" if data.is_dir() else "classification"
    if bundle.manifest.task in _WRITTEN:
        if data.is_dir():
            raise EvalError(f"{data} is a folder; a model for {bundle.manifest.task} is evaluated on a file of rows.")
        return _WRITTEN[bundle.manifest.task]
    if len(bundle.manifest.components) > 1:
        raise EvalError(
            f"eval takes models of one graph; {bundle.manifest.name} is for {bundle.manifest.task}. "
            "The drift of its graphs is shown by: sanderling inspect --drift"
        )
    head = components.head(bundle.manifest, next(iter(bundle.manifest.components)))
    if isinstance(head, ForecastOutput):
        return "forecast"
    if isinstance(head, RegressionOutput):
        return "regression"
    if bundle.manifest.task == "text-ranking" or isinstance(head, TokenOutput):
        if not data.is_dir():
            kind = "late interaction" if isinstance(head, TokenOutput) else "text-ranking"
            raise EvalError(
                f"{data} is a file; a model of {kind} is evaluated on a folder with queries, corpus and qrels."
            )
        return "retrieval"
    if isinstance(head, EmbeddingOutput | SparseOutput):
        return "retrieval" if data.is_dir() else "pairs"
    if isinstance(head, ClassificationOutput) and len(head.labels) > 1:
        return "classification"
    return "regression"


def modality_of(bundle: Bundle) -> str:
    """What the bundle's models take: "text", "image" or "audio"; those that join texts and images decide images."""
    if joins(bundle.manifest):
        return "image"
    known = bundle.manifest.preprocessing
    return "text" if known.text is not None else "audio" if known.audio is not None else "image"


class Labelled:
    """A file of labelled rows, for one bundle. Columns in `given` (role to name) go before the usual names."""

    def __init__(self, bundle: Bundle, kind: Kind, path: Path, given: Mapping[str, str]) -> None:
        modality = modality_of(bundle)
        role, usual = _TRUTH[kind]
        names = _PAIR[modality] if kind == "pairs" else (_INPUT[modality],)
        self.path = path
        self._name, self._kind = bundle.manifest.name, kind
        self._files = None if modality == "text" else modality
        self._truth = role
        self._inputs = tuple(choices[0] for choices in names)
        self._roles = names_of({**{choices[0]: choices for choices in names}, role: usual}, given)
        head = bundle.manifest.postprocessing
        self._labels = None
        if kind == "classification" and isinstance(head, ClassificationOutput):
            self._labels = LabelNumbers(head.labels)
        # What a model decides among whose labels are free: those of the data.
        self.free_labels: tuple[str, ...] = ()
        self._joins = joins(bundle.manifest)

    def columns(self) -> dict[str, str]:
        """The column of each role, as the first row has them."""
        first = next(rows(self.path), None)
        if first is None:
            return {}
        return {role: next(name for name in names if name in first.cells) for role, names in self._roles.items()}

    def check(self) -> int:
        """Read every row and count them. Raises EvalError: a row that is no case, or no row at all."""
        first = next(rows(self.path), None)
        if first is None:
            header = "" if self._is_json() else " below its first line, which names the columns"
            raise EvalError(f"{self.path} has no rows{header}. {self._wanted()}")
        missing = [role for role, names in self._roles.items() if not any(name in first.cells for name in names)]
        if missing:
            met = ", ".join(list(first.cells)[:12]) or "none"
            raise EvalError(
                f"{self.path} has no column for {' and '.join(missing)}; it has {met[:300]}. {self._wanted()} "
                f"Tell other names with: --column {missing[0]}=NAME"
            )
        if self._joins:
            self.free_labels = self._found_labels()
            self._labels = LabelNumbers(self.free_labels)
        return sum(1 for _ in self._cases())

    def _found_labels(self) -> tuple[str, ...]:
        """The labels that occur, in alphabetical order."""
        found: set[str] = set()
        for row in rows(self.path):
            found.add(pick(self.path, row, self._truth, self._roles[self._truth]))
            if len(found) > MAX_LABELS:
                raise EvalError(f"{self.path} has more than {MAX_LABELS:,} labels; fewer were expected.")
        if len(found) < 2:
            raise EvalError(f"{self.path} has one label alone ({next(iter(found))[:60]!r}); deciding needs at least 2.")
        return tuple(sorted(found))

    def cases(self, count: int, limit: int | None, seed: int) -> Iterator[Case]:
        """The cases of all `count` rows, or of `limit` of them drawn with the seed, in the order of the file."""
        chosen = sample(count, limit, seed)
        found = 0
        for index, case in enumerate(self._cases()):
            if chosen is None or index in chosen:
                found += 1
                yield case
        if found != (count if chosen is None else len(chosen)):
            raise EvalError(f"{self.path} was changed while it was read. Evaluate again.")

    def _is_json(self) -> bool:
        return SUFFIXES.get(self.path.suffix.lower()) == "jsonl"

    def _wanted(self) -> str:
        columns = ", ".join(" or ".join(names) for names in self._roles.values())
        other = "; for retrieval give a folder" if self._kind == "pairs" else ""
        return f"For {self._name} ({self._kind}) the columns are: {columns}{other}."

    def _cases(self) -> Iterator[Case]:
        for row in rows(self.path):
            inputs = tuple(self._input(row, role) for role in self._inputs)
            yield Case(row.line, inputs, self._truth_of(row))

    def _input(self, row: Row, role: str) -> str | Path:
        cell = pick(self.path, row, role, self._roles[role])
        return image_file(self.path, row, cell, self._files) if self._files is not None else cell

    def _truth_of(self, row: Row) -> float:
        if self._labels is None:
            return number(self.path, row, self._truth, self._roles[self._truth])
        cell = pick(self.path, row, self._truth, self._roles[self._truth])
        return self._labels.of(self.path, row, cell)


def image_file(path: Path, row: Row, cell: str, what: str = "image") -> Path:
    """The image (or `what` else it is) that a cell names, relative to the file that it stands in, so that a folder of
    data can be moved.

    Raises EvalError where there is none.
    """
    try:
        image = path.parent / cell
        if image.is_file():
            return image
    except (OSError, ValueError):  # too long for a path, or with a NUL
        pass
    raise EvalError(f"{path}, line {row.line}: there is no {what} {cell[:200]!r} in {path.parent}.")


class LabelNumbers:
    """A model's labels by name, or by number counting from 0 where no name is a number itself."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._names = labels
        self._numbers: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._numbers.setdefault(label, []).append(index)
        self._by_number = not any(label.isdecimal() for label in labels)

    def of(self, path: Path, row: Row, cell: str) -> int:
        """The number of the label in a cell of a row. Raises EvalError: it is none of the model's."""
        try:
            return self.number(cell)
        except KeyError as reason:
            raise EvalError(f"{path}, line {row.line}: the label {cell[:60]!r} {reason.args[0]}.") from None

    def number(self, cell: str) -> int:
        """The label's number. Raises KeyError with the rest of a sentence that says why there is none."""
        named = self._numbers.get(cell, [])
        if len(named) == 1:
            return named[0]
        if named:
            numbers = " and ".join(map(str, named[:5]))
            raise KeyError(f"is the name of the labels {numbers} of this model; give the number")
        if self._by_number and cell.isascii() and cell.isdecimal() and len(cell) < 10 and int(cell) < len(self._names):
            return int(cell)
        shown = ", ".join(self._names[:10]) + (f" and {len(self._names) - 10} more" if len(self._names) > 10 else "")
        numbers = f", or their numbers from 0 to {len(self._names) - 1}" if self._by_number else ""
        raise KeyError(f"is none of this model's: {shown}{numbers}")


def sample(count: int, limit: int | None, seed: int) -> frozenset[int] | None:
    """`limit` of `count` numbers, drawn without replacement; None where that is all of them."""
    if limit is None or limit >= count:
        return None
    drawn = np.random.default_rng(seed).choice(count, size=limit, replace=False, shuffle=False)
    return frozenset(drawn.tolist())
