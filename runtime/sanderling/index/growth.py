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


def grown(header: Header, tail: NDArray[Any], new: Growth, deleted: Sequence[int]) -> tuple[Pieces, Header]:
    """The bytes to append for the `new` rows and the rows `deleted`, and the header after that, its extents apart.

    `tail` has the vectors of the last rows, which do not fill a block of codes yet.
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
    if header.precision == "int8" and len(tail) + len(new.vectors) >= layout.BLOCK:
        from sanderling.index import codes

        # The rows that complete the block begun, then whole blocks.
        missing = layout.BLOCK - len(tail)
        for rows in (np.concatenate([tail, new.vectors[:missing]]), new.vectors[missing:]):
            encoded, scales = codes.encode(rows)
            pieces.setdefault("codes", []).append(_bytes(encoded))
            pieces.setdefault("scales", []).append(_bytes(scales))
    changed = replace(header, rows=header.rows + len(new.vectors), deleted=header.deleted + len(deleted))
    return pieces, changed


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
