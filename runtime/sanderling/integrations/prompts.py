"""Which of a model's prompts go before queries, and which before what is searched."""

from __future__ import annotations

from typing import Literal

import sanderling
from sanderling.errors import InputError
from sanderling.tasks.feature_extraction import EmbeddingModel

# The names that models give them, as sentence-transformers' encode_query and encode_document look for them.
QUERY = ("query",)
DOCUMENT = ("document", "passage", "corpus")

Side = Literal["query", "document"]


def prompt_for(model: EmbeddingModel, side: Side, asked: str | None) -> str | None:
    """The name of the prompt for queries or documents: the one asked for, else its own that is not empty.

    Raises InputError for one that the model does not have.
    """
    if asked is not None and asked not in model.prompts:
        raise InputError(
            f"{model.name} has no prompt {asked!r} for a {side}; it has {', '.join(model.prompts) or 'none'}."
        )
    known = QUERY if side == "query" else DOCUMENT
    return asked or next((name for name in known if model.prompts.get(name)), None)


def texts_model(model: object) -> EmbeddingModel:
    """The model, if it makes vectors of texts. Raises InputError for anything else."""
    if not isinstance(model, EmbeddingModel) or model.modality != "text":
        raise InputError(
            f"{model!r} was given; a model that embeds texts was expected, as "
            f"{sanderling.__name__}.load gives it for a bundle of the task feature-extraction."
        )
    return model
