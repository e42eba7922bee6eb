"""Each adapter in the library it is for, and without it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sanderling
from sanderling.errors import InputError, MissingExtraError, SpaceError
from sanderling.integrations.sentence_transformers import SentenceEncoder

TEXTS = ["the sea", "a small bird runs", ""]
LIBRARIES = {"langchain": "langchain_core", "llamaindex": "llama_index", "chroma": "chromadb"}


@pytest.fixture(scope="module")
def model(embedding_bundle: Path) -> Any:
    with sanderling.load(embedding_bundle) as loaded:
        yield loaded


def adapter(name: str) -> Any:
    library = LIBRARIES[name]
    pytest.importorskip(library, reason=f'the extra [{name}] is not installed: pip install "sanderling[{name}]"')
    return importlib.import_module(f"sanderling.integrations.{name}")


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_the_library_the_error_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in [module for module in sys.modules if module.partition(".")[0] == LIBRARIES[name]]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    monkeypatch.delitem(sys.modules, f"sanderling.integrations.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=rf'pip install "sanderling\[{name}\]"'):
        importlib.import_module(f"sanderling.integrations.{name}")
    monkeypatch.undo()


def test_langchain(model: Any) -> None:
    embeddings = adapter("langchain").SanderlingEmbeddings(model)
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import InMemoryVectorStore

    assert isinstance(embeddings, Embeddings)
    passages = model(TEXTS, prompt="passage").embeddings
    np.testing.assert_array_equal(np.float32(embeddings.embed_documents(TEXTS)), passages)
    np.testing.assert_array_equal(np.float32(embeddings.embed_query("sea")), model("sea", prompt="query").embedding)
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == embeddings.embed_documents(TEXTS)
    assert asyncio.run(embeddings.aembed_query("sea")) == embeddings.embed_query("sea")
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    nearest = int((passages @ model("a bird runs", prompt="query").embedding).argmax())
    assert store.similarity_search("a bird runs", k=1)[0].page_content == TEXTS[nearest]
    with pytest.raises(InputError, match="no prompt 'poem' for a query; it has query, passage"):
        adapter("langchain").SanderlingEmbeddings(model, query_prompt="poem")


def test_llamaindex(model: Any) -> None:
    embedding = adapter("llamaindex").SanderlingEmbedding(model)
    from llama_index.core.base.embeddings.base import BaseEmbedding

    assert isinstance(embedding, BaseEmbedding)
    assert (embedding.model_name, embedding.class_name()) == (model.name, "SanderlingEmbedding")
    passages = model(TEXTS, prompt="passage").embeddings
    np.testing.assert_array_equal(np.float32(embedding.get_text_embedding_batch(TEXTS)), passages)
    np.testing.assert_allclose(np.float32(embedding.get_text_embedding(TEXTS[1])), passages[1], atol=1e-6)
    query = model("sea", prompt="query").embedding
    np.testing.assert_array_equal(np.float32(embedding.get_query_embedding("sea")), query)
    np.testing.assert_array_equal(np.float32(asyncio.run(embedding.aget_query_embedding("sea"))), query)
    found = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
    np.testing.assert_array_equal(np.float32(found), passages)


def test_chroma(embedding_bundle: Path, model: Any, tmp_path: Path) -> None:
    made = adapter("chroma").SanderlingEmbeddingFunction
    import chromadb

    client = chromadb.PersistentClient(str(tmp_path / "store"))
    collection = client.create_collection("birds", embedding_function=made(embedding_bundle))
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    stored = np.asarray(collection.get(include=["embeddings"])["embeddings"], np.float32)
    np.testing.assert_allclose(stored, model(TEXTS, prompt="passage").embeddings, atol=1e-6)
    nearest = int((stored @ model("a bird runs", prompt="query").embedding).argmax())
    # Opened again, Chroma builds the function from what it kept.
    again = client.get_collection("birds")
    assert again.query(query_texts=["a bird runs"], n_results=1)["ids"] == [[str(nearest)]]
    config = made(embedding_bundle).get_config()
    assert config["space"] == model.space
    assert made.build_from_config({**config, "dimensions": None}).model.space == model.space
    with pytest.raises(SpaceError, match="The collection holds vectors of the space 5555555555555555; the bundle"):
        made.build_from_config({**config, "dimensions": 4})
    with pytest.raises(SpaceError, match="embed its documents again"):
        made(embedding_bundle).validate_config_update(config, made(embedding_bundle, dimensions=4).get_config())


def test_encode(model: Any) -> None:
    encoder = SentenceEncoder(model)
    np.testing.assert_array_equal(encoder.encode(TEXTS), model(TEXTS).embeddings)
    assert encoder.encode("sea").shape == (encoder.get_embedding_dimension(),) == (8,)
    assert (encoder.max_seq_length, encoder.prompts["query"]) == (16, "query: ")
    np.testing.assert_array_equal(encoder.encode_query("sea"), model("sea", prompt="query").embedding)
    np.testing.assert_array_equal(encoder.encode_document(TEXTS), model(TEXTS, prompt="passage").embeddings)
    np.testing.assert_allclose(
        encoder.similarity(encoder.encode(TEXTS), encoder.encode("sea")),
        sanderling.similarity(model(TEXTS), model("sea")),
        atol=1e-6,
    )
    with pytest.raises(InputError, match="precision is 'int8'; float32 or ubinary was expected"):
        encoder.encode(TEXTS, precision="int8")  # type: ignore[call-overload]


def test_a_model_that_embeds_no_texts_is_refused(image_bundle: Path) -> None:
    with sanderling.load(image_bundle) as model, pytest.raises(InputError, match="a model that embeds texts was expec"):
        SentenceEncoder(model)  # type: ignore[arg-type]
