"""libembedding-ng on a local folder: one session, or its pool of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from libembedding import TextEmbedding
from libembedding.pool import TextEmbeddingPool
from numpy.typing import NDArray


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a folder with model.onnx; `threads`; `workers` above 1 for the pool. Its cache stays off."""
    path = str(folder / settings["graph"])
    workers, threads = settings.get("workers", 1), settings["threads"]
    model = TextEmbedding(path, threads=threads, offline=True, dim=384) if workers == 1 else None
    pools: dict[int, Any] = {}

    def answer(texts: Sequence[str], batch: int = 16, sort: bool = False) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if sort else list(range(len(texts)))
        chosen = [texts[i] for i in order]
        if model is not None:
            rows = model.embed(chosen, batch_size=batch)
        else:
            if batch not in pools:  # a pool's batch size is settled when it is made: once for each that is tried
                pools[batch] = TextEmbeddingPool(
                    path, workers=workers, threads_per_worker=threads, batch_size=batch, offline=True, dim=384
                )
            rows = pools[batch].embed(chosen)
        found = np.empty(rows.shape, np.float32)
        found[order] = rows
        return found

    return answer
