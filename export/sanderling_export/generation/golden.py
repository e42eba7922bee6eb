"""Golden samples of a model that generates: inputs, the original's tokens behind them, and its logits of each; of one
that chooses among answers its logits alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from sanderling.audio import Audio
from sanderling.generation.questions import PictureQuestion
from sanderling.golden import GoldenSample
from sanderling.manifest import GoldenFiles
from sanderling.schema.generation import GenerationOutput
from sanderling_export.generation.originals import Original

FOLDER = "golden"


def write(
    root: Path,
    build: Path,
    original: Original,
    items: Sequence[Any],
    count: int,
    more: Mapping[str, NDArray[Any]] | None = None,
) -> GoldenFiles:
    """Write `items` (texts, RGB images, questions about these, or sounds) with the original's preprocessed tensors, its
    first `count` tokens of each without beams or drawing, and its logits of the next token behind the input and behind
    each of these; and `more` tensors, by their names."""
    folder = build / FOLDER
    folder.mkdir()
    prefix = folder.relative_to(root).as_posix()
    samples = []
    tensors: dict[str, NDArray[Any]] = dict(more or {})
    for index, item in enumerate(items, 1):
        if isinstance(item, Audio):
            item.save(folder / f"sound-{index}.wav")
            sample = GoldenSample(f"sound-{index}", audio=f"{prefix}/sound-{index}.wav")
        elif isinstance(item, str):
            sample = GoldenSample(f"text-{index}", text=item)
        else:
            asked = isinstance(item, PictureQuestion)
            picture = item.image if asked else item
            picture.save(folder / f"photo-{index}.png", optimize=True)
            sample = GoldenSample(
                f"photo-{index}", image=f"{prefix}/photo-{index}.png", question=item.question if asked else None
            )
        samples.append(sample)
        for name, value in original.inputs(item).items():
            tensors[f"{sample.id}.input.{name}"] = np.ascontiguousarray(value)
        following = original.greedy(item, count)
        logits = original.forced(item, following)
        tensors[f"{sample.id}.output"] = np.ascontiguousarray(logits[0])
        if not isinstance(original.description.head, GenerationOutput):
            continue
        tensors[f"{sample.id}.decoder.input"] = np.array(following, np.int64)
        tensors[f"{sample.id}.decoder.output"] = np.ascontiguousarray(logits[: len(following)])
    (folder / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    (folder / "tensors.safetensors").write_bytes(save(tensors))
    return GoldenFiles(f"{prefix}/samples.json", f"{prefix}/tensors.safetensors")
