"""What callers hand over: vectors that know their space, arrays with the space beside them, ids and metadata."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import InputError, SpaceError
from sanderling.index import layout, words
from sanderling.results import Embedding, Embeddings
from sanderling.spaces import floats

# Answers of an embedding model, or an array of the shape (d,) or (n, d) whose space is said beside it.
Vectors: TypeAlias = Embedding | Embeddings | Sequence[Embedding] | NDArray[Any]
Metadata: TypeAlias = Mapping[str, Any]

_ROWS_AT_ONCE = 65536


class Incoming(Struct, frozen=True, eq=False):
    """Unit vectors, (n, d), float32 (zeros where the length is 0); whether one was handed over, not a list; and the
    lowest stated cosine of each variant they are of."""

    rows: NDArray[np.float32]
    single: bool
    variants: dict[str, float | None]


def vectors(given: Vectors, space: str | None, expected: str, dimension: int) -> Incoming:
    """What was handed over, as rows for an index of the space `expected`.

    Raises SpaceError for another space, InputError for what is no vector or has another length.
    """
    parts, array = _parts(given), None
    if parts is None:
        array = _array(given)
        if space is None:
            raise InputError(
                "An array does not know its embedding space. Hand over what the model answered, or say it: "
                "space=model.space."
            )
    for found in (space or expected, *(part.space for part in parts or ())):
        check_space(found, expected)
    if array is None:
        array = floats(parts) if parts else np.empty((0, dimension), np.float32)
    if array.shape[-1] != dimension:
        raise InputError(f"The vectors have {array.shape[-1]} numbers; those of this index have {dimension}.")
    single = isinstance(given, Embedding) or array.ndim == 1
    variants = {part.variant: part.drift for part in parts or ()}
    return Incoming(directions(array.reshape(-1, dimension)), single, variants)


def check_space(found: str, expected: str) -> None:
    """Raise SpaceError if vectors of the space `found` are for an index of the space `expected`."""
    if found != expected:
        raise SpaceError(
            f"The vectors are of the embedding space {found[:16]}, the index of {expected[:16]}; cosines between them "
            "mean nothing. Embed with the model that the index was made with, or make a new index."
        )


def directions(array: NDArray[Any]) -> NDArray[np.float32]:
    """The vectors divided by their lengths, which are taken in float64; of zeros where the length is 0."""
    found = np.empty(array.shape, np.float32)
    for first in range(0, len(array), _ROWS_AT_ONCE):
        part = array[first : first + _ROWS_AT_ONCE].astype(np.float64)
        # By the largest number first: its square is neither lost nor infinite.
        largest = np.abs(part).max(axis=1, keepdims=True, initial=0)
        if not np.isfinite(largest).all():
            row = first + int(np.flatnonzero(~np.isfinite(largest[:, 0]))[0])
            raise InputError(f"Vector {row} has numbers that are not finite; embed its input again.")
        part /= np.where(largest > 0, largest, 1)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        found[first : first + _ROWS_AT_ONCE] = part / np.where(lengths > 0, lengths, 1)
    return found


def identifiers(given: Iterable[str] | str) -> tuple[list[str], bool]:
    """The ids as a list, and whether one was given. Raises InputError: none that is a text, too long, given twice."""
    single = isinstance(given, str)
    found = [given] if isinstance(given, str) else list(given)
    for identifier in found:
        if not isinstance(identifier, str):
            raise InputError(f"An id is of type {type(identifier).__name__}; a text was expected.")
        if not 0 < len(_utf8(identifier)) <= layout.MAX_ID_BYTES:
            raise InputError(
                f"The id {identifier[:40]!r} has {len(_utf8(identifier)):,} bytes; 1 to {layout.MAX_ID_BYTES:,} were "
                "expected."
            )
    if len(set(found)) < len(found):
        twice = next(identifier for number, identifier in enumerate(found) if identifier in found[:number])
        raise InputError(f"The id {twice[:80]!r} is given twice; each names one item.")
    return found, single


def items(
    ids: Sequence[str], metadata: Sequence[Metadata | None] | Metadata | None, single: bool
) -> tuple[bytes, NDArray[Any]]:
    """The bytes of the file `items`, and a table of them whose offsets begin at 0. Raises InputError."""
    if metadata is None or isinstance(metadata, Mapping):
        if isinstance(metadata, Mapping) and not single:
            raise InputError(
                "metadata is one mapping, but several ids were given; one for each, in a list, was expected."
            )
        described: Sequence[Metadata | None] = [metadata] * len(ids)
    else:
        described = metadata
    if len(described) != len(ids):
        raise InputError(f"There are {len(ids)} ids and metadata of {len(described)}; one for each was expected.")
    table = np.zeros(len(ids), layout.ROW)
    data = bytearray()
    for row, (identifier, about) in enumerate(zip(ids, described, strict=True)):
        name, rest = _utf8(identifier), _json(identifier, about)
        table[row] = (len(data), len(name), len(rest), zlib.crc32(rest, zlib.crc32(name)), 0)
        data += name + rest
    return bytes(data), table


def terms(texts: Sequence[str | None] | str | None, table: NDArray[Any], single: bool) -> NDArray[np.uint32]:
    """The terms of the items' texts, one item after the other; how many each has is written to `table`.

    Raises InputError for what are no texts.
    """
    given: Sequence[str | None] = [None] * len(table) if texts is None else [texts] if isinstance(texts, str) else texts
    if isinstance(texts, str) and not single:
        raise InputError("texts is one text, but several ids were given; one for each, in a list, was expected.")
    if not isinstance(given, Sequence) or len(given) != len(table):
        raise InputError(f"There are {len(table)} ids, and texts of another number; one for each was expected.")
    found = []
    for row, text in enumerate(given):
        if text is not None and not isinstance(text, str):
            raise InputError(f"Text {row} is of type {type(text).__name__}; a text (str) or None was expected.")
        found.append(words.terms(text or ""))
        table["terms"][row] = len(found[-1])
    return np.concatenate(found) if found else np.empty(0, layout.TERM)


def queries(given: Sequence[str] | str, asked: Incoming) -> list[str]:
    """The queries' texts, one for each vector. Raises InputError."""
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise InputError(
            f"words is of type {type(given).__name__}; the query as a text (str), or a list, was expected."
        )
    if isinstance(given, str) != asked.single or len(found) != len(asked.rows):
        what = "one text" if isinstance(given, str) else f"a list of {len(found)}"
        expected = "the text of the one query" if asked.single else f"a list of {len(asked.rows)}, one for each vector,"
        raise InputError(f"words is {what}; {expected} was expected.")
    return list(found)


