"""Raw ONNX Runtime as a careful user writes it: sorted by length, padded to the longest of a batch, masked mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a folder with model.onnx and tokenizer.json; `threads`; `limit` in tokens."""
    tokenizer = Tokenizer.from_file(str(folder / settings["graph"] / "tokenizer.json"))
    tokenizer.no_padding()  # the file pads to a fixed 128
    tokenizer.enable_truncation(settings["limit"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.enable_cpu_mem_arena = settings.get("arena", True)
    session = onnxruntime.InferenceSession(
        str(folder / settings["graph"] / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = {given.name for given in session.get_inputs()}

    def answer(texts: Sequence[str], batch: int = 32, sort: bool = True) -> NDArray[np.float32]:
        encodings = tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids)) if sort else list(range(len(texts)))
        found: NDArray[np.float32] | None = None
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            longest = max(len(encodings[i].ids) for i in chosen)
            ids = np.zeros((len(chosen), longest), np.int64)
            mask = np.zeros((len(chosen), longest), np.int64)
            for row, index in enumerate(chosen):
                tokens = encodings[index].ids
                ids[row, : len(tokens)] = tokens
                mask[row, : len(tokens)] = 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, {name: given[name] for name in names})[0]
            weights = mask[:, :, None].astype(np.float32)
            rows = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            if found is None:
                found = np.empty((len(texts), rows.shape[1]), np.float32)
            found[chosen] = rows
        assert found is not None
        return found

    return answer
