"""For code written for sentence-transformers: an `encode` of the same name and arguments, without that library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.errors import InputError
from sanderling.integrations.models import texts_model
from sanderling.precisions import compress
from sanderling.prompts import prompt_for
from sanderling.results import Embedding
from sanderling.tasks.feature_extraction import EmbeddingModel

# sentence-transformers' "ubinary" are Sanderling's bits. Its "int8" is calibrated on the vectors at hand, and so means
# something else in every call; it is refused here.
EncodePrecision: TypeAlias = Literal["float32", "ubinary"]

Vector: TypeAlias = NDArray[Any]


class SentenceEncoder:
    """The part of sentence-transformers' SentenceTransformer that makes and compares vectors.

    `model` is one that `sanderling.load` gave. Raises InputError for another.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = texts_model(model)

    @property
    def max_seq_length(self) -> int:
        """Tokens that the model takes, special ones included."""
        text = self.model.bundle.manifest.preprocessing.text
        assert text is not None  # texts_model() refuses a model without it
        return text.max_tokens

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name."""
        return self.model.prompts

    def get_embedding_dimension(self) -> int:
        """Length of each vector."""
        return self.model.dimension

    def get_sentence_embedding_dimension(self) -> int:
        """Length of each vector, by its older name."""
        return self.model.dimension

    @overload
    def encode(
        self,
        sentences: str,
        *,
        prompt_name: str | None = None,
        precision: EncodePrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Vector: ...
    @overload
    def encode(
        self,
        sentences: Sequence[str],
        *,
        prompt_name: str | None = None,
        precision: EncodePrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Vector: ...
    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        precision: EncodePrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Vector:
        """One vector (d,) of a text, or an array (n, d) of a list of them, as sentence-transformers' `encode` gives it.

        As there, vectors that `truncate_dim` cuts are only normalized again with `normalize_embeddings`, and a model
        that normalizes does so without being asked. Batches are Sanderling's own affair, and progress is not shown.
        """
        if precision not in ("float32", "ubinary"):
            raise InputError(
                f"precision is {precision!r}; float32 or ubinary was expected. For others call the model itself: "
                'model(texts, precision="int8").'
            )
        found = self.model(
            sentences if isinstance(sentences, str) else list(sentences),
            prompt=prompt_name,
            normalize=True if normalize_embeddings and truncate_dim is None else None,
        )
        rows = found.embedding[None] if isinstance(found, Embedding) else found.embeddings
        if truncate_dim is not None:
            rows = rows[:, :truncate_dim]
            if normalize_embeddings:
                rows = heads.unit(rows)
        vectors: Vector = compress(rows, "binary")[0] if precision == "ubinary" else rows
        return vectors[0] if isinstance(sentences, str) else vectors

    def encode_query(self, sentences: str | Sequence[str], *, prompt_name: str | None = None) -> Vector:
        """As `encode`, with the model's prompt for queries, if it has one and no other is named."""
        return self.encode(sentences, prompt_name=prompt_for(self.model, "query", prompt_name))

    def encode_document(self, sentences: str | Sequence[str], *, prompt_name: str | None = None) -> Vector:
        """As `encode`, with the model's prompt for documents, if it has one and no other is named."""
        return self.encode(sentences, prompt_name=prompt_for(self.model, "document", prompt_name))

    def similarity(self, a: Vector, b: Vector) -> NDArray[np.float32]:
        """Cosine similarity of each vector of `a` with each of `b`: (n, m), float32."""
        sides = [np.atleast_2d(np.asarray(side, np.float32)) for side in (a, b)]
        units = [heads.unit(side) for side in sides]
        return np.asarray(units[0] @ units[1].T, np.float32)
