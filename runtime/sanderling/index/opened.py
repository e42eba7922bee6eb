"""What an open index tells and finds; how it changes is another file's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.counts import whole_number
from sanderling.errors import InputError, SearchIndexError
from sanderling.index import exact, filters, fusion, incoming, journal, lexical
from sanderling.index.filters import Filter
from sanderling.index.incoming import Incoming, Vectors
from sanderling.index.layout import Header
from sanderling.index.snapshot import Snapshot
from sanderling.spaces import MIN_COSINE, warn_of_mixed


class Hit(Struct, frozen=True):
    """One item that a search found: its id, what the order is by, its metadata, and the cosine of its vector to the
    query's.

    `score` is the cosine, or, of a search by `words` too, what the item gets of both rankings (see `Opened.search`);
    `words` then says how well its words answer the query's (BM25: 0 where none of them is there), else None.
    """

    id: str
    score: float
    metadata: dict[str, Any]
    cosine: float
    words: float | None = None


class Opened:
    """An index as it is open in this process: a snapshot of its files, and the journal where it may be changed."""

    def __init__(self, folder: Path, snapshot: Snapshot, writer: journal.Journal | None) -> None:
        self.path = folder
        self._snapshot: Snapshot | None = snapshot
        self._journal = writer
        self._changing = threading.RLock()

    @property
    def space(self) -> str:
        """The fingerprint of the embedding space."""
        return self._open().header.space

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._open().header.dimension

    @property
    def precision(self) -> str:
        """What is searched: "float32", "float16" or "int8"."""
        return self._open().header.precision

    @property
    def worded(self) -> bool:
        """Whether items were added with their texts, so that they are found by words."""
        return len(self._open().terms) > 0

    @property
    def about(self) -> dict[str, Any]:
        """What the application wrote of the index when it made it."""
        return self._open().header.about

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._journal is not None

    def __len__(self) -> int:
        return self._open().count

    def __contains__(self, identifier: object) -> bool:
        with self._changing:
            return identifier in self._open().row_of

    def __repr__(self) -> str:
        snapshot = self._snapshot
        if snapshot is None:
            return f"<Index {self.path}, closed>"
        header = snapshot.header
        return f"<Index {self.path}, {snapshot.count:,} x {header.dimension}, {header.precision}>"

    def ids(self) -> list[str]:
        """The ids, in the order in which their items were last added or updated."""
        with self._changing:
            return list(self._open().row_of)

    def metadata(self, identifier: str) -> dict[str, Any]:
        """The metadata of an item, empty where there is none. Raises InputError for an id that is not there."""
        with self._changing:
            snapshot = self._open()
            return snapshot.item(row_named(snapshot, identifier))[1]

    def vectors(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """The vectors of these items divided by their lengths, (n, d), float32. Raises InputError."""
        with self._changing:
            snapshot = self._open()
            rows = [row_named(snapshot, identifier) for identifier in incoming.identifiers(ids)[0]]
            return snapshot.vectors[rows].astype(np.float32)

    def search(
        self,
        vectors: Vectors,
        k: int = 10,
        *,
        filter: Filter | None = None,  # noqa: A002 - the word that users look for
        space: str | None = None,
        words: Sequence[str] | str | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` items whose vectors have the highest cosine to the query's, best first; fewer if there are fewer.

        One vector gives a list of Hit, several give a list of such lists. Every vector is compared ("int8": by codes,
        then the best of them exactly). `filter` is a mapping of names to the value, or to a list of the values, that
        the metadata must have; or a function of the metadata. Of equal cosines the item added first comes first.

        `words` is the query as a text (for several vectors a list of them): the items are then ranked by their words,
        too (BM25, of those added with `texts`), and the score is 1 / (60 + place) summed over the two rankings, places
        from 1 (reciprocal rank fusion). Of equal ones the nearer comes first.
        Raises SpaceError for a query of another space, InputError for what is no query, SearchIndexError for words
        where no item was added with its text.
        """
        snapshot, given, k = self._asked(vectors, space, k)
        allowed = filters.allowed(snapshot, filter)
        if words is None:
            return _answer(snapshot, exact.search(snapshot, given.rows, k, allowed), given)
        texts = incoming.queries(words, given)
        _check_words(snapshot)
        found = fusion.search(snapshot, given.rows, texts, k, allowed)
        hits = [_fused_hits(snapshot, one) for one in found]
        return hits[0] if given.single else hits

    def search_approximately(
        self, vectors: Vectors, k: int = 10, *, effort: int = 64, space: str | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """As `search`, by the graph of `build_graph`: faster by far for many vectors, and some of the nearest may be
        missed, fewer with more `effort` (candidates looked at, at least k). Items added since are compared one by one.

        Raises SearchIndexError where no graph was built, MissingExtraError without the extra `search`.
        """
        from sanderling.index import approximate  # the extra `search`

        snapshot, given, k = self._asked(vectors, space, k)
        found = approximate.search(snapshot, given.rows, k, whole_number("effort", effort))
        return _answer(snapshot, found, given)

    def search_words(
        self,
        query: str,
        k: int = 10,
        *,
        filter: Filter | None = None,  # noqa: A002 - as search
        document: Callable[[str], str] | None = None,
    ) -> list[tuple[str, float]]:
        """The ids of the `k` items whose words answer a query's best, with their scores (BM25), best first.

        No model is needed. `document` gives the name of the document that the item of an id is a piece of: then
        documents are ranked, each by the words of all its pieces and, apart from these, by those of its name; names are
        given. What has none of the words is not found. Raises InputError for what is no query, SearchIndexError where
        no item was added with its text.
        """
        k = whole_number("k", k)
        if not isinstance(query, str):
            raise InputError(f"The query is of type {type(query).__name__}; a text (str) was expected.")
        with self._changing:
            snapshot = self._open()
            # A writer carries its table of ids on: what it says is of this snapshot only until the next change.
            row_of = [] if document is None else list(snapshot.row_of.items())
        _check_words(snapshot)
        allowed = filters.allowed(snapshot, filter)
        if document is None:
            scores = lexical.scores(snapshot, query)
            if allowed is not None:
                scores *= allowed
            return [(snapshot.identifier(row), float(scores[row])) for row in fusion.highest(scores, k).tolist()]
        names: dict[str, int] = {}
        of = np.zeros(snapshot.header.rows, np.int64)
        for identifier, row in row_of:
            of[row] = names.setdefault(document(identifier), len(names))
        named = list(names)
        scores = lexical.scores(snapshot, query, of) + lexical.of_names(named, query)
        if allowed is not None:
            scores *= np.isin(np.arange(len(scores)), of[allowed])
        return [(named[number], float(scores[number])) for number in fusion.highest(scores, k).tolist()]

    def refresh(self) -> None:
        """See what was written since the index was opened. Raises SearchIndexError."""
        with self._changing:
            self._open()
            if self._journal is None:
                self._snapshot = Snapshot.latest(self.path)

    def check(self) -> None:
        """Read every byte and compare it with its checksum. Raises SearchIndexError for the first that differs."""
        self._open().check()

    def close(self) -> None:
        """Let the files and the lock go. Searches under way end as they would; later ones raise SearchIndexError."""
        self._snapshot = None
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, vectors: Vectors, space: str | None, k: int) -> tuple[Snapshot, Incoming, int]:
        """What a search looks in, what for, and how many it gives at most."""
        snapshot = self._open()
        given = incoming.vectors(vectors, space, snapshot.header.space, snapshot.header.dimension)
        warn_of_variants(snapshot.header, given, stacklevel=5)
        return snapshot, given, min(whole_number("k", k), max(1, snapshot.count))

    def _open(self) -> Snapshot:
        if self._snapshot is None:
            raise SearchIndexError(f"The index {self.path} was closed; open it again.")
        return self._snapshot


