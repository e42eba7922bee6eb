"""Learned sparse vectors: a masked language model in sentence-transformers' SparseEncoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.vectors import SparseOutput
from sanderling_export import description, tokens
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.description import Description, Options

Array = NDArray[Any]
POOLING = "splade"
_ACTIVATIONS = {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}


def is_sparse(checkpoint: Checkpoint, options: Options) -> bool:
    """Whether a text encoder gives sparse vectors: asked for, or by what sentence-transformers wrote beside it."""
    stated = read_json(checkpoint.folder / "config_sentence_transformers.json").get("model_type")
    return options.pooling == POOLING or (options.pooling is None and stated == "SparseEncoder")


class SparseEmbedder:
    """A SPLADE model: the logits of a masked language model, pooled over the tokens of a text."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from sentence_transformers import SparseEncoder

        if options.normalize is not None or options.dimensions:
            raise ExportError("Sparse vectors are neither normalized nor cut; leave out normalize and dimensions.")
        names = description.architectures(checkpoint)
        if not any(name.endswith("ForMaskedLM") for name in names):
            raise CheckpointError(
                f"{checkpoint.folder} is a {', '.join(names) or 'model of no architecture'}; sparse vectors are made "
                "by a masked language model (...ForMaskedLM)."
            )
        model = SparseEncoder(str(checkpoint.folder), device="cpu", local_files_only=True, trust_remote_code=False)
        kinds = [type(module).__name__ for module in model]
        if len(kinds) != 2 or kinds[1] != "SpladePooling" or kinds[0] not in ("MLMTransformer", "Transformer"):
            raise CheckpointError(
                f"The checkpoint stacks {' > '.join(kinds)}; Sanderling exports a language model > SpladePooling."
            )
        transformer, pooling = model[0], model[1]
        self.model = transformer.model
        tokenizer = transformer.tokenizer
        limit = description.token_limit(self.model, tokenizer, model.max_seq_length, options.max_tokens)
        model.max_seq_length = limit
        prompts = description.prompts_of(model, options)
        self._encoder = model
        self.description = Description(
            "feature-extraction",
            SparseOutput(
                "logits",
                pooling.pooling_strategy,
                _ACTIVATIONS[pooling.activation_function],  # type: ignore[arg-type]
                int(self.model.config.vocab_size),
            ),
            tokens.settings(tokenizer, limit, bool(transformer.do_lower_case), prompts, model.default_prompt_name),
            tokens.tokenizer_json(tokenizer),
        )

    def inputs(self, item: str, prompt: str | None = None) -> dict[str, Array]:
        """What the tokenizer makes of a text."""
        text = self.description.text
        assert text is not None
        name = prompt if prompt is not None else text.default_prompt
        features = self._encoder[0].preprocess([(text.prompts[name] if name else "") + item])
        return {key: value[0].numpy() for key, value in features.items() if hasattr(value, "numpy")}

    def answers(self, items: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Weights (texts, vocabulary)."""
        rows = self._encoder.encode(
            list(items), prompt_name=prompt, batch_size=16, convert_to_sparse_tensor=False, show_progress_bar=False
        )
        return np.asarray(rows.cpu().numpy(), np.float32)
