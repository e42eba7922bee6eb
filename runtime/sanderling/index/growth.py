"""What a change appends to each file of an index, and the header that makes it count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.index import layout
from sanderling.index.journal import Pieces
from sanderling.index.layout import Header


class Growth(Struct, frozen=True, eq=False):
    """New rows: their unit vectors, (n, d), float32; the bytes of their items, the terms of their texts, and the table
    of both from offset 0."""

    vectors: NDArray[np.float32]
    items: bytes
    terms: NDArray[np.uint32]
    table: NDArray[Any]


def none(header: Header) -> Growth:
    """No new rows."""
    return Growth(np.empty((0, header.dimension), np.float32), b"", np.empty(0, layout.TERM), np.zeros(0, layout.ROW))


def axes(header: Header, vectors: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """The axes for the codes of these rows; None where there are to be none, or too few rows for a block."""
    if header.precision != "int8" or len(rows) < layout.BLOCK:
        return None
    from sanderling.index import codes

    return codes.axes(codes.sample(vectors, rows))


def grown(
    header: Header, tail: NDArray[Any], new: Growth, deleted: Sequence[int], given: NDArray[np.float32] | None
) -> tuple[Pieces, Header]:
    """The bytes to append for the `new` rows and the rows `deleted`, and the header after that, its extents apart.

    `tail` has the vectors of the last rows, which do not fill a block of codes yet. `given` are the axes of the codes;
    None where the first block shall say.
    """
    table = new.table.copy()
    table["offset"] += header.extent("items").bytes
    pieces: dict[str, list[memoryview]] = {
        "vectors": [_bytes(new.vectors.astype(layout.vector_dtype(header.precision), copy=False))],
        "rows": [_bytes(table)],
        "items": [memoryview(new.items)],
        "terms": [_bytes(new.terms.astype(layout.TERM, copy=False))],
        "deleted": [_bytes(np.asarray(deleted, "<u8"))],
    }
    changed = replace(header, rows=header.rows + len(new.vectors), deleted=header.deleted + len(deleted))
    if header.precision == "int8" and len(tail) + len(new.vectors) >= layout.BLOCK:
        from sanderling.index import codes

        if given is None:
            some = np.concatenate([tail, new.vectors])
            given = codes.axes(codes.sample(some, np.arange(len(some))))
        if not header.extent("codes").bytes:
            pieces["axes"] = [_bytes(given)]
            changed = replace(changed, axes=given.shape[1])
        # The rows that complete the block begun, then whole blocks.
        missing = layout.BLOCK - len(tail)
        for rows in (np.concatenate([tail, new.vectors[:missing]]), new.vectors[missing:]):
            encoded, scales = codes.encode(rows @ given if given.shape[1] else rows)
            pieces.setdefault("codes", []).append(_bytes(encoded))
            pieces.setdefault("scales", []).append(_bytes(scales))
    return pieces, changed


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
