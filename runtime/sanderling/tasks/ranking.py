"""`text-ranking`: texts in the order of their relevance to a query, by a cross-encoder that sees both together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import heads
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import TextError
from sanderling.model import in_thread
from sanderling.pairs import TextPair
from sanderling.results import InputReport, Timing
from sanderling.tasks.classification import Classifier


class Ranking(Struct, frozen=True, eq=False):
    """Texts by falling relevance: `indices` are their places among those that were given, `scores` in the same order.

    Of equal scores the earlier text stands first. `logits` has the shape (texts,), float32, and `reports` say what
    became of each text with the query, both in the order that the texts were given in. Its length and items, which are
    pairs of index and score, are those of a sequence. Where a model takes the query by itself, `query_report` says what
    became of it.
    """

    indices: tuple[int, ...]
    scores: tuple[float, ...]
    logits: NDArray[np.float32]
    reports: tuple[InputReport, ...]
    variant: str
    timing: Timing
    query_report: InputReport | None = None

    def __repr__(self) -> str:
        first = ", ".join(f"{index}: {score:.4f}" for index, score in zip(self.indices[:3], self.scores, strict=False))
        return f"Ranking({len(self)} of {len(self.logits)} texts, {first}{', …' if len(self) > 3 else ''})"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, float]:
        return self.indices[place], self.scores[place]

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.indices, self.scores, strict=True)


class Ranker(Classifier):
    """Says how relevant a text is to a query. Called with pairs of texts it scores them; `rank` puts texts in order."""

    def rank(
        self,
        query: str,
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Ranking:
        """The `top_k` most relevant of `texts` (default: all), the most relevant first; `cancellation` ends it early.

        Query and text share the model's tokens; where they are too many together, the longer of the two is cut, as
        each report tells. Raises TextError for what is no text.
        """
        if not isinstance(query, str):
            raise TextError(f"The query is of type {type(query).__name__}; a text (str) was expected.")
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise TextError(f"The texts are of type {type(texts).__name__}; a list of texts was expected.")
        pairs = []
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TextError(f"Text {index} is of type {type(text).__name__}; a text (str) was expected.")
            pairs.append(TextPair(query, text))
        count = len(pairs) if top_k is None else whole_number("top_k", top_k)
        answers = self.answer(pairs, cancellation=cancellation)
        logits = answers.rows[:, 0]
        scores = heads.scores(answers.rows, self._head)[:, 0]
        # By the logits: where the scores saturate, they are equal, and the texts are not.
        best = np.argsort(-logits, kind="stable")[:count]
        return Ranking(
            tuple(best.tolist()),
            tuple(scores[best].tolist()),
            logits,
            answers.reports,
            self.variant,
            answers.timing,
        )

    async def arank(self, query: str, texts: Iterable[str], *, top_k: int | None = None) -> Ranking:
        """As `rank`, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self.rank(query, texts, top_k=top_k, cancellation=cancellation))
