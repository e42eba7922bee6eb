"""Which of a model's prompts go before queries, and which before what is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from sanderling.errors import InputError

if TYPE_CHECKING:
    from sanderling.tasks.feature_extraction import EmbeddingModel

# The names that models give them, as sentence-transformers' encode_query and encode_document look for them.
QUERY = ("query",)
DOCUMENT = ("document", "passage", "corpus")

Side = Literal["query", "document"]


def choose(prompts: Mapping[str, str], side: Side) -> str | None:
    """The name of the prompt for queries or documents among a model's own, which are given by name; None without one.

    It is the first that says something. An empty one is taken where there is no other: it keeps a default prompt, which
    is of the other side, away.
    """
    known = [name for name in (QUERY if side == "query" else DOCUMENT) if name in prompts]
    return next((name for name in known if prompts[name]), known[0] if known else None)


def prompt_for(model: EmbeddingModel, side: Side, asked: str | None = None) -> str | None:
    """The name of the prompt for queries or documents: the one asked for, else what `choose` finds.

    Raises InputError for one that the model does not have.
    """
    prompts = model.prompts
    if asked is not None and asked not in prompts:
        raise InputError(f"{model.name} has no prompt {asked!r} for a {side}; it has {', '.join(prompts) or 'none'}.")
    return asked or choose(prompts, side)
