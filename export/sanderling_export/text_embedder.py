"""Text embedders as sentence-transformers loads them: pooling, normalization, dense layers and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.vectors import DenseLayer, EmbeddingOutput
from sanderling_export import description, tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options

Array = NDArray[Any]

_POOLINGS = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
}
_ACTIVATIONS = {"Identity": "none", "Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid"}
_PLAIN = "no modules.json: mean pooling without normalization, as sentence-transformers does it"


class TextEmbedder:
    """A text encoder in sentence-transformers."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from sentence_transformers import SentenceTransformer

        folder = checkpoint.folder
        st = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
        st = _repooled(st, options)
        kinds = [type(module).__name__ for module in st]
        behind = kinds[2:-1] if kinds[-1] == "Normalize" else kinds[2:]
        if kinds[:2] != ["Transformer", "Pooling"] or any(kind != "Dense" for kind in behind):
            raise CheckpointError(
                f"{folder / 'modules.json'} stacks {' > '.join(kinds)}; Sanderling exports Transformer > Pooling, "
                "then any Dense layers, with or without Normalize at the end."
            )
        transformer, pooling = st[0], st[1]
        dense, weights = _dense([module for module in st if type(module).__name__ == "Dense"])
        pooled = pooling.pooling_mode
        mode = _POOLINGS.get(pooled if isinstance(pooled, str) else "+".join(pooled))
        if mode is None:
            raise CheckpointError(
                f"The checkpoint pools by {pooled!r}; expected one of {', '.join(_POOLINGS)}. "
                "Choose another: --pooling mean"
            )
        self.model = transformer.model
        tokenizer = transformer.tokenizer
        limit = description.token_limit(self.model, tokenizer, st.max_seq_length, options.max_tokens)
        st.max_seq_length = limit
        prompts = description.prompts_of(st, options)
        size = len(weights[dense[-1].weight]) if dense else int(pooling.pooling_output_dimension)
        notes = () if (folder / "modules.json").is_file() or options.pooling else (_PLAIN,)
        self._st = st
        self.description = Description(
            "feature-extraction",
            EmbeddingOutput(
                "last_hidden_state",
                mode,  # type: ignore[arg-type]
                "Normalize" in kinds,
                size,
                include_prompt=bool(pooling.include_prompt),
                dense=dense,
            ),
            tokens.settings(tokenizer, limit, bool(transformer.do_lower_case), prompts, st.default_prompt_name),
            tokens.tokenizer_json(tokenizer),
            weights=weights,
            dimensions=description.shorter(size, options.dimensions),
            notes=notes,
        )

    def inputs(self, item: str, prompt: str | None = None) -> dict[str, Array]:
        text = self.description.text
        assert text is not None
        name = prompt if prompt is not None else text.default_prompt
        prefix = text.prompts[name] if name else ""
        features = self._st[0].preprocess([prefix + item])
        return {name: value[0].numpy() for name, value in features.items() if torch.is_tensor(value)}

    def answers(self, items: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        rows = self._st.encode(
            list(items), prompt_name=prompt, batch_size=16, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(rows, dtype=np.float32)


def _repooled(st: Any, options: Options) -> Any:
    """The model with the pooling and normalization asked for in place of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize as NormalizeModule
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    if options.pooling is None and options.normalize is None:
        return st
    modules = list(st)
    if options.pooling is not None:
        wanted = next((theirs for theirs, ours in _POOLINGS.items() if ours == options.pooling), None)
        if wanted is None:
            raise ExportError(
                f"--pooling {options.pooling} is no pooling over tokens; choose {', '.join(_POOLINGS.values())}."
            )
        modules[1] = PoolingModule(modules[0].get_embedding_dimension(), pooling_mode=wanted)
    if options.normalize is not None:
        modules = [m for m in modules if type(m).__name__ != "Normalize"]
        modules += [NormalizeModule()] if options.normalize else []
    return SentenceTransformer(
        modules=modules, device="cpu", prompts=st.prompts, default_prompt_name=st.default_prompt_name
    )


def _dense(modules: Sequence[Any]) -> tuple[tuple[DenseLayer, ...], dict[str, NDArray[np.float32]]]:
    """sentence-transformers' Dense modules as the manifest's layers, and their tensors."""
    layers: list[DenseLayer] = []
    tensors: dict[str, NDArray[np.float32]] = {}
    for number, module in enumerate(modules, 1):
        if {module.module_input_name, module.module_output_name} != {"sentence_embedding"}:
            raise CheckpointError(
                f"The checkpoint's Dense layer {number} reads {module.module_input_name!r} and writes "
                f"{module.module_output_name!r}; Sanderling exports layers of the sentence embedding."
            )
        function = type(module.activation_function).__name__
        if function not in _ACTIVATIONS:
            raise CheckpointError(
                f"The checkpoint's Dense layer {number} has the activation {function}; expected one of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        bias = module.linear.bias
        tensors[f"{number}.weight"] = module.linear.weight.detach().float().numpy()
        if bias is not None:
            tensors[f"{number}.bias"] = bias.detach().float().numpy()
        name = f"{number}.bias" if bias is not None else None
        layers.append(DenseLayer(f"{number}.weight", name, _ACTIVATIONS[function]))  # type: ignore[arg-type]
    return tuple(layers), tensors
