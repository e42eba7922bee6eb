"""Golden pictures of a model of faces: parts of photographs, with what the original sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image
from safetensors.numpy import save

from sanderling.golden import GoldenSample
from sanderling.manifest import GoldenFiles
from sanderling_export.faces.library import FaceLibrary

FOLDER = "golden"


def write(
    root: Path, build: Path, library: FaceLibrary, pictures: Sequence[Image.Image], min_score: float
) -> tuple[GoldenFiles, list[int]]:
    """Write pictures with the detector's input, the faces (n, 5), and each other network's inputs and answers; and
    how many faces each has."""
    folder = build / FOLDER
    folder.mkdir()
    prefix = folder.relative_to(root).as_posix()
    samples, tensors, counts = [], {}, []
    for number, picture in enumerate(pictures, 1):
        name = f"picture-{number}"
        picture.save(folder / f"{name}.png", optimize=True)
        samples.append(GoldenSample(name, image=f"{prefix}/{name}.png"))
        pixels = np.asarray(picture)
        faces = library.see(pixels, min_score)
        counts.append(len(faces))
        tensors[f"{name}.input.pixel_values"] = np.ascontiguousarray(library.detector_input(pixels))
        rows = [[*face.box, face.score] for face in faces]
        tensors[f"{name}.output"] = np.array(rows, np.float32).reshape(-1, 5)
        for component in faces[0].inputs if faces else ():
            tensors[f"{name}.{component}.input"] = np.stack([face.inputs[component] for face in faces])
            tensors[f"{name}.{component}.output"] = np.stack([face.answers[component] for face in faces])
    (folder / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    (folder / "tensors.safetensors").write_bytes(save(tensors))
    return GoldenFiles(f"{prefix}/samples.json", f"{prefix}/tensors.safetensors"), counts
