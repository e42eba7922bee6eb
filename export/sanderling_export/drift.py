"""How far a variant is from the original, measured through the runtime that will answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import cores, heads
from sanderling.errors import DriftError
from sanderling.manifest import (
    ClassificationOutput,
    Component,
    Distances,
    Drift,
    EmbeddingOutput,
    Form,
    Invariance,
    Postprocessing,
    TextPreprocessing,
    WorstInput,
)
from sanderling.pairs import TextPair
from sanderling.preprocess.text import Encoded, TextEncoder
from sanderling.session import Session
from sanderling.verification import cosines
from sanderling_export.recipe import Floor

# A 1st percentile of fewer samples would be their minimum.
_PERCENTILE_SAMPLES = 100
# Inputs that are named as the farthest from the original, and characters of a text that name it.
_WORST = 5
_QUOTED = 60
_PADDINGS = (1, 16, 100)
_MATES = 8
_SEED = 20240501


def measure(
    rows: NDArray[np.float32], expected: NDArray[np.float32], *, labels: bool, names: Sequence[str] = ()
) -> Drift:
    """Drift of a variant's answers `rows` from the original's, both (samples, d); agreement where `labels`, and the
    worst inputs where there are `names` of all of them."""
    similarity = cosines(rows, expected)
    p01 = float(np.quantile(similarity, 0.01)) if len(similarity) >= _PERCENTILE_SAMPLES else None
    agreement = float((rows.argmax(axis=1) == expected.argmax(axis=1)).mean()) if labels else None
    farthest = np.argsort(similarity, kind="stable")[:_WORST] if names else ()
    return Drift(
        Distances(len(similarity), float(similarity.mean()), float(similarity.min()), p01),
        float(np.abs(rows.astype(np.float64) - expected).max(initial=0.0)),
        agreement,
        tuple(WorstInput(names[i], float(similarity[i])) for i in farthest),
    )


def name_inputs(items: Sequence[object], *, quoted: bool) -> list[str]:
    """What people call the inputs: their place, with a text's beginning if `quoted`, and an image's size in pixels.

    A user's own texts are not quoted: a bundle is handed on, and they may be nobody else's business.
    """
    found = []
    for place, item in enumerate(items, 1):
        if isinstance(item, TextPair):
            item = f"{item.text} | {item.text_pair}"
        if not isinstance(item, str):
            size = getattr(item, "size", None)
            found.append(f"image {place}" + (f" ({size[0]} x {size[1]})" if isinstance(size, tuple) else ""))
        elif quoted:
            beginning = item[:_QUOTED].encode("utf-8", "replace").decode()
            found.append(f"text {place}: {beginning}" + ("…" if len(item) > _QUOTED else ""))
        else:
            found.append(f"text {place} ({len(item):,} characters)")
    return found


def shortfalls(drift: Drift, floor: Floor) -> list[str]:
    """In words, what of `floor` the drift does not reach."""
    measured = (
        ("mean cosine", drift.cosine.mean, floor.mean_cosine),
        ("minimum cosine", drift.cosine.min, floor.min_cosine),
        ("label agreement", drift.agreement if drift.agreement is not None else 1.0, floor.agreement),
    )
    return [f"{what} {found:.4f}, floor {least:g}" for what, found, least in measured if not found >= least]


def refuse(variant: str, found: list[str], samples: int) -> DriftError:
    """The error for a variant below its floor."""
    return DriftError(
        f"The variant {variant} is too far from the original over {samples} samples: {'; '.join(found)}. Nothing was "
        "written. Leave it out with --variants, lower its floor in the recipe, or write it all the same with "
        "--keep-failing."
    )


class Probe:
    """Runs a text variant in ways of batching and padding that the runtime's own schedule would not choose."""

    def __init__(
        self, root: Path, form: Form, component: Component, text: TextPreprocessing, head: Postprocessing
    ) -> None:
        self._names = [spec.name for spec in component.inputs]
        self._head = head
        self._limit = text.max_tokens
        self._encoder = TextEncoder((root / text.tokenizer).read_bytes(), text, text.tokenizer)
        self._session = Session(root / form.graph, component, threads=cores.granted())

    def invariance(self, texts: Sequence[str | TextPair]) -> Invariance:
        """Minimum cosine of each text's answer to the same text alone, among batch mates, and with padding."""
        encoded = [e for e in self._encoder.encode(texts) if e.length]
        alone = np.concatenate([self._run([e]) for e in encoded])
        order = list(range(len(encoded)))
        random.Random(_SEED).shuffle(order)
        mixed = np.empty_like(alone)
        for start in range(0, len(order), _MATES):
            mates = order[start : start + _MATES]
            mixed[mates] = self._run([encoded[i] for i in mates])
        padding = {}
        for extra in _PADDINGS:
            fitting = [i for i, e in enumerate(encoded) if e.length + extra <= self._limit]
            if fitting:
                padded = np.concatenate([self._run([encoded[i]], extra) for i in fitting])
                padding[str(extra)] = float(cosines(padded, alone[fitting]).min())
        self._session.close()
        return Invariance(float(cosines(mixed, alone).min()), padding)

    def _run(self, batch: Sequence[Encoded], extra: int = 0) -> NDArray[np.float32]:
        length = max(e.length for e in batch) + extra
        feeds: dict[str, Any] = self._encoder.pad(batch, self._names, length)
        outputs = self._session.run(feeds)
        if isinstance(self._head, ClassificationOutput):
            return heads.classify(outputs, self._head)
        assert isinstance(self._head, EmbeddingOutput)  # a text's answer is one of the two
        return heads.embed(outputs, feeds, self._head)
