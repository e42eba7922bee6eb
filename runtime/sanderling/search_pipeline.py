"""Retrieve, rank, classify: a query to texts of an index, each stage timed, and what each did not see told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from sanderling import prompts
from sanderling.counts import counted, whole_number
from sanderling.errors import InputError
from sanderling.index.filters import Filter
from sanderling.index.incoming import check_space
from sanderling.index.index import Index
from sanderling.index.opened import Hit
from sanderling.model import in_thread
from sanderling.results import Batch, Classification, InputReport, TextReport
from sanderling.tasks.classification import Classifier
from sanderling.tasks.feature_extraction import EmbeddingModel
from sanderling.tasks.late_interaction import LateInteractionModel
from sanderling.tasks.ranking import Ranker, Ranking

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

# The name in an item's metadata that its text is under, or what gives the text of a hit.
TextOf: TypeAlias = str | Callable[[Hit], str]


class Stage(Struct, frozen=True):
    """One stage: "embed", "retrieve", "rank" or "classify". `seconds` passed in it, over so many `inputs`.

    `tokens_lost` and `characters_unread` are what its model did not see of them, in all.
    """

    name: str
    seconds: float
    inputs: int
    tokens_lost: int = 0
    characters_unread: int = 0


class SearchResult(Struct, frozen=True, eq=False):
    """One item that was found. `score` is what the order is by: the ranker's, else the index's: the `cosine` to the
    query or, by words too, what it gets of both rankings.

    `retrieved` is its place in the index's order, from 0. `text` is None where no stage needed it. `rank_report` says
    what the ranker saw of it; `classification` has a report of its own, and is None without a classifier.
    """

    id: str
    score: float
    cosine: float
    retrieved: int
    metadata: dict[str, Any]
    text: str | None = None
    rank_report: InputReport | None = None
    classification: Classification | None = None


class SearchResults(Batch[SearchResult], frozen=True, eq=False):
    """What one query found, best first: its length, items (SearchResult) and slices are those of a sequence.

    `query_report` says what the embedding model saw of the query, `stages` what each stage took and lost, in their
    order; `seconds` passed in all.
    """

    query_report: InputReport
    stages: tuple[Stage, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every stage saw all of the query and of each text that it was given."""
        return not any(stage.tokens_lost or stage.characters_unread for stage in self.stages)

    def __repr__(self) -> str:
        spent = ", ".join(f"{stage.name} {1000 * stage.seconds:.1f} ms" for stage in self.stages)
        return f"SearchResults({counted(len(self.items), 'item')}; {spent})"


