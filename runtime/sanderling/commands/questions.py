"""`sanderling run` on models that answer questions about pictures: each picture with each question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sanderling.errors import InputError
from sanderling.generation.questions import PictureQuestion
from sanderling.generation.rules import ANSWERING

if TYPE_CHECKING:
    from sanderling.commands.items import Item
    from sanderling.model import Model


def each(model: Model, items: Iterator[Item], asked: list[str]) -> Iterator[Item]:
    """The inputs with their questions. Raises InputError: pictures without a question, or a question elsewhere."""
    if model.task != ANSWERING:
        if asked:
            raise InputError(f"--question goes with models of {ANSWERING}; {model.name} is for {model.task}.")
        return items
    if not asked:
        raise InputError(f'{model.name} answers questions about pictures: ask one with --question "...".')
    return (_with(item, question) for item in items for question in asked)


def _with(item: Item, question: str) -> Item:
    value = None if item.error is not None else PictureQuestion(item.value, question)
    return replace(item, value=value, question=question)
