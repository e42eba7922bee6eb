"""Writes the golden samples: inputs with the original's preprocessed tensors and answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from sanderling.audio import Audio
from sanderling.golden import GoldenSample
from sanderling.manifest import GoldenFiles
from sanderling.pairs import TextPair
from sanderling_export.original import Original

FOLDER = "golden"


# So many of the texts are answered with each prompt, too.
_PROMPTED = 4


# An original, the items it is shown, and the names of its graph's inputs.
Shown = tuple[Original, Sequence[Any], Sequence[str]]


def write(root: Path, build: Path, shown: Sequence[Shown]) -> GoldenFiles:
    """Write items (texts, pairs of texts, RGB images, sounds) with what their originals make of them.

    Some texts are there with each of the prompts as well. Of a model of several graphs each has items of its own.
    """
    folder = build / FOLDER
    folder.mkdir()
    prefix = folder.relative_to(root).as_posix()
    samples: list[GoldenSample] = []
    tensors: dict[str, Any] = {}
    for original, items, inputs in shown:
        found, values = _part(folder, prefix, original, items, inputs)
        samples += found
        tensors |= values
    (folder / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    (folder / "tensors.safetensors").write_bytes(save(tensors))
    return GoldenFiles(f"{prefix}/samples.json", f"{prefix}/tensors.safetensors")


def _part(
    folder: Path, prefix: str, original: Original, items: Sequence[Any], inputs: Sequence[str]
) -> tuple[list[GoldenSample], dict[str, Any]]:
    answers = original.answers(items)
    samples: list[GoldenSample] = []
    tensors: dict[str, Any] = {}
    for index, item in enumerate(items, 1):
        if isinstance(item, str):
            sample = GoldenSample(f"text-{index}", text=item)
        elif isinstance(item, TextPair):
            sample = GoldenSample(f"pair-{index}", text=item.text, text_pair=item.text_pair)
        elif isinstance(item, Audio):
            item.save(folder / f"sound-{index}.wav")
            sample = GoldenSample(f"sound-{index}", audio=f"{prefix}/sound-{index}.wav")
        else:
            item.save(folder / f"photo-{index}.png", optimize=True)
            sample = GoldenSample(f"photo-{index}", image=f"{prefix}/photo-{index}.png")
        samples.append(sample)
        for name, value in original.inputs(item).items():
            if name in inputs:
                tensors[f"{sample.id}.input.{name}"] = np.ascontiguousarray(value)
        tensors[f"{sample.id}.output"] = np.ascontiguousarray(answers[index - 1])
    known = original.description.text
    texts = [item for item in items if isinstance(item, str)][:_PROMPTED]
    for number, prompt in enumerate(known.prompts if known is not None and texts else (), 1):
        answers = original.answers(texts, prompt)
        for index, text in enumerate(texts, 1):
            sample = GoldenSample(f"prompt-{number}-{index}", text=text, prompt=prompt)
            samples.append(sample)
            for name, value in original.inputs(text, prompt).items():
                if name in inputs:
                    tensors[f"{sample.id}.input.{name}"] = np.ascontiguousarray(value)
            tensors[f"{sample.id}.output"] = np.ascontiguousarray(answers[index - 1])
    return samples, tensors
