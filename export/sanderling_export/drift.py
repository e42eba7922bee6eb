"""How far a variant is from the original, measured through the runtime that will answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.errors import DriftError
from sanderling.generation.questions import PictureQuestion
from sanderling.pairs import TextPair
from sanderling.schema.variants import Distances, Drift, WorstInput
from sanderling.verification import cosines
from sanderling_export.labelled import shortfall
from sanderling_export.recipe import Floor

# A 1st percentile of fewer samples would be their minimum.
_PERCENTILE_SAMPLES = 100
# Inputs that are named as the farthest from the original, and characters of a text that name it.
_WORST = 5
_QUOTED = 60
# Up to so many logits, one number decides.
_DECIDED_BY_ONE = 2


def measure(rows: NDArray[Any], expected: NDArray[Any], *, labels: bool, names: Sequence[str] = ()) -> Drift:
    """Drift of a variant's answers `rows` from the original's, both (samples, d); agreement where `labels`, and the
    worst inputs where there are `names` of all of them."""
    similarity = cosines(rows, expected)
    p01 = float(np.quantile(similarity, 0.01)) if len(similarity) >= _PERCENTILE_SAMPLES else None
    agreement = _agreement(rows, expected) if labels else None
    farthest = np.argsort(similarity, kind="stable")[:_WORST] if names else ()
    return Drift(
        Distances(len(similarity), float(similarity.mean()), float(similarity.min()), p01),
        _farthest(rows, expected),
        agreement,
        tuple(WorstInput(names[i], float(similarity[i])) for i in farthest),
    )


def _agreement(rows: NDArray[Any], expected: NDArray[Any]) -> float:
    """The share of answers whose largest number is the original's; of answers for each frame, that of all frames."""
    if rows.dtype != object:
        return float((rows.argmax(axis=1) == expected.argmax(axis=1)).mean())
    pairs = list(zip(rows, expected, strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return 0.0
    same = sum(int((x.argmax(axis=1) == y.argmax(axis=1)).sum()) for x, y in pairs)
    return same / sum(len(x) for x, _ in pairs)


def _farthest(rows: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference of any number; infinite where two answers have other shapes."""
    if rows.dtype != object:
        return float(np.abs(rows.astype(np.float64) - expected).max(initial=0.0))
    if any(x.shape != y.shape for x, y in zip(rows, expected, strict=True)):
        return float("inf")
    return max((_farthest(x, y) for x, y in zip(rows, expected, strict=True)), default=0.0)


def name_inputs(items: Sequence[object], *, quoted: bool) -> list[str]:
    """What people call the inputs: their place, with a text's beginning if `quoted`, an image's size in pixels, and a
    sound's seconds.

    A user's own texts are not quoted: a bundle is handed on, and they may be nobody else's business.
    """
    found = []
    for place, item in enumerate(items, 1):
        if isinstance(item, TextPair):
            item = f"{item.text} | {item.text_pair}"
        question = ""
        if isinstance(item, PictureQuestion):
            question = f": {item.question[:_QUOTED]}" if quoted else ""
            item = item.image
        if not isinstance(item, str):
            if isinstance(item, Audio):
                found.append(f"sound {place} ({item.seconds:.1f} s)")
                continue
            size = getattr(item, "size", None)
            shape = f" ({size[0]} x {size[1]})" if isinstance(size, tuple) else ""
            found.append(f"image {place}{shape}{question}")
        elif quoted:
            beginning = item[:_QUOTED].encode("utf-8", "replace").decode()
            found.append(f"text {place}: {beginning}" + ("…" if len(item) > _QUOTED else ""))
        else:
            found.append(f"text {place} ({len(item):,} characters)")
    return found


def correlation(rows: NDArray[Any], expected: NDArray[Any]) -> float | None:
    """Pearson's correlation over the samples of the number that decides: the only logit, or the difference of two.

    None for answers of more numbers. Of one or two the cosine says little more than the sign, so that an input which
    the original itself is undecided about has -1 for a hair's breadth.
    """
    if rows.shape[1] > _DECIDED_BY_ONE:
        return None
    found, wanted = (
        side[:, -1].astype(np.float64) - (side[:, 0] if side.shape[1] > 1 else 0) for side in (rows, expected)
    )
    spread = float(found.std() * wanted.std())
    if spread == 0:
        return 1.0 if np.allclose(found, wanted, atol=1e-3) else 0.0
    return float(np.mean((found - found.mean()) * (wanted - wanted.mean())) / spread)


def shortfalls(drift: Drift, floor: Floor, correlated: float | None = None) -> list[str]:
    """In words, what of `floor` the drift does not reach; `correlated`, where known, stands for the cosines."""
    # Of too few samples there is no 1st percentile; their minimum is what is known of it.
    p01 = drift.cosine.p01 if drift.cosine.p01 is not None else drift.cosine.min
    cosines_of_many = (
        ("mean cosine", drift.cosine.mean, floor.mean_cosine),
        ("1st percentile of cosine", p01, floor.min_p01),
        ("minimum cosine", drift.cosine.min, floor.min_cosine),
    )
    of_one = (("correlation of the answers", correlated if correlated is not None else 1.0, floor.mean_cosine),)
    measured = (
        *(cosines_of_many if correlated is None else of_one),
        ("label agreement", drift.agreement if drift.agreement is not None else 1.0, floor.agreement),
    )
    short = [f"{what} {found:.4f}, floor {least:g}" for what, found, least in measured if not found >= least]
    return short + [
        words for name, metric in drift.metrics.items() for words in shortfall(name, metric, floor.max_metric_loss)
    ]


def refuse(variant: str, found: list[str], samples: int) -> DriftError:
    """The error for a variant below its floor."""
    return DriftError(
        f"The variant {variant} is too far from the original over {samples} samples: {'; '.join(found)}. Nothing was "
        "written. Leave it out with --variants, lower its floor in the recipe, or write it all the same with "
        "--keep-failing."
    )
