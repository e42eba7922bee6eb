"""Which inputs share a run: sorted by length and put together under a budget, so that little work goes into padding.

What a run costs depends on the form of the graph. `padded` pays for the longest text at each place, so that lengths are
rounded to what the provider likes and the product is bounded; `exact` takes one length alone; `packed` pays for each
token once. A text left over from its length runs by itself in `exact`: that takes a few percent more time than in a
full run (all-MiniLM-L6-v2, x86-64), and a second graph for leftovers would take the memory of its weights again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], budget: int, form: str = "padded", rounding: int = 1) -> Iterator[list[int]]:
    """Indices of the inputs of each run, shortest inputs first, inputs of one length in their order.

    The tokens of a run, those of padding included where the form pads, stay within `budget`; an input longer than that
    goes alone. With the form "exact" the inputs of a run have one length; with "padded" a run is as long as its longest
    input, rounded up to a multiple of `rounding`.
    """
    if len(lengths) == 1:
        yield [0]
        return
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        if form == "packed":
            fits = tokens + length <= budget
        elif form == "exact":
            fits = bool(batch) and length == lengths[batch[0]] and (len(batch) + 1) * length <= budget
        else:
            fits = (len(batch) + 1) * rounded(length, rounding) <= budget
        if batch and not fits:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += length
    if batch:
        yield batch


def rounded(length: int, multiple: int) -> int:
    """`length` rounded up to a multiple."""
    return -(-length // multiple) * multiple
