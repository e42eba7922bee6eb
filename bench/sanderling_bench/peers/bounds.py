"""What must hold against the peers, computed from a contest: ratios with their 95% bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sanderling_bench.peers.record import Contest, Result
from sanderling_bench.statistics import RESAMPLES, SEED, Ratio, median, percentile, ratio_of_medians

SANDERLING = "Sanderling"
FASTEMBED = "fastembed, as it comes"
TORCH = "torch, its original preprocessing"
RAW_IMAGES = "ONNX Runtime by hand, fp32"
MIN_COSINE = 0.99
# A quantile of pooled calls is costlier than a median of rounds.
_CALL_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Bound:
    """`held` is whether the interval's end that matters reaches the limit; None where nothing could be measured."""

    what: str
    limit: str
    value: float | None
    low: float | None
    high: float | None
    held: bool | None
    note: str = ""


def bounds(contest: Contest) -> list[Bound]:
    """Every bound, in the order in which they are stated."""
    texts = {result.name: result for result in contest.of("text") if not result.unavailable}
    images = {result.name: result for result in contest.of("image") if not result.unavailable}
    ours, theirs = texts.get(SANDERLING), [r for r in texts.values() if r.name != SANDERLING]
    pictures = images.get(SANDERLING)
    found = []
    best = min((r for r in theirs if len(r.rounds) > 1), key=lambda r: median(r.rounds), default=None)
    found.append(_faster("MiniLM, texts a second, of the best peer's", ours, best, 1.6))
    lowest = min(ours.cosines) if ours is not None and ours.cosines else None
    found.append(
        Bound(
            "MiniLM, lowest cosine to the original",
            f">= {MIN_COSINE}",
            lowest,
            None,
            None,
            None if lowest is None else lowest >= MIN_COSINE,
        )
    )
    found.append(_faster("MiniLM, texts a second, of fastembed's as it comes", ours, texts.get(FASTEMBED), 5.0))
    quick = min((r for r in theirs if len(r.blocks) > 1), key=lambda r: median(_calls(r)), default=None)
    found.append(_quicker("MiniLM, one text: p50 of the best peer's", ours, quick, 0.5, 0.85))
    found.append(_quicker("MiniLM, one text: p99 of the same peer's", ours, quick, 0.99, 1.05))
    found.append(_faster("EfficientNet-Lite0, images a second, of torch's", pictures, images.get(TORCH), 6.0))
    raw = images.get(RAW_IMAGES)
    found.append(_faster("EfficientNet-Lite0, images a second, of ONNX Runtime's by hand", pictures, raw, 1.4))
    return found


def speedup(ours: Result, peer: Result) -> Ratio:
    """The peer's median seconds over ours, over the rounds that both took part in: above 1 we are faster."""
    common = min(len(ours.rounds), len(peer.rounds))
    return ratio_of_medians(peer.rounds[:common], ours.rounds[:common])


def call_ratio(ours: Result, peer: Result, quantile: float) -> Ratio | None:
    """Our quantile of single calls over the peer's; None where there are too few calls for it (see `percentile`).

    The interval is the percentile bootstrap over the blocks (Efron 1979): a block is drawn with all its calls of both
    sides, so that what slowed one block slows both.
    """
    common = min(len(ours.blocks), len(peer.blocks))
    above, below = (np.array(result.blocks[:common]) for result in (ours, peer))
    first, second = (percentile(side.ravel().tolist(), quantile) for side in (above, below))
    if first is None or second is None:
        return None
    draws = np.random.default_rng(SEED).integers(0, common, size=(min(RESAMPLES, _CALL_RESAMPLES), common))
    ratios = _quantiles(above[draws], quantile) / _quantiles(below[draws], quantile)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Ratio(first / second, float(low), float(high), common)


def _quantiles(drawn: NDArray[np.float64], quantile: float) -> NDArray[np.float64]:
    """Of each draw (draws, blocks, calls) the nearest-rank quantile of all its calls, as in `percentile`."""
    pooled = drawn.reshape(len(drawn), -1)
    rank = math.ceil(quantile * pooled.shape[1] - 1e-9) - 1
    found: NDArray[np.float64] = np.partition(pooled, rank, axis=1)[:, rank]
    return found


def _faster(what: str, ours: Result | None, peer: Result | None, limit: float) -> Bound:
    if ours is None or peer is None:
        return _missing(what, f">= {limit:g}", peer)
    ratio = speedup(ours, peer)
    return Bound(what, f">= {limit:g}", ratio.value, ratio.low, ratio.high, ratio.low >= limit, peer.name)


def _quicker(what: str, ours: Result | None, peer: Result | None, quantile: float, limit: float) -> Bound:
    ratio = None if ours is None or peer is None else call_ratio(ours, peer, quantile)
    if ratio is None or peer is None:
        return _missing(what, f"<= {limit:g}", peer)
    return Bound(what, f"<= {limit:g}", ratio.value, ratio.low, ratio.high, ratio.high <= limit, peer.name)


def _missing(what: str, limit: str, peer: Result | None) -> Bound:
    return Bound(what, limit, None, None, None, None, peer.name if peer else "no such peer ran")


def _calls(result: Result) -> list[float]:
    return [seconds for block in result.blocks for seconds in block]
