"""`feature-extraction` with late interaction (ColBERT): a vector for each token, compared token by token."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import heads, spaces
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import counted, whole_number
from sanderling.engines import Engines
from sanderling.errors import InputError, TextError
from sanderling.heads import Layer
from sanderling.model import Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.results import Batch, InputReport, Timing, TokenReport, summed
from sanderling.schema.vectors import TokenOutput
from sanderling.session import Arrays
from sanderling.tasks.ranking import Ranking
from sanderling.token_front import DOCUMENT, QUERY, TokenFront

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput, Input, TextInput

# Documents whose tokens' vectors are held at a time where only their scores are asked for: 24 MB of 180 tokens each.
_AT_A_TIME = 256


class TokenEmbedding(Struct, frozen=True, eq=False):
    """The vectors of one text's tokens: `embeddings` (tokens, d), float32, and the `tokens` as the vocabulary has them.

    `report.places` says where in the text's tokens they stand; `space` is the fingerprint of their embedding space.
    """

    embeddings: NDArray[np.float32]
    tokens: tuple[str, ...]
    report: TokenReport
    space: str
    variant: str
    timing: Timing

    @property
    def tokens_lost(self) -> int:
        """Tokens of the text that truncation cut away."""
        return self.report.tokens_lost

    def score(self, document: TokenEmbedding) -> float:
        """How well a document matches this query: the sum, over the query's tokens, of the largest dot product with any
        of the document's (MaxSim; Khattab and Zaharia, 2020). Raises SpaceError for a document of another space."""
        return float(maxsim(self, [document])[0])

    def __repr__(self) -> str:
        count, dimension = self.embeddings.shape
        return f"TokenEmbedding({counted(count, 'token')} x {dimension} numbers, {self.variant})"


class TokenEmbeddings(Batch[TokenEmbedding], frozen=True, eq=False):
    """Tokens' vectors of a batch, in input order: length, items (TokenEmbedding) and slices are those of a sequence."""

    timing: Timing

    @property
    def tokens_lost(self) -> tuple[int, ...]:
        """For each text, the tokens that truncation cut away."""
        return tuple(item.tokens_lost for item in self.items)

    def __repr__(self) -> str:
        vectors = sum(len(item.embeddings) for item in self.items)
        return f"TokenEmbeddings({counted(len(self.items), 'text')}, {vectors:,} vectors)"


def maxsim(query: TokenEmbedding, documents: Sequence[TokenEmbedding]) -> NDArray[np.float32]:
    """The score of each document for a query, (documents,), float32: the sum, over the query's vectors, of the largest
    dot product with any of the document's; 0 for a document without vectors.

    Raises SpaceError where spaces differ.
    """
    for document in documents:
        spaces.check_one(query.space, document.space)
    counts = np.array([len(document.embeddings) for document in documents], np.int64)
    scores = np.zeros(len(documents), np.float32)
    filled = np.flatnonzero(counts).tolist()
    if filled and len(query.embeddings):
        products = query.embeddings @ np.concatenate([documents[i].embeddings for i in filled]).T
        starts = np.concatenate([[0], np.cumsum(counts[filled])[:-1]])
        best = np.maximum.reduceat(products, starts, axis=1)
        scores[filled] = best.sum(axis=0, dtype=np.float64)
    return scores


