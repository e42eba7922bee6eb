"""Which models adapters take."""

from __future__ import annotations

import sanderling
from sanderling.errors import InputError
from sanderling.tasks.feature_extraction import EmbeddingModel


def texts_model(model: object) -> EmbeddingModel:
    """The model, if it makes vectors of texts. Raises InputError for anything else."""
    if not isinstance(model, EmbeddingModel) or model.modality != "text":
        raise InputError(
            f"{model!r} was given; a model that embeds texts was expected, as "
            f"{sanderling.__name__}.load gives it for a bundle of the task feature-extraction."
        )
    return model
