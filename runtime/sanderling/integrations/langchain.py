"""LangChain: an embedding model of Sanderling wherever LangChain takes `Embeddings`."""

from __future__ import annotations

from sanderling.errors import MissingExtraError
from sanderling.integrations.models import texts_model
from sanderling.prompts import prompt_for
from sanderling.tasks.feature_extraction import EmbeddingModel

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError("The LangChain adapter", "langchain", "langchain-core") from error


class SanderlingEmbeddings(Embeddings):  # type: ignore[misc]
    """LangChain's Embeddings by a model that `sanderling.load` gave; safe to share between threads.

    `query_prompt` and `document_prompt` name prompts of the model (default: its "query", and its "document",
    "passage" or "corpus", where it has them). Raises InputError for another model, or a prompt that it does not have.
    """

    def __init__(
        self, model: EmbeddingModel, *, query_prompt: str | None = None, document_prompt: str | None = None
    ) -> None:
        self.model = texts_model(model)
        self.query_prompt = prompt_for(self.model, "query", query_prompt)
        self.document_prompt = prompt_for(self.model, "document", document_prompt)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text that is to be found."""
        return self.model(list(texts), prompt=self.document_prompt).embeddings.tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text to search with."""
        return self.model(text, prompt=self.query_prompt).embedding.tolist()  # type: ignore[no-any-return]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        found = await self.model.acall(list(texts), prompt=self.document_prompt)
        return found.embeddings.tolist()  # type: ignore[no-any-return]

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without blocking the event loop."""
        found = await self.model.acall(text, prompt=self.query_prompt)
        return found.embedding.tolist()  # type: ignore[no-any-return]
