"""Raw ONNX Runtime on the exported fp32 graph, images prepared with Pillow and NumPy as a careful user writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a folder with model.onnx, and `threads`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    session = onnxruntime.InferenceSession(
        str(folder / settings["graph"] / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def answer(images: Sequence[Image.Image], batch: int = 16) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(images), batch):
            chosen = images[start : start + batch]
            pixels = np.empty((len(chosen), 3, 224, 224), np.float32)
            for row, image in enumerate(chosen):
                pixels[row] = prepared(image)
            logits = session.run(None, {name: pixels})[0]
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
            np.argpartition(scores, -5, axis=1)[:, -5:]  # the labels
            rows.append(logits)
        return np.concatenate(rows)

    return answer


def prepared(image: Image.Image) -> NDArray[np.float32]:
    """The pixels (3, 224, 224) that the original's transforms give."""
    width, height = image.size
    longer = int(256 * max(width, height) / min(width, height))
    size = (256, longer) if width <= height else (longer, 256)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    cut = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32)
    return ((cut - np.float32(127)) / np.float32(128)).transpose(2, 0, 1)
