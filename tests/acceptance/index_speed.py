"""Issue 6: exact search of a million vectors against faiss.IndexFlatIP with the same threads, its memory, and int8."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from alternated import times_as_fast
from checks import Context, NotCheckableError, Row, at_most, registry
from command_line import environment
from index_vectors import MILLION, noisy, real, recall, stored

from sanderling import Index, cores

_HUNDRED_THOUSAND = 100_000
_ASKED = 200

_RESIDENT = """
import json, sys
import numpy as np
from pathlib import Path
from sanderling import Index
def field(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
queries = np.load(sys.argv[2])
space = sys.argv[3]
before = field("VmRSS")
with Index.open(sys.argv[1]) as index:
    index.search(queries[0], space=space)
    index.search(queries, space=space)
print(json.dumps({"added": field("VmHWM") - before}))
"""


@registry.check(6, "index-speed")
def speed(context: Context, count: int = MILLION) -> list[Row]:
    faiss = _faiss()
    context.say(f"making {count:,} vectors")
    sentences, space = real()
    vectors, queries = noisy(sentences, count), noisy(sentences[::-1], 64)
    theirs = faiss.IndexFlatIP(vectors.shape[1])
    theirs.add(vectors)
    stored(context.folder / "float32", vectors, space, "float32").close()
    stored(context.folder / "int8", vectors, space, "int8").close()
    size = vectors.nbytes
    del vectors
    rows = []
    with Index.open(context.folder / "float32") as exact, Index.open(context.folder / "int8") as coarse:
        for asked in (queries[:1], queries):
            context.say(f"{len(asked)} at once")
            what = "one query" if len(asked) == 1 else f"{len(asked)} queries"

            def search(index: Index, asked: Any = asked) -> Any:
                return index.search(asked, space=space)

            _same(theirs.search(asked, 10)[1], search(exact))
            rows.append(
                times_as_fast(
                    f"exact top 10 of {count:,}, {what}, against faiss.IndexFlatIP, {cores.granted()} threads",
                    lambda search=search: search(exact),
                    lambda asked=asked: theirs.search(asked, 10),
                    0.95,
                )
            )
            rows.append(
                times_as_fast(
                    f"int8 against float32, {what}",
                    lambda search=search: search(coarse),
                    lambda search=search: search(exact),
                    2.0,
                )
            )
    if sys.platform == "linux":
        rows.append(_memory(context.folder, queries, space, size))
    return rows


def _faiss() -> Any:
    if importlib.util.find_spec("faiss") is None:
        raise NotCheckableError("faiss is not installed: pip install faiss-cpu")
    import faiss

    faiss.omp_set_num_threads(cores.granted())
    return faiss


def _same(theirs: Any, ours: Any) -> None:
    """That both find the same, but for vectors that are equally near in float32."""
    found = [[hit.id for hit in line] for line in ours]
    assert recall(found, [[str(row) for row in line] for line in theirs.tolist()]) > 0.99


def _memory(folder: Path, queries: Any, space: str, size: int) -> Row:
    np.save(folder / "queries.npy", queries)
    done = subprocess.run(
        [sys.executable, "-c", _RESIDENT, str(folder / "float32"), str(folder / "queries.npy"), space],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
        env=environment(),
    )
    added = json.loads(done.stdout)["added"]
    return at_most("memory of exact search over the vectors' own", added / size, 1.2, spread=f"{added / 1e6:,.0f} MB")


@registry.check(6, "index-latency")
def latency(context: Context, count: int = _HUNDRED_THOUSAND) -> list[Row]:
    """A query's text to results over int8 codes: the search beside usearch's exact one, and all that is beside both.

    A search reads more than the caches hold, so that the model's weights have to be read anew afterwards, wherever that
    search is from. So each part begins as it does within the whole: the embedding after a search of as many bytes, the
    search after an embedding.
    """
    if importlib.util.find_spec("usearch") is None:
        raise NotCheckableError('usearch is not installed: pip install "sanderling[search]"')
    import texts
    from checks import built
    from usearch.index import MetricKind
    from usearch.index import search as usearch_search

    import sanderling

    context.say(f"making {count:,} vectors")
    sentences, space = real()
    vectors = noisy(sentences, count)
    stored(context.folder / "index", vectors, space, "int8").close()
    codes = np.rint(vectors * (127 / np.abs(vectors).max())).astype(np.int8)
    largest = 127 / np.abs(sentences).max()
    parts = ("embedding alone", "search", "usearch", "whole")
    spent: dict[str, list[float]] = {part: [] for part in parts}
    with sanderling.load(built("all-minilm-l6-v2")) as model, Index.open(context.folder / "index") as index:

        def timed(part: str, way: Callable[[], Any]) -> Any:
            begun = time.perf_counter()
            found = way()
            spent[part].append(time.perf_counter() - begun)
            return found

        code = np.zeros(vectors.shape[1], np.int8)

        def theirs() -> Any:
            return usearch_search(codes, code, 10, MetricKind.IP, exact=True, threads=cores.granted())

        for query in texts.sentences()[:_ASKED]:
            theirs()
            answer = timed("embedding alone", lambda query=query: model(query))
            code = np.clip(np.rint(answer.embedding * largest), -127, 127).astype(np.int8)
            timed("search", lambda answer=answer: index.search(answer))
            model(query)
            timed("usearch", theirs)
            timed("whole", lambda query=query: index.search(model(query)))
    warm = {part: np.array(seconds[_ASKED // 5 :]) for part, seconds in spent.items()}
    stages = ", ".join(f"{part} {np.median(seconds) * 1e3:.2f} ms" for part, seconds in warm.items())
    beside = (warm["whole"] - warm["search"]) / warm["embedding alone"]
    return [
        at_most(
            f"int8 search of {count:,} over usearch's exact one",
            float(np.median(warm["search"] / warm["usearch"])),
            1.2,
            spread=stages,
        ),
        at_most("everything but the search over embedding alone", float(np.median(beside)), 1.1, spread=stages),
    ]
