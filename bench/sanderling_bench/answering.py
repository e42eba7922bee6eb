"""Chunks of inputs through every variant; an input that is none is named by its file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import EvalError, InputError
from sanderling.model import Model
from sanderling.results import TextReport

T = TypeVar("T")

# Long enough that sorting texts by length leaves little padding; images are held decoded only a few at a time.
CHUNK = 256


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists of at most `CHUNK`."""
    remaining = iter(items)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def answer(
    models: Mapping[str, Model], path: Path, lines: Sequence[int], inputs: Sequence[Any], prompt: str | None
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Each variant's rows (n, d) of the inputs, of which the i-th is of the i-th line, and how many texts were cut.

    Raises EvalError for an input that is none of the model's, and what else answering raises.
    """
    found: dict[str, NDArray[np.float32]] = {}
    cut = 0
    for name, model in models.items():
        try:
            answers = model.answer(list(inputs), prompt)
        except InputError:
            _find(model, path, lines, inputs, prompt)
            raise  # each alone is answered: what is wrong is not any one of them
        found[name] = answers.rows
        cut = sum(isinstance(report, TextReport) and not report.complete for report in answers.reports)
    return found, cut


def _find(model: Model, path: Path, lines: Sequence[int], inputs: Sequence[Any], prompt: str | None) -> None:
    for line, item in zip(lines, inputs, strict=True):
        try:
            model.answer([item], prompt)
        except InputError as error:
            raise EvalError(f"{path}, line {line}: {error}") from error
