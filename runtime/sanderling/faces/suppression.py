"""Non-maximum suppression: of boxes that overlap, the best one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Boxes that are looked at, the best first: a graph that calls everything a face must not cost more than this.
MOST_BOXES = 4096


def suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    min_score: float,
    max_overlap: float,
    most: int,
) -> tuple[NDArray[np.int64], int]:
    """Rows of `boxes` (n, 4: left, top, right, bottom) that stay, best first, and how many more would have.

    A box counts from above `min_score`, and falls where its intersection over union with a better one that stayed is
    above `max_overlap`. Of equal scores the first in order is the better one. At most `most` boxes stay; of the 4,096
    best ones, the rest are not looked at.
    """
    order = np.flatnonzero(scores > min_score)
    order = order[np.argsort(-scores[order], kind="stable")][:MOST_BOXES]
    left, top, right, bottom = boxes[order].astype(np.float64).T
    areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    beyond = 0
    for place in range(len(order)):
        if not alive[place]:
            continue
        if len(kept) < most:
            kept.append(place)
        else:
            beyond += 1
        rest = slice(place + 1, None)
        across = np.minimum(right[place], right[rest]) - np.maximum(left[place], left[rest])
        down = np.minimum(bottom[place], bottom[rest]) - np.maximum(top[place], top[rest])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        union = areas[place] + areas[rest] - shared
        alive[rest] &= shared <= max_overlap * union
    return order[kept], beyond
