"""Which inputs share a run: sorted by length and packed under a budget, so that little work goes into padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of the inputs of each run, shortest inputs first.

    A batch times its longest length stays within `budget`; an input longer than that goes alone.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
