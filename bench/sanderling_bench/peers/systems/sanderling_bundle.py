"""Sanderling itself, on a bundle: texts to embeddings, images to labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sanderling


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`folder` is that of the bundles; `settings`: `bundle`, and what `sanderling.load` takes."""
    chosen = {name: value for name, value in settings.items() if name != "bundle"}
    model: Any = sanderling.load(folder / settings["bundle"], **chosen)

    def answer(inputs: Sequence[Any]) -> NDArray[np.float32]:
        if len(inputs) == 1:
            alone = model(inputs[0])
            row = alone.logits if model.modality == "image" else alone.embedding
            return np.asarray(row, np.float32)[None]
        found = model(list(inputs))
        rows = found.logits if model.modality == "image" else found.embeddings
        return np.asarray(rows, np.float32)

    return answer
