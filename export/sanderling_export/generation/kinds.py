"""Which checkpoints generate."""

from __future__ import annotations

from sanderling.generation.rules import TASKS
from sanderling_export import description, timm_models
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.description import Options
from sanderling_export.speech import ctranslate


def is_generator(checkpoint: Checkpoint, options: Options) -> bool:
    """Whether the task is one that generates: as asked for, else as the checkpoint's architecture says."""
    if description.of_sound(checkpoint):
        return False
    if options.task is not None or options.module is not None:
        return options.task in TASKS
    if timm_models.is_timm(checkpoint) or not read_json(checkpoint.folder / "config.json"):
        return False
    if ctranslate.is_folder(checkpoint):
        return True
    if not any(description.generates(name) for name in description.architectures(checkpoint)):
        return False
    return description.task_of(checkpoint, None) in TASKS
