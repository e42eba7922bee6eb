"""Chroma: a bundle as the embedding function of a collection, which remembers it and its embedding space."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sanderling
from sanderling.errors import MissingExtraError, SpaceError
from sanderling.integrations.models import texts_model
from sanderling.prompts import prompt_for

try:
    from chromadb.api.types import Documents, EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise MissingExtraError("The Chroma adapter", "chroma", "chromadb") from error


@register_embedding_function
class SanderlingEmbeddingFunction(EmbeddingFunction[Documents]):  # type: ignore[misc]
    """Chroma's EmbeddingFunction by the bundle in the folder `path`, loaded as `sanderling.load` does.

    `query_prompt` and `document_prompt` name prompts of the model (default: its "query", and its "document",
    "passage" or "corpus", where it has them). Chroma keeps these arguments and the fingerprint of the embedding space
    with a collection; opened again with a bundle of another space, a SpaceError is raised. Raises what
    `sanderling.load` raises, and InputError for a bundle of another task, or a prompt that it does not have.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        variant: str | None = None,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "path": os.fspath(path),
            "variant": variant,
            "dimensions": dimensions,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
        }
        self.model = texts_model(sanderling.load(path, variant=variant, dimensions=dimensions))
        self._query_prompt = prompt_for(self.model, "query", query_prompt)
        self._document_prompt = prompt_for(self.model, "document", document_prompt)

    def __call__(self, input: Documents) -> list[NDArray[np.float32]]:  # noqa: A002
        """A vector for each document."""
        return list(self.model(list(input), prompt=self._document_prompt).embeddings)

    def embed_query(self, input: Documents) -> list[NDArray[np.float32]]:  # noqa: A002
        """A vector for each text to search with."""
        return list(self.model(list(input), prompt=self._query_prompt).embeddings)

    @staticmethod
    def name() -> str:
        """The name under which Chroma finds it again."""
        return "sanderling"

    def default_space(self) -> str:
        """Chroma's word for how vectors are compared: by cosine."""
        return "cosine"

    def supported_spaces(self) -> list[str]:
        """All of Chroma's ways where vectors are normalized, else the cosine alone."""
        return ["cosine", "l2", "ip"] if self.model.normalized else ["cosine"]

    def get_config(self) -> dict[str, Any]:
        """What Chroma keeps with a collection: the arguments, and the fingerprint of the space."""
        return {**self._arguments, "space": self.model.space}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> SanderlingEmbeddingFunction:
        """The function that `get_config` described. Raises SpaceError where the bundle's space is another by now."""
        known = {key: value for key, value in config.items() if key not in ("path", "space")}
        made = SanderlingEmbeddingFunction(config["path"], **known)
        _check_space(config.get("space"), made.model.space, config["path"])
        return made

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Raises SpaceError for a change that leads to another embedding space."""
        _check_space(old_config.get("space"), str(new_config.get("space")), str(new_config.get("path")))


def _check_space(kept: str | None, found: str, path: str) -> None:
    if kept is not None and kept != found:
        raise SpaceError(
            f"The collection holds vectors of the space {kept[:16]}; the bundle {path} makes those of {found[:16]}. "
            "Open it with the bundle it was filled with, or embed its documents again in a new collection."
        )
