"""openvino-genai's TextEmbeddingPipeline. A call is one batch, so batches are cut, and sorted, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai
from numpy.typing import NDArray


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a converted folder; `threads`, `dtype`, `streams`; `limit` in tokens."""
    config = openvino_genai.TextEmbeddingPipeline.Config()
    config.pooling_type = openvino_genai.TextEmbeddingPipeline.PoolingType.MEAN
    config.normalize = True
    config.max_length = settings["limit"]
    pipeline = openvino_genai.TextEmbeddingPipeline(
        str(folder / settings["graph"]),
        "CPU",
        config,
        INFERENCE_NUM_THREADS=settings["threads"],
        INFERENCE_PRECISION_HINT=settings["dtype"],
    )

    def answer(texts: Sequence[str], batch: int = 32, sort: bool = True) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if sort else list(range(len(texts)))
        rows: list[list[float]] = []
        for start in range(0, len(order), batch):
            rows += pipeline.embed_documents([texts[i] for i in order[start : start + batch]])
        found = np.empty((len(rows), len(rows[0])), np.float32)
        found[order] = rows
        return found

    return answer
