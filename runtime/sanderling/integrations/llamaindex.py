"""LlamaIndex: an embedding model of Sanderling wherever LlamaIndex takes a `BaseEmbedding`."""

from __future__ import annotations

from typing import Any

from sanderling.errors import MissingExtraError
from sanderling.integrations.models import texts_model
from sanderling.prompts import prompt_for
from sanderling.tasks.feature_extraction import EmbeddingModel

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
except ImportError as error:
    raise MissingExtraError("The LlamaIndex adapter", "llamaindex", "llama-index-core") from error

# Texts that LlamaIndex hands over at a time: enough that Sanderling fills its own batches, which are by tokens.
_AT_A_TIME = 256


class SanderlingEmbedding(BaseEmbedding):  # type: ignore[misc]
    """LlamaIndex's BaseEmbedding by a model that `sanderling.load` gave; safe to share between threads.

    `query_prompt` and `text_prompt` name prompts of the model (default: its "query", and its "document", "passage" or
    "corpus", where it has them). Raises InputError for another model, or a prompt that it does not have.
    """

    _model: EmbeddingModel = PrivateAttr()
    _query_prompt: str | None = PrivateAttr()
    _text_prompt: str | None = PrivateAttr()

    def __init__(
        self,
        model: EmbeddingModel,
        *,
        query_prompt: str | None = None,
        text_prompt: str | None = None,
        embed_batch_size: int = _AT_A_TIME,
        callback_manager: Any = None,
    ) -> None:
        checked = texts_model(model)
        # Left out where there is none: LlamaIndex makes one of its own, and takes no None for it.
        managed = {} if callback_manager is None else {"callback_manager": callback_manager}
        super().__init__(model_name=checked.name, embed_batch_size=embed_batch_size, **managed)
        self._model = checked
        self._query_prompt = prompt_for(checked, "query", query_prompt)
        self._text_prompt = prompt_for(checked, "document", text_prompt)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serializes it."""
        return "SanderlingEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model(query, prompt=self._query_prompt).embedding.tolist()  # type: ignore[no-any-return]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._model(text, prompt=self._text_prompt).embedding.tolist()  # type: ignore[no-any-return]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model(list(texts), prompt=self._text_prompt).embeddings.tolist()  # type: ignore[no-any-return]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        found = await self._model.acall(query, prompt=self._query_prompt)
        return found.embedding.tolist()  # type: ignore[no-any-return]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        found = await self._model.acall(text, prompt=self._text_prompt)
        return found.embedding.tolist()  # type: ignore[no-any-return]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found = await self._model.acall(list(texts), prompt=self._text_prompt)
        return found.embeddings.tolist()  # type: ignore[no-any-return]