class SearchPipeline:
    """Searches an index with `model`, puts what it finds in order with a `ranker`, and decides with a `classifier`.

    The ranker is a cross-encoder (Ranker) or a late-interaction model; it and the classifier, of texts, may be left
    out. `text` is the name that an item's text has in its metadata, as `sanderling index` keeps it, or a function of
    the hit. The models and the index are the caller's, who closes them; calls may come from many threads.

    Raises SpaceError for a model of another space than the index's, InputError for what is none of these.
    """

    def __init__(
        self,
        index: Index,
        model: EmbeddingModel,
        *,
        ranker: Ranker | LateInteractionModel | None = None,
        classifier: Classifier | None = None,
        text: TextOf = "text",
    ) -> None:
        _expect("index", index, Index, "an Index")
        _expect("model", model, EmbeddingModel, "an EmbeddingModel")
        if ranker is not None:
            _expect("ranker", ranker, (Ranker, LateInteractionModel), "a Ranker or a LateInteractionModel")
        if classifier is not None:
            _expect("classifier", classifier, Classifier, "a Classifier")
            if isinstance(classifier, Ranker) or classifier.modality != "text":
                raise InputError(
                    f"classifier is {classifier.name}, a model for {classifier.task}; one for text-classification was "
                    "expected."
                )
        if not isinstance(text, str) and not callable(text):
            raise InputError(
                f"text is of type {type(text).__name__}; the name of an item's text in its metadata, or a function of "
                "the hit, was expected."
            )
        check_space(model.space, index.space)
        self.index, self.model, self.ranker, self.classifier = index, model, ranker, classifier
        self._text = text
        self._prompt = prompts.prompt_for(model, "query") if model.modality == "text" else None

    def __call__(
        self,
        query: Any,
        k: int = 10,
        *,
        candidates: int = 50,
        filter: Filter | None = None,  # noqa: A002 - as Index.search
        words: bool = False,
        top_k: int = 5,
        cancellation: Cancellation | None = None,
    ) -> SearchResults:
        """The `k` best items for a query, a text; an image too, where the model takes images and there is no ranker.

        With a ranker, `candidates` items (at least k) are retrieved and ranked; else k. `filter` is that of
        `Index.search`; with `words` the items are retrieved by the query's words, too. Each of the k gets the `top_k`
        best labels. `cancellation` ends the call early.
        Raises InputError for a query that is none, or an item without a text that a stage needs.
        """
        if words and not isinstance(query, str):
            raise InputError(f"The query is of type {type(query).__name__}; to search by words, a text was expected.")
        k, wanted = whole_number("k", k), whole_number("candidates", candidates)
        started = time.perf_counter()
        if self.ranker is not None and not isinstance(query, str):
            raise InputError(f"The query is of type {type(query).__name__}; a ranker takes a text (str).")
        answer = self.model(query, prompt=self._prompt, cancellation=cancellation)
        if isinstance(query, list | tuple) or not hasattr(answer, "report"):
            raise InputError("Several queries were given; a call answers one.")
        embedded = time.perf_counter()
        stages = [_stage("embed", embedded - started, [answer.report])]
        asked = max(k, wanted) if self.ranker else k
        hits = cast("list[Hit]", self.index.search(answer, asked, filter=filter, words=query if words else None))
        retrieved = time.perf_counter()
        stages.append(Stage("retrieve", retrieved - embedded, len(hits)))
        needed = self.ranker is not None or self.classifier is not None
        texts = [self._text_of(hit) for hit in hits] if needed else None
        found = _as_retrieved(hits, texts)
        if self.ranker is not None and texts is not None:
            if cancellation is not None:
                cancellation.check()
            began = time.perf_counter()
            ranking = self.ranker.rank(query, texts, cancellation=cancellation)
            reports = [*ranking.reports, *([ranking.query_report] if ranking.query_report is not None else [])]
            stages.append(_stage("rank", time.perf_counter() - began, reports, len(texts)))
            found = _as_ranked(found, ranking)
        found = found[:k]
        if self.classifier is not None:
            if cancellation is not None:
                cancellation.check()
            began = time.perf_counter()
            held = [str(one.text) for one in found]
            decided = self.classifier(held, top_k=top_k, cancellation=cancellation).items if held else ()
            stages.append(_stage("classify", time.perf_counter() - began, [one.report for one in decided]))
            found = [replace(one, classification=decision) for one, decision in zip(found, decided, strict=True)]
        return SearchResults(tuple(found), answer.report, tuple(stages), time.perf_counter() - started)

    async def acall(
        self,
        query: Any,
        k: int = 10,
        *,
        candidates: int = 50,
        filter: Filter | None = None,  # noqa: A002 - as Index.search
        words: bool = False,
        top_k: int = 5,
    ) -> SearchResults:
        """As calling the pipeline, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(
                query,
                k,
                candidates=candidates,
                filter=filter,
                words=words,
                top_k=top_k,
                cancellation=cancellation,
            )
        )

    def __repr__(self) -> str:
        parts = [self.model, *(part for part in (self.ranker, self.classifier) if part is not None)]
        return f"<SearchPipeline {self.index.path}: {' -> '.join(part.name for part in parts)}>"

    def _text_of(self, hit: Hit) -> str:
        found = hit.metadata.get(self._text) if isinstance(self._text, str) else self._text(hit)
        if not isinstance(found, str):
            where = f"under {self._text!r} in its metadata" if isinstance(self._text, str) else "by the function `text`"
            raise InputError(
                f"The item {hit.id[:80]!r} has no text {where}, which ranking and classifying need. Add items with "
                "their texts, or say with `text` where they are."
            )
        return found


def _as_retrieved(hits: Sequence[Hit], texts: Sequence[str] | None) -> list[SearchResult]:
    return [
        SearchResult(hit.id, hit.score, hit.cosine, place, hit.metadata, None if texts is None else texts[place])
        for place, hit in enumerate(hits)
    ]


def _as_ranked(found: Sequence[SearchResult], ranking: Ranking) -> list[SearchResult]:
    """The results in the ranker's order; of equal scores the nearer one stands first."""
    return [replace(found[place], score=score, rank_report=ranking.reports[place]) for place, score in ranking]


def _stage(name: str, seconds: float, reports: Sequence[InputReport], inputs: int | None = None) -> Stage:
    texts = [report for report in reports if isinstance(report, TextReport)]
    return Stage(
        name,
        seconds,
        len(reports) if inputs is None else inputs,
        sum(report.tokens_lost for report in texts),
        sum(report.characters_unread for report in texts),
    )


def _expect(name: str, given: object, kind: type | tuple[type, ...], words: str) -> None:
    if not isinstance(given, kind):
        raise InputError(
            f"{name} is of type {type(given).__name__}; {words} was expected, as sanderling.load gives it."
        )
