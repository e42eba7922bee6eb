"""The rated sentences that `sentiment` and `topic` are trained on, and which of them are kept back."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("movie_reviews", "product_reviews", "tweets", "news_editorials")
LABELS = {"sentiment": ("negative", "positive"), "topic": KINDS}

# Ratings run from -4 to 4; one nearer to zero than this says neither good nor bad.
CLEAR = 0.5
# One in so many texts is held out, by its hash: a text that stands in the data twice is on one side only.
_HELD_OUT = 5


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence, the number of its label, and the file it is from."""

    text: str
    label: int
    kind: str


def folder() -> Path:
    """`sentiment` in the data folder: `SANDERLING_DATA`, or `../shared/data` beside the repository."""
    return Path(os.environ.get("SANDERLING_DATA") or ROOT.parent / "shared" / "data") / "sentiment"


def examples(task: str, source: Path | None = None) -> tuple[list[Example], list[Example]]:
    """The examples to train on, and the held-out ones, in the order of the files.

    Raises FileNotFoundError where the data is not there, ValueError where a file is not as described.
    """
    source = folder() if source is None else source
    train: list[Example] = []
    held_out: list[Example] = []
    for kind in KINDS:
        for text, valence in _rows(source / f"{kind}.tsv"):
            if task == "sentiment" and abs(valence) < CLEAR:
                continue
            label = int(valence > 0) if task == "sentiment" else KINDS.index(kind)
            (held_out if is_held_out(text) else train).append(Example(text, label, kind))
    return train, held_out


def is_held_out(text: str) -> bool:
    """Whether a text is never trained on. Case and blanks do not make another text."""
    folded = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.sha256(folded.encode()).digest()[:4], "big") % _HELD_OUT == 0


def _rows(path: Path) -> list[tuple[str, float]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; SANDERLING_DATA names the folder that `sentiment` is in.")
    header, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    columns = header.split("\t")
    found = []
    for number, line in enumerate(lines, 2):
        cells = dict(zip(columns, line.split("\t"), strict=False))
        if "text" not in cells or "valence" not in cells:
            raise ValueError(f"{path}, line {number}: the columns text and valence were expected; it has {cells}.")
        found.append((cells["text"], float(cells["valence"])))
    return found