class LateInteractionModel(Model):
    """Turns texts into a vector for each token: queries with `prompt="query"`, what is searched with "document"."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: TokenFront,
        engines: Engines,
        head: TokenOutput,
        space: str,
        dense: Sequence[Layer],
    ) -> None:
        super().__init__(bundle, plan, front, engines, None)
        self._head = head
        self._dense = dense
        self._texts = front
        self.space = space

    @property
    def dimension(self) -> int:
        """Length of each token's vector."""
        return self._head.dimension

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, inputs: TextInput | ImageInput, *, prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> TokenEmbedding: ...
    @overload
    def __call__(
        self, inputs: Iterable[Input], *, prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> TokenEmbeddings: ...
    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        prompt: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> TokenEmbedding | TokenEmbeddings:
        """Embed the tokens of one text, or of each of a list; `cancellation` ends the call early.

        `prompt` is "query" or "document" (default: as the bundle says, usually "document"). One text gives a
        TokenEmbedding, a list gives TokenEmbeddings. Raises InputError for what is no input of this model.
        """
        items, single = self.front.items(inputs)
        answers = self.answer(items, prompt, cancellation)
        found = tuple(
            self._embedding(row, report, answers.timing)
            for row, report in zip(answers.rows, answers.reports, strict=True)
        )
        return found[0] if single else TokenEmbeddings(found, answers.timing)

    def scores(
        self,
        query: str | TokenEmbedding,
        documents: Iterable[str | TokenEmbedding],
        *,
        cancellation: Cancellation | None = None,
    ) -> NDArray[np.float32]:
        """How well each document matches the query, by MaxSim: (documents,), float32, in their order.

        Texts are embedded here; what was embedded before is taken as it is. `rank` says of texts what was cut off.
        Raises SpaceError for vectors of another model, TextError for what is neither.
        """
        asked = self._asked(query, cancellation)
        given = _listed(documents)
        found = np.empty(len(given), np.float32)
        for start in range(0, len(given), _AT_A_TIME):
            part = given[start : start + _AT_A_TIME]
            texts = [document for document in part if isinstance(document, str)]
            made = iter(self(texts, prompt=DOCUMENT, cancellation=cancellation) if texts else ())
            vectors = [next(made) if isinstance(document, str) else document for document in part]
            found[start : start + _AT_A_TIME] = maxsim(asked, vectors)
        return found

    def rank(
        self,
        query: str | TokenEmbedding,
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Ranking:
        """The `top_k` of `texts` that match the query best (default: all), the best first; as Ranker.rank.

        The scores are those of MaxSim, and the ranking's `logits` are the same. Its `reports` say of each text what was
        cut off, its `query_report` of the query. Raises TextError for what is no text.
        """
        given = _listed(texts)
        for index, text in enumerate(given):
            if not isinstance(text, str):
                raise TextError(f"Text {index} is of type {type(text).__name__}; a text (str) was expected.")
        count = len(given) if top_k is None else whole_number("top_k", top_k)
        asked = self._asked(query, cancellation)
        scores = np.empty(len(given), np.float32)
        reports: list[InputReport] = []
        timings = [asked.timing] if isinstance(query, str) else []
        compared = 0.0
        for start in range(0, len(given), _AT_A_TIME):
            made = self(given[start : start + _AT_A_TIME], prompt=DOCUMENT, cancellation=cancellation)
            begun = time.perf_counter()
            scores[start : start + _AT_A_TIME] = maxsim(asked, made.items)
            compared += time.perf_counter() - begun
            reports += [item.report for item in made]
            timings.append(made.timing)
        best = np.argsort(-scores, kind="stable")[:count]
        return Ranking(
            tuple(best.tolist()),
            tuple(scores[best].tolist()),
            scores,
            tuple(reports),
            self.variant,
            summed([*timings, Timing(0.0, 0.0, compared)]),
            asked.report,
        )

    async def arank(self, query: str, texts: Iterable[str], *, top_k: int | None = None) -> Ranking:
        """As `rank`, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self.rank(query, texts, top_k=top_k, cancellation=cancellation))

    def stream(self, inputs: Iterable[Input], *, prompt: str | None = None) -> Iterator[TokenEmbedding]:
        """Embed any iterable, also one without end, in bounded memory: answers in input order as they are ready."""
        for window in windows(inputs):
            yield from self(window, prompt=prompt)

    async def acall(
        self, inputs: Input | Iterable[Input], *, prompt: str | None = None
    ) -> TokenEmbedding | TokenEmbeddings:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self
        return await in_thread(lambda cancellation: call(inputs, prompt=prompt, cancellation=cancellation))

    def _asked(self, query: object, cancellation: Cancellation | None) -> TokenEmbedding:
        if isinstance(query, TokenEmbedding):
            return query
        if not isinstance(query, str):
            raise TextError(f"The query is of type {type(query).__name__}; a text (str) was expected.")
        return self(query, prompt=QUERY, cancellation=cancellation)

    def _embedding(self, row: NDArray[np.float32], report: InputReport, timing: Timing) -> TokenEmbedding:
        assert isinstance(report, TokenReport)  # a TokenFront gives no other
        tokens = tuple(self._texts.token(place) for place in report.ids)
        return TokenEmbedding(row, tokens, report, self.space, self.variant, timing)

    def _rows(self, outputs: Arrays, feeds: Arrays, reports: Sequence[InputReport]) -> NDArray[Any]:
        del feeds
        places = [report.places for report in reports if isinstance(report, TokenReport)]
        return heads.tokens(outputs, places, self._head, self._dense)


def _listed(documents: object) -> list[Any]:
    """The documents as a list. Raises InputError for what is none, or holds what is neither text nor vectors."""
    if isinstance(documents, str | TokenEmbedding) or not isinstance(documents, Iterable):
        raise TextError(f"The texts are of type {type(documents).__name__}; a list of texts was expected.")
    found = list(documents)
    for index, document in enumerate(found):
        if not isinstance(document, str | TokenEmbedding):
            raise InputError(
                f"Document {index} is of type {type(document).__name__}; a text (str) or a TokenEmbedding was expected."
            )
    return found
