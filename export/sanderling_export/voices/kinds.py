"""Which checkpoints are voices."""

from __future__ import annotations

from sanderling_export import description
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.voices import piper


def is_voice(checkpoint: Checkpoint) -> bool:
    """Whether it is a graph, or a folder whose config names a class of transformers that speaks."""
    if checkpoint.path.suffix == piper.SUFFIX:
        return True
    return any(name in description.SPEAKING for name in description.architectures(checkpoint))
