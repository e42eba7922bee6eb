"""CTranslate2's Encoder on the converted checkpoint; pooling beside it, as its documentation of BERT does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph` (converted), `tokenizer`, `compute`, `threads` a run, `workers`; `limit` in tokens."""
    tokenizer = Tokenizer.from_file(str(folder / settings["tokenizer"] / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["limit"])
    encoder = ctranslate2.Encoder(
        str(folder / settings["graph"]),
        device="cpu",
        compute_type=settings["compute"],
        intra_threads=settings["threads"],
        inter_threads=settings.get("workers", 1),
    )

    def answer(texts: Sequence[str], batch: int = 32, sort: bool = True) -> NDArray[np.float32]:
        encodings = tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids)) if sort else list(range(len(texts)))
        found: NDArray[np.float32] | None = None
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            hidden = np.array(encoder.forward_batch([encodings[i].ids for i in chosen]).last_hidden_state)
            lengths = np.array([len(encodings[i].ids) for i in chosen])
            weights = (np.arange(hidden.shape[1])[None, :] < lengths[:, None])[:, :, None].astype(np.float32)
            rows = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            if found is None:
                found = np.empty((len(texts), rows.shape[1]), np.float32)
            found[chosen] = rows
        assert found is not None
        return found

    return answer
