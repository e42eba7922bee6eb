"""sentence-transformers, `SentenceTransformer.encode`, on its backends torch, ONNX and OpenVINO.

It sorts by length itself and truncates where the checkpoint says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def load(folder: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `graph`, a checkpoint's folder; `backend`, `threads`; `dtype` (torch, OpenVINO), `file` (graphs)."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(settings["threads"])
    backend = settings["backend"]
    options: dict[str, Any] = {}
    if backend == "torch":
        options["torch_dtype"] = getattr(torch, settings["dtype"])
    elif backend == "onnx":
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = settings["threads"]
        options |= {
            "provider": "CPUExecutionProvider",
            "file_name": settings["file"],
            "session_options": session,
            "export": False,
        }
    else:
        config = {"INFERENCE_NUM_THREADS": str(settings["threads"]), "INFERENCE_PRECISION_HINT": settings["dtype"]}
        options |= {"file_name": settings["file"], "ov_config": config, "export": False}
    model = SentenceTransformer(
        str(folder / settings["graph"]), device="cpu", backend=backend, model_kwargs=options, local_files_only=True
    )

    def answer(texts: Sequence[str], batch: int = 32, sort: bool = True) -> NDArray[np.float32]:
        assert sort, "it always sorts"
        rows: NDArray[np.float32] = model.encode(
            list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return rows

    return answer
