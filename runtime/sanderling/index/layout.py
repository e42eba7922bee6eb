"""What an index is on disk: a header that is replaced whole, and files of one generation that only grow.

`index.json` states how many bytes of each file count; what lies beyond them was never acknowledged and is no part of
the index. So a crash at any point leaves the old header or the new one, and both are true.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import SearchIndexError

FORMAT = "sanderling-index"
VERSION = 1
HEADER = "index.json"
LOCK = ".lock"

# float32, float16: the vectors as they are searched. int8: codes that are searched, beside float32 to score exactly.
Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

# Codes are kept transposed, (axes, 4096) a block, as the integer product reads them: in order, each once. A block of
# fewer rows made twice as many calls for the same bytes, one of more did not keep the sums in the cache.
BLOCK = 4096

MAX_ID_BYTES = 4096
MAX_METADATA_BYTES = 2**20
_MAX_HEADER_BYTES = 2**24
MAX_DIMENSION = 2**16

# One item's bytes in `items`: its id in UTF-8, then its metadata as JSON; their checksum. How many of `terms` are its.
ROW = np.dtype([("offset", "<u8"), ("id_size", "<u4"), ("metadata_size", "<u4"), ("crc32", "<u4"), ("terms", "<u4")])

# A word of an item's text, as `words.terms` makes it.
TERM = np.dtype("<u4")

FILES = ("vectors", "rows", "items", "deleted", "axes", "codes", "scales", "terms")


class Extent(Struct, frozen=True, forbid_unknown_fields=False):
    """How many bytes of a file count, and their checksum (CRC-32)."""

    bytes: int = 0
    crc32: int = 0

    def grown(self, data: memoryview) -> Extent:
        """The extent after `data` was appended."""
        return Extent(self.bytes + data.nbytes, zlib.crc32(data, self.crc32))


class GraphFile(Struct, frozen=True):
    """The graph for approximate search: of how many of the first rows it is, its size, and its checksum."""

    rows: int
    bytes: int
    crc32: int


class Header(Struct, frozen=True):
    """`index.json`. `variants` has each variant whose vectors are in it, with its stated lowest cosine; `axes` is how
    many axes the codes are of, 0 where they are of the numbers as they are."""

    format: str
    version: int
    space: str
    dimension: int
    precision: Precision
    generation: int = 0
    rows: int = 0
    deleted: int = 0
    axes: int = 0
    files: dict[str, Extent] = {}
    variants: dict[str, float | None] = {}
    about: dict[str, Any] = {}
    graph: GraphFile | None = None

    def extent(self, name: str) -> Extent:
        return self.files.get(name, Extent())

    @property
    def coded(self) -> int:
        """Numbers of a row's code."""
        return self.axes or self.dimension


class _Sealed(Struct, frozen=True):
    """The header with the checksum of its bytes, so that a damaged one is known."""

    crc32: int
    index: msgspec.Raw


class _Version(Struct, frozen=True):
    format: str = ""
    version: int = 0


def data_path(folder: Path, name: str, generation: int) -> Path:
    """Where a file of a generation lies; a generation is what `compact` writes anew."""
    return folder / f"{name}-{generation}.bin"


def graph_path(folder: Path, generation: int, rows: int) -> Path:
    """Where the graph of the first `rows` rows of a generation lies."""
    return folder / f"graph{rows}-{generation}.bin"


def vector_dtype(precision: Precision) -> np.dtype[Any]:
    """Of the file `vectors`."""
    return np.dtype("<f2" if precision == "float16" else "<f4")


def encode(header: Header) -> bytes:
    """The bytes of `index.json`."""
    body = msgspec.json.encode(header)
    return msgspec.json.encode(_Sealed(zlib.crc32(body), msgspec.Raw(body)))


def read_header(folder: Path) -> Header:
    """The header of the index at `folder`.

    Raises SearchIndexError: none there, damaged, written by a newer Sanderling, or contradicting itself.
    """
    path = folder / HEADER
    try:
        if path.stat().st_size > _MAX_HEADER_BYTES:
            raise SearchIndexError(f"{path} has more than {_MAX_HEADER_BYTES:,} bytes: it is no index.")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SearchIndexError(
            f"{folder} is no index: there is no {HEADER} in it. Make one with `sanderling index` or Index.create."
        ) from None
    except OSError as error:
        raise SearchIndexError(f"{path} cannot be read: {error.strerror or error}. Check the rights.") from error
    header = _decode(raw, path)
    _check(header, path)
    return header


def _decode(raw: bytes, path: Path) -> Header:
    damaged = SearchIndexError(
        f"{path} is damaged or cut short. Put a copy of the index back, or make it again; its other files are whole "
        "unless they were damaged too."
    )
    try:
        sealed = msgspec.json.decode(raw, type=_Sealed)
        if zlib.crc32(sealed.index) != sealed.crc32:
            raise damaged
        stated = msgspec.json.decode(sealed.index, type=_Version)
        if stated.format != FORMAT:
            raise SearchIndexError(f"{path} is of the format {stated.format[:80]!r}; {FORMAT!r} was expected.")
        if stated.version != VERSION:
            raise SearchIndexError(
                f"{path} is of version {stated.version}; this Sanderling reads version {VERSION}. "
                "Update Sanderling, or make the index again; it was left as it is."
            )
        return msgspec.json.decode(sealed.index, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged from error


def _check(header: Header, path: Path) -> None:
    """That the sizes follow from the counts. Raises SearchIndexError."""
    blocks = header.rows // BLOCK if header.precision == "int8" else 0
    expected = {
        "vectors": header.rows * header.dimension * vector_dtype(header.precision).itemsize,
        "rows": header.rows * ROW.itemsize,
        "deleted": header.deleted * 8,
        "axes": header.dimension * header.axes * 4,
        "codes": blocks * BLOCK * header.coded,
        "scales": blocks * BLOCK * 8,
    }
    sound = (
        0 < header.dimension <= MAX_DIMENSION
        and 0 <= header.deleted <= header.rows
        and 0 <= header.axes <= header.dimension
        and header.generation >= 0
        and all(header.extent(name).bytes == size for name, size in expected.items())
        and header.extent("items").bytes >= 0
        and header.extent("terms").bytes >= 0
        and header.extent("terms").bytes % TERM.itemsize == 0
        and (header.graph is None or 0 <= header.graph.rows <= header.rows)
    )
    if not sound:
        raise SearchIndexError(f"{path} contradicts itself: its sizes do not follow from its counts. Make it again.")


def codes_shape(header: Header) -> tuple[int, int, int]:
    """(blocks, axes, rows a block) of the file `codes`."""
    return (header.extent("codes").bytes // (BLOCK * header.coded), header.coded, BLOCK)


def alive(rows: int, deleted: NDArray[np.uint64]) -> NDArray[np.bool_] | None:
    """Which rows are not deleted, (rows,); None where all are."""
    if not len(deleted):
        return None
    found = np.ones(rows, bool)
    found[deleted] = False
    return found
