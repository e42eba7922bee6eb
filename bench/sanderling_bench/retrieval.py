"""Retrieval: how high each query's relevant documents stand among all documents, by cosine.

The data is a folder as BEIR's are: `queries`, `corpus` and `qrels` (or `qrels/test`), each `.jsonl`, `.tsv` or `.csv`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import components
from sanderling.bundle import Bundle
from sanderling.components import joins
from sanderling.errors import EvalError
from sanderling.model import Model
from sanderling.pairs import TextPair
from sanderling.results import TextReport
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.tasks.late_interaction import LateInteractionModel, TokenEmbedding
from sanderling_bench.answering import answer, chunks
from sanderling_bench.datasets import SUFFIXES, Row, names_of, number, pick, rows
from sanderling_bench.labelled import image_file, modality_of, sample
from sanderling_bench.metrics import NDCG_DEPTH, RECALL_DEPTHS
from sanderling_bench.shapes import Shape

MAX_VECTOR_BYTES = 4 * 2**30
# Pairs of query and document that a cross-encoder is given.
MAX_PAIRS = 1_000_000

_ID = ("_id", "id")
_QUERY_ID = ("query-id", "query_id", "query")
_DOCUMENT_ID = ("corpus-id", "corpus_id", "document")
_RELEVANCE = ("score", "relevance")
_TEXT = ("text",)
_IMAGE = ("image", "path")

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Of each query: its line, how many documents are relevant to it, and by variant what ranking measures of it."""

    lines: tuple[int, ...]
    relevant: tuple[int, ...]
    measured: dict[str, dict[str, list[float]]]
    cut: int


