"""What all contestants answer: real sentences, single and joined with their neighbours, and crops of photographs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import BenchError

Modality = Literal["text", "image"]

# Limits in tokens that a library may have, [CLS] and [SEP] included; 512 is the most that BERT's positions allow.
LIMITS = (64, 128, 256, 384, 512)
# Words of one token each.
_FILLER, _ENDS = "wave", ("bird", "stone")
_SAME = 1e-5

# Sentences joined to one text, in turn. With the sentences of the data folder (about 22 tokens each) these
# give a mean of 47 tokens and a 95th percentile of 122: short queries, and paragraphs that a product stores.
JOINED = (1, 1, 3, 1, 2, 1, 5, 1, 2, 1, 3, 1, 1, 2, 1, 4, 1, 1, 6, 1)


@dataclass(frozen=True, slots=True)
class PeerInputs:
    """The file that each contestant reads, how many inputs are measured, and the SHA-256 of its content.

    A file of texts holds `probes` more: see `token_limit`.
    """

    modality: Modality
    path: Path
    count: int
    probes: int
    digest: str
    source: str


def sentences(folder: Path) -> list[str]:
    """Every sentence of the .tsv files (column `text`) in `folder`, each once, file by file in its order.

    Raises BenchError: there are none.
    """
    found: dict[str, None] = {}
    for path in sorted(folder.glob("*.tsv")):
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        column = lines[0].split("\t").index("text")
        found |= {line.split("\t")[column].strip(): None for line in lines[1:]}
    found.pop("", None)
    if not found:
        raise BenchError(f"There are no sentences (.tsv files) in {folder}; name their folder with: --data FOLDER")
    return list(found)


def texts(source: list[str], count: int) -> list[str]:
    """`count` texts of 1 to 6 neighbouring sentences, in an order that depends on the texts alone."""
    groups = []
    position = 0
    step = max(1, len(source) // count)
    for number in range(count):
        size = JOINED[number % len(JOINED)]
        groups.append(" ".join(source[(position + offset) % len(source)] for offset in range(size)))
        position += max(step, size)
    return sorted(groups, key=lambda text: hashlib.sha256(text.encode()).digest())


def probes() -> list[str]:
    """Pairs of texts that differ in their last word alone: for each of `LIMITS` just within it, and just beyond."""
    return [f"{_FILLER} " * (limit - 3 + beyond) + end for limit in LIMITS for beyond in (0, 1) for end in _ENDS]


def token_limit(rows: NDArray[np.float32]) -> int | None:
    """How many tokens a contestant reads, from its answers (n, d) to `probes`: where the last word stops to matter.

    None: at a number that is none of `LIMITS`.
    """
    seen = [bool(np.abs(one - other).max() > _SAME) for one, other in zip(rows[::2], rows[1::2], strict=True)]
    for limit, within, beyond in zip(LIMITS, seen[::2], seen[1::2], strict=True):
        if within and (not beyond or limit == LIMITS[-1]):
            return limit
        if not within:
            return None
    return None


def write_texts(data: Path, count: int, folder: Path) -> PeerInputs:
    """Write `count` texts, and the probes, to a file in `folder`."""
    probing = probes()
    raw = json.dumps(texts(sentences(data / "sentiment"), count) + probing, ensure_ascii=False).encode()
    path = folder / "texts.json"
    path.write_bytes(raw)
    return PeerInputs(
        "text", path, count, len(probing), hashlib.sha256(raw).hexdigest(), "sentences, single and joined"
    )


def write_images(count: int, folder: Path) -> PeerInputs:
    """Write `count` crops of scikit-image's and scikit-learn's photographs, (height, width, 3) uint8, none square."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    photographs = [*load_sample_images().images, data.coffee(), data.chelsea(), data.rocket(), data.astronaut()]
    rng = np.random.default_rng(0)
    crops = {}
    for number in range(count):
        whole = photographs[number % len(photographs)]
        height, width = (int(rng.integers(240, side + 1)) for side in whole.shape[:2])
        if height == width:
            width -= 1
        top, left = (
            int(rng.integers(0, side - size + 1)) for side, size in zip(whole.shape, (height, width), strict=False)
        )
        crops[f"{number:04d}"] = np.ascontiguousarray(whole[top : top + height, left : left + width, :3])
    path = folder / "images.npz"
    arrays: dict[str, Any] = crops
    np.savez(path, **arrays)
    digest = hashlib.sha256(b"".join(crop.tobytes() for crop in crops.values())).hexdigest()
    return PeerInputs("image", path, count, 0, digest, "crops of photographs, decoded")
