"""Writes the golden samples: inputs with the original's preprocessed tensors and answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from sanderling.golden import GoldenSample
from sanderling.manifest import GoldenFiles
from sanderling.pairs import TextPair
from sanderling_export.original import Original

FOLDER = "golden"


# So many of the texts are answered with each prompt, too.
_PROMPTED = 4


def write(root: Path, build: Path, original: Original, items: Sequence[Any], inputs: Sequence[str]) -> GoldenFiles:
    """Write `items` (texts, pairs of texts, RGB images) with what the original makes of them; `inputs` are the
    graph's. Some texts are there with each of the prompts as well."""
    folder = build / FOLDER
    folder.mkdir()
    prefix = folder.relative_to(root).as_posix()
    answers = original.answers(items)
    samples, tensors = [], {}
    for index, item in enumerate(items, 1):
        if isinstance(item, str):
            sample = GoldenSample(f"text-{index}", text=item)
        elif isinstance(item, TextPair):
            sample = GoldenSample(f"pair-{index}", text=item.text, text_pair=item.text_pair)
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
    (folder / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    (folder / "tensors.safetensors").write_bytes(save(tensors))
    return GoldenFiles(f"{prefix}/samples.json", f"{prefix}/tensors.safetensors")