class Retrieval:
    """A folder of queries, documents and judgements, read and checked."""

    def __init__(self, bundle: Bundle, folder: Path, given: Mapping[str, str]) -> None:
        self._joins = joins(bundle.manifest)
        if modality_of(bundle) != "text" and not self._joins:
            raise EvalError(f"{folder} is a folder, for retrieval of texts; {bundle.manifest.name} takes images.")
        head = components.head(bundle.manifest, next(iter(bundle.manifest.components)))
        # A cross-encoder has no vectors, but a score for each pair; late interaction a vector for each token.
        self._late = isinstance(head, TokenOutput)
        self._dimension = head.dimension if isinstance(head, EmbeddingOutput | SparseOutput) else 0
        # Sparse vectors are compared by their dot product, others by their cosine.
        self._lengths = not isinstance(head, SparseOutput)
        self._roles = names_of({"text": _TEXT, **({"image": _IMAGE} if self._joins else {})}, given)
        self.queries, self.corpus = _file(folder, "queries"), _file(folder, "corpus")
        self.qrels = _file(folder, "qrels", "qrels/test")
        query_numbers, self._documents = self._ids(self.queries), self._ids(self.corpus)
        self.counts = {self.queries: len(query_numbers), self.corpus: len(self._documents), self.qrels: 0}
        if len(self._documents) < 2:
            raise EvalError(f"{self.corpus} has {len(self._documents)} documents; ranking needs at least 2.")
        self._judged = self._judgements(query_numbers)

    def rank(
        self,
        models: Mapping[str, Model],
        prompts: tuple[str | None, str | None],
        limit: int | None,
        seed: int,
        watch: Watch,
        shaped: Sequence[Shape] = (),
    ) -> Ranked:
        """Embed and rank with every variant, and with its vectors in every shape.

        `prompts` are the queries' and the documents'; `limit` is of queries.
        """
        judged = sorted(self._judged)
        chosen = sample(len(judged), limit, seed)
        asked = judged if chosen is None else [query for index, query in enumerate(judged) if index in chosen]
        # Shaped vectors are there beside the whole ones, one shape at a time.
        self._check_size(models, len(asked), bool(shaped))
        wanted = set(asked)
        lines: list[int] = []
        if self._late:
            return self._by_tokens(models, prompts, asked, watch)
        if self._dimension == 0:
            return self._cross(models, asked, watch)
        queries, cut_queries = self._embed(models, self.queries, prompts[0], len(asked), watch, wanted, lines)
        documents, cut_documents = self._embed(models, self.corpus, prompts[1], len(self._documents), watch)
        measured: dict[str, dict[str, list[float]]] = {}
        for name in models:
            measured[name] = self._ranked(queries[name], documents[name], asked, name, watch)
            for shape in shaped:
                vectors = shape(queries[name]), shape(documents[name])
                measured[shape.of(name)] = self._ranked(*vectors, asked, shape.of(name), watch)
        relevant = tuple(len(self._judged[query]) for query in asked)
        return Ranked(tuple(lines), relevant, measured, cut_queries + cut_documents)

    def _ranked(
        self,
        queries: NDArray[np.float32],
        documents: NDArray[np.float32],
        asked: Sequence[int],
        name: str,
        watch: Watch,
    ) -> dict[str, list[float]]:
        """What ranking all documents for each query measures, by metric."""
        columns: dict[str, list[float]] = {}
        for index, query in enumerate(asked):
            for column, value in rank_one(documents @ queries[index], self._judged[query]).items():
                columns.setdefault(column, []).append(value)
            watch(f"{name}: ranking", index + 1, len(asked))
        return columns

    def _cross(self, models: Mapping[str, Model], asked: Sequence[int], watch: Watch) -> Ranked:
        """Rank by a model that sees each query together with each document."""
        if len(asked) * len(self._documents) > MAX_PAIRS:
            raise EvalError(
                f"{len(asked):,} queries with {len(self._documents):,} documents each are more than {MAX_PAIRS:,} "
                "pairs. Evaluate fewer queries (--limit), or fewer documents."
            )
        queries, documents = self._read(asked)
        measured: dict[str, dict[str, list[float]]] = {}
        cut = 0
        for name, model in models.items():
            columns: dict[str, list[float]] = {}
            cut = 0
            for done, (query, (_, text)) in enumerate(zip(asked, queries, strict=True), 1):
                answers = model.answer([TextPair(text, document) for _, document in documents])
                cut += sum(isinstance(report, TextReport) and not report.complete for report in answers.reports)
                for column, value in rank_one(answers.rows[:, 0], self._judged[query]).items():
                    columns.setdefault(column, []).append(value)
                watch(f"{name}: ranking", done, len(asked))
            measured[name] = columns
        relevant = tuple(len(self._judged[query]) for query in asked)
        return Ranked(tuple(line for line, _ in queries), relevant, measured, cut)

    def _by_tokens(
        self,
        models: Mapping[str, Model],
        prompts: tuple[str | None, str | None],
        asked: Sequence[int],
        watch: Watch,
    ) -> Ranked:
        """Rank by MaxSim over the vectors of the tokens, those of all documents held at a time."""
        queries, documents = self._read(asked)
        measured: dict[str, dict[str, list[float]]] = {}
        cut = 0
        for name, model in models.items():
            assert isinstance(model, LateInteractionModel)  # as its head has said
            held: list[TokenEmbedding] = []
            for chunk in chunks(documents):
                held += model([text for _, text in chunk], prompt=prompts[1])
                if sum(one.embeddings.nbytes for one in held) > MAX_VECTOR_BYTES:
                    raise EvalError(
                        f"The vectors of the tokens of {len(held):,} documents take more than the {MAX_VECTOR_BYTES:,} "
                        "bytes that are held. Evaluate fewer documents."
                    )
                watch(f"{name}: embedding {self.corpus.name}", len(held), len(documents))
            columns: dict[str, list[float]] = {}
            made = model([text for _, text in queries], prompt=prompts[0])
            for done, (query, one) in enumerate(zip(asked, made, strict=True), 1):
                for column, value in rank_one(model.scores(one, held), self._judged[query]).items():
                    columns.setdefault(column, []).append(value)
                watch(f"{name}: ranking", done, len(asked))
            measured[name] = columns
            cut = sum(not one.report.complete for one in (*held, *made))
        relevant = tuple(len(self._judged[query]) for query in asked)
        return Ranked(tuple(line for line, _ in queries), relevant, measured, cut)

    def _read(self, asked: Sequence[int]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """The queries asked and all documents, each with its line. Raises EvalError where files have changed."""
        queries, documents = list(self._texts(self.queries, set(asked))), list(self._texts(self.corpus, None))
        if len(queries) != len(asked) or len(documents) != len(self._documents):
            raise EvalError(f"{self.queries.parent} was changed while it was read. Evaluate again.")
        return queries, documents

    def _ids(self, path: Path) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in rows(path):
            key = pick(path, row, "id", _ID)
            self._content(path, row)
            if key in found:
                raise EvalError(f"{path}, line {row.line}: the id {key[:60]!r} was there before; ids are unique.")
            found[key] = len(found)
        if not found:
            raise EvalError(f"{path} has no rows. Give it at least one, with an id and a text.")
        return found

    def _judgements(self, queries: Mapping[str, int]) -> dict[int, dict[int, float]]:
        judged: dict[int, dict[int, float]] = {}
        seen: set[tuple[int, int]] = set()
        for row in rows(self.qrels):
            self.counts[self.qrels] += 1
            query, document = pick(self.qrels, row, "query", _QUERY_ID), pick(self.qrels, row, "document", _DOCUMENT_ID)
            for key, known, where in ((query, queries, self.queries), (document, self._documents, self.corpus)):
                if key not in known:
                    raise EvalError(f"{self.qrels}, line {row.line}: there is no {key[:60]!r} in {where.name}.")
            pair = queries[query], self._documents[document]
            if pair in seen:
                raise EvalError(
                    f"{self.qrels}, line {row.line}: {query[:60]!r} and {document[:60]!r} are judged twice."
                )
            seen.add(pair)
            relevance = number(self.qrels, row, "relevance", _RELEVANCE)
            if relevance < 0:
                raise EvalError(
                    f"{self.qrels}, line {row.line}: the relevance is {relevance}; at least 0 was expected."
                )
            if relevance > 0:
                judged.setdefault(pair[0], {})[pair[1]] = relevance
        if not judged:
            raise EvalError(f"{self.qrels} judges no document relevant (a score above 0) to any query.")
        return judged

    def _check_size(self, models: Mapping[str, Model], queries: int, shaped: bool) -> None:
        size = 4 * self._dimension * (len(models) + shaped) * (len(self._documents) + queries)
        if size > MAX_VECTOR_BYTES:
            raise EvalError(
                f"The vectors of {len(self._documents):,} documents and {queries:,} queries in {len(models)} variants "
                f"take {size:,} bytes; at most {MAX_VECTOR_BYTES:,} are held. "
                "Evaluate fewer variants, or fewer documents."
            )

    def _embed(
        self,
        models: Mapping[str, Model],
        path: Path,
        prompt: str | None,
        count: int,
        watch: Watch,
        wanted: Container[int] | None = None,
        lines: list[int] | None = None,
    ) -> tuple[dict[str, NDArray[np.float32]], int]:
        vectors: dict[str, NDArray[np.float32]] = {}
        done = cut = 0
        for chunk in chunks(self._texts(path, wanted)):
            if done + len(chunk) > count:
                raise EvalError(f"{path} was changed while it was read. Evaluate again.")
            answers, lost = answer(models, path, [line for line, _ in chunk], [text for _, text in chunk], prompt)
            for name, found in answers.items():
                held = vectors.setdefault(name, np.empty((count, found.shape[1]), np.float32))
                lengths = np.linalg.norm(found, axis=1, keepdims=True) if self._lengths else np.ones((1, 1))
                held[done : done + len(chunk)] = found / np.where(lengths > 0, lengths, 1)
            done += len(chunk)
            cut += lost
            if lines is not None:
                lines += [line for line, _ in chunk]
            watch(f"embedding {path.name}", done, count)
        if done != count:
            raise EvalError(f"{path} was changed while it was read. Evaluate again.")
        return vectors, cut

    def _texts(self, path: Path, wanted: Container[int] | None) -> Iterator[tuple[int, Any]]:
        for index, row in enumerate(rows(path)):
            if wanted is None or index in wanted:
                yield row.line, self._content(path, row)

    def _content(self, path: Path, row: Row) -> str | Path:
        """A row's text, or of a model that joins texts and images the image that it names instead."""
        if self._joins and any(name in row.cells for name in self._roles["image"]):
            return image_file(path, row, pick(path, row, "image", self._roles["image"]))
        text = pick(path, row, "text", self._roles["text"])
        title = row.cells.get("title", "")
        # As BEIR does: what a document is called is part of what is found.
        return f"{title} {text}" if title else text


def rank_one(similar: NDArray[np.float32], relevance: Mapping[int, float]) -> dict[str, float]:
    """What ranking all documents by `similar` (n,) measures of one query, by the metric's name.

    `relevance` is of the relevant documents, by number. Of documents equally similar the earlier one stands higher;
    nDCG, scikit-learn's, averages over their orders. Recall@K is the share of the relevant documents among the first K.
    """
    from sklearn.metrics import ndcg_score

    ranks = []
    gains = np.zeros(len(similar))
    for document, gain in relevance.items():
        gains[document] = gain
        own = similar[document]
        ranks.append(1 + int((similar > own).sum()) + int((similar[:document] == own).sum()))
    found = {f"recall@{depth}": sum(rank <= depth for rank in ranks) / len(ranks) for depth in RECALL_DEPTHS}
    found["mrr"] = 1 / min(ranks)
    found[f"ndcg@{NDCG_DEPTH}"] = float(ndcg_score(gains[None], similar[None], k=NDCG_DEPTH))
    return found


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        for suffix in SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise EvalError(
        f"{folder} has no {' or '.join(f'{name}.jsonl' for name in names)} (or {', '.join(list(SUFFIXES)[:2])}); "
        "retrieval needs queries, corpus and qrels."
    )