def _check_words(snapshot: Snapshot) -> None:
    if snapshot.count and not len(snapshot.terms):
        raise SearchIndexError(
            f"No item of {snapshot.folder} was added with its text, so none is found by words. Add them with texts=, "
            "or search by vectors alone."
        )


def row_named(snapshot: Snapshot, identifier: str) -> int:
    row = snapshot.row_of.get(identifier)
    if row is None:
        raise InputError(f"There is no item {identifier[:80]!r} in {snapshot.folder}.")
    return row


def _answer(
    snapshot: Snapshot, found: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], given: Incoming
) -> list[Hit] | list[list[Hit]]:
    hits = [
        [_hit(snapshot, row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
        for rows, scores in found
    ]
    return hits[0] if given.single else hits


def _hit(snapshot: Snapshot, row: int, score: float) -> Hit:
    identifier, metadata = snapshot.item(row)
    cosine = min(1.0, max(-1.0, score))
    return Hit(identifier, cosine, metadata, cosine)


def _fused_hits(snapshot: Snapshot, found: fusion.Fused) -> list[Hit]:
    values = zip(found.rows.tolist(), found.scores.tolist(), found.words.tolist(), found.cosines.tolist(), strict=True)
    return [replace(_hit(snapshot, row, cosine), score=score, words=words) for row, score, words, cosine in values]


def warn_of_variants(header: Header, given: Incoming, stacklevel: int) -> None:
    variants = [*header.variants.items(), *given.variants.items()]
    warn_of_mixed(variants, MIN_COSINE, stacklevel=stacklevel)
