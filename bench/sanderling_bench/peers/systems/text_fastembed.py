"""fastembed, with the checkpoint as a custom model: `TextEmbedding.embed`, as its documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from numpy.typing import NDArray

NAME = "checkpoint"


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a folder with model.onnx, and `threads`. Calls take `batch`, `parallel` and `sort`."""
    path = folder / settings["graph"]
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding(NAME, threads=settings.get("threads"), specific_model_path=str(path))

    def answer(
        texts: Sequence[str], batch: int | None = None, parallel: int | None = None, sort: bool = False
    ) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if sort else list(range(len(texts)))
        chosen = {} if batch is None else {"batch_size": batch}
        rows = np.stack(list(model.embed([texts[i] for i in order], parallel=parallel, **chosen)))
        found = np.empty(rows.shape, np.float32)
        found[order] = rows
        return found

    return answer