def plain_json(about: Metadata | None) -> dict[str, Any]:
    """What an application says of its index, as JSON gives it back. Raises InputError."""
    found = _json("index", about)
    return msgspec.json.decode(found, type=dict[str, Any]) if found else {}


def _json(identifier: str, metadata: Metadata | None) -> bytes:
    if not metadata:
        return b""
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"it is of type {type(metadata).__name__}")
        found = msgspec.json.encode(dict(metadata), enc_hook=_refused)
        if msgspec.json.decode(found, type=dict[str, Any]) != metadata:
            raise TypeError("numbers that are not finite, sets and the like would be changed")
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InputError(
            f"The metadata of {identifier[:80]!r} cannot be kept: {error}. A mapping of names to texts, numbers, "
            "true, false, null, lists and mappings was expected."
        ) from error
    if len(found) > layout.MAX_METADATA_BYTES:
        raise InputError(
            f"The metadata of {identifier[:80]!r} has {len(found):,} bytes; at most {layout.MAX_METADATA_BYTES:,} are "
            "kept. Keep what is long elsewhere, and its name here."
        )
    return found


def _refused(value: object) -> object:
    raise TypeError(f"a value is of type {type(value).__name__}")


def _utf8(identifier: str) -> bytes:
    try:
        return identifier.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"The id {identifier[:40]!r} has a lone surrogate; valid Unicode was expected.") from error


def _parts(given: object) -> Sequence[Embedding | Embeddings] | None:
    """The answers of a model, or None for what is none: an array, perhaps."""
    if isinstance(given, Embedding | Embeddings):
        return [given]
    if isinstance(given, list | tuple) and all(isinstance(part, Embedding) for part in given):
        return given
    return None


def _array(given: object) -> NDArray[Any]:
    if not isinstance(given, np.ndarray) or given.ndim not in (1, 2) or given.dtype.kind not in "fiu":
        what = (
            f"an array of {given.dtype} and rank {given.ndim}"
            if isinstance(given, np.ndarray)
            else type(given).__name__
        )
        raise InputError(
            f"The vectors are {what}; answers of an embedding model were expected, or an array of numbers of the shape "
            "(d,) or (n, d)."
        )
    return given
