"""What commands on an index share: its model, hits of pieces to results by file, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.bundle import open_bundle
from sanderling.commands.console import plain, print_json, stdout
from sanderling.components import VISION_ENCODER, joins
from sanderling.errors import InputError
from sanderling.index import fusion
from sanderling.index.filters import Filter
from sanderling.index.folder import file_named, file_of, piece_id
from sanderling.index.index import Index
from sanderling.index.opened import Hit
from sanderling.loading import load
from sanderling.results import Embedding
from sanderling.tasks.feature_extraction import EmbeddingModel

_SNIPPET = 240
# Pieces asked for at first, for each file wanted; files that are ranked, at least.
_PIECES, _LEAST_FILES = 8, 50
# How much a file as a whole counts beside its best piece. On 43 questions to this project's documentation and source,
# other than those of the acceptance, the right file came among the first three 38 times with 1, 35 times with 0 or 0.3;
# by meaning alone 28 times with 0.3, 27 with 0.
_WHOLE = 1.0


def embedding_model(
    bundle: str | Path, variant: str | None, threads: int | None = None, *, tower: str = VISION_ENCODER
) -> EmbeddingModel:
    """The model that embeds what goes into an index, or a query. Raises InputError for a model of another task.

    Of one that joins texts and images it is the `tower` of the two: an index is of images, a query may be a text.
    """
    chosen = tower if joins(open_bundle(bundle).manifest) else None
    model = load(bundle, variant=variant, threads=threads, components=chosen)
    if not isinstance(model, EmbeddingModel):
        model.close()
        raise InputError(f"{bundle} is a model for {model.task}; one for feature-extraction embeds.")
    return model


def bundle_of(index: Index, given: Path | None) -> Path:
    """The bundle that was named, or the one that an index was made with. Raises InputError where there is none."""
    made_with = index.about.get("bundle")
    if given is not None:
        return given
    if not isinstance(made_with, str):
        raise InputError(f"{index.path} does not say which bundle it was made with; name it with -m BUNDLE.")
    if not Path(made_with).exists():
        raise InputError(
            f"{index.path} was made with the bundle {made_with}, which is not there any more; name it with -m BUNDLE."
        )
    return Path(made_with)


def find(index: Index, answer: Embedding, k: int, wanted: Filter | None, words: str | None = None) -> list[Hit]:
    """The best piece of each of the `k` files that have most to do with a query: by its vector, and by its `words`.

    Files are ranked by the cosines of their pieces and, apart from that, by the words of all their pieces together:
    what a file is about is seldom said in one of them. The two rankings are fused, which is then what the scores are.
    """
    if words is not None and "folder" not in index.about:
        # Its ids are an application's, and say nothing of files.
        return by_file(
            index, lambda count: cast("Sequence[Hit]", index.search(answer, count, filter=wanted, words=words)), k
        )
    query = answer.floats / np.float32(max(float(np.linalg.norm(answer.floats)), 1e-12))
    hits = by_file(
        index,
        lambda count: cast("Sequence[Hit]", index.search(answer, count, filter=wanted)),
        max(2 * k, _LEAST_FILES),
    )
    near = ranked(index, query, hits)
    if words is None:
        return near[:k]
    named = dict(index.search_words(words, max(2 * k, _LEAST_FILES), filter=wanted, document=file_named))
    worth = fusion.fused([[path_of(hit) for hit in near], list(named)])
    best = {path_of(hit): hit for hit in near}
    chosen = sorted(worth, key=lambda path: -worth[path])[:k]
    found = [best[path] if path in best else _nearest(index, query, path) for path in chosen]
    return [
        replace(hit, score=worth[path], words=named.get(path, 0.0)) for path, hit in zip(chosen, found, strict=True)
    ]


def _nearest(index: Index, query: NDArray[np.float32], path: str) -> Hit:
    """The piece of a file that is nearest to a query."""
    first = piece_id(path, 0)
    ids = [piece_id(path, number) for number in range(index.metadata(first)["pieces"])] if first in index else [path]
    cosines = index.vectors(ids) @ query
    best = int(cosines.argmax())
    cosine = min(1.0, max(-1.0, float(cosines[best])))
    return Hit(ids[best], cosine, index.metadata(ids[best]), cosine)


def by_file(index: Index, find: Callable[[int], Sequence[Hit]], k: int, but: Collection[str] = ()) -> list[Hit]:
    """The best piece of each of the `k` best files. `find` gives that many pieces, best first.

    `but` are files left out.
    """
    count = _PIECES * k
    while True:
        best: dict[str, Hit] = {}
        found = find(count)
        for hit in found:
            if path_of(hit) not in but:
                best.setdefault(path_of(hit), hit)
        if len(best) >= k or len(found) < count or count >= len(index):
            return list(best.values())[:k]
        count *= 4


def ranked(index: Index, query: NDArray[np.float32], hits: Sequence[Hit]) -> list[Hit]:
    """Hits of one piece a file, by what their files as a whole, too, have to do with the query."""

    def worth(hit: Hit) -> float:
        pieces = hit.metadata.get("pieces", 1)
        if not isinstance(pieces, int) or pieces < 2:
            return hit.score * (1 + _WHOLE)
        vectors = index.vectors(piece_id(path_of(hit), number) for number in range(pieces))
        whole = vectors.mean(axis=0)
        return hit.score + _WHOLE * float(whole @ query) / max(float(np.linalg.norm(whole)), 1e-12)

    return sorted(hits, key=worth, reverse=True)


def path_of(hit: Hit) -> str:
    """The file of a piece; of an item that no folder gave, its id."""
    return file_of(hit.id, hit.metadata)


def show(hits: Sequence[Hit], *, as_json: bool) -> None:
    """The results, best first, for people or one JSON object a line."""
    console = stdout()
    for rank, hit in enumerate(hits, start=1):
        if as_json:
            print_json(record(hit))
            continue
        line = hit.metadata.get("line")
        where = f"{path_of(hit)}:{line}" if line else path_of(hit)
        console.print(f"[bold]{rank:2d}. {plain(where)}[/]  {_told(hit)}", soft_wrap=True)
        if text := hit.metadata.get("text"):
            words = " ".join(str(text).split())
            console.print(f"    {plain(words[:_SNIPPET])}{'…' if len(words) > _SNIPPET else ''}", soft_wrap=True)


def _told(hit: Hit) -> str:
    return f"{hit.cosine:.3f}" if hit.words is None else f"{hit.cosine:.3f}, words {hit.words:.1f}"


def record(hit: Hit) -> dict[str, Any]:
    """A result as JSON."""
    names = ("line", "start", "text", "kind")
    about = {name: hit.metadata[name] for name in names if name in hit.metadata}
    scores = {"score": round(hit.score, 6), "cosine": round(hit.cosine, 6)}
    if hit.words is not None:
        scores["words"] = round(hit.words, 4)
    return {"path": path_of(hit), "id": hit.id, **scores, **about}
