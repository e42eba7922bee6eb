"""Parquet in and out: a column of texts to vectors, part by part, each of which is written whole or not at all.

A part is some successive rows of one file, and becomes one file. It says in its footer what it was made from and how,
so that a part that is done is known again by its content, wherever a run was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import storage
from sanderling.errors import InputError, MissingExtraError, SpaceError, StorageError
from sanderling.precisions import Precision
from sanderling.results import Embeddings, TextReport
from sanderling.tasks.feature_extraction import EmbeddingModel

try:
    import pyarrow as pa
    import pyarrow.ipc as ipc
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtraError("Embedding Parquet files", "ray", "pyarrow") from error

# The columns that are added; `scale` with int8 vectors alone.
VECTOR, SCALE, TOKENS_LOST, UNREAD = "vector", "scale", "tokens_lost", "characters_unread"

_FOOTER = b"sanderling"
_VERSION = 1
_ROWS_AT_ONCE = 65536
# Processes that may end while they make a part, before it is given up.
_TRIES = 3


class How(Struct, frozen=True):
    """How texts become vectors: of which column, with which prompt, in which precision."""

    column: str
    prompt: str | None = None
    precision: Precision = "float32"


class Part(Struct, frozen=True):
    """`rows` rows of the file `source`, from the row `first` on (from 0), and the file that they become.

    `origin` is the file or folder that was to be embedded.
    """

    source: str
    first: int
    rows: int
    target: str
    origin: str


class Made(Struct, frozen=True):
    """What a part says of itself. `key` is a SHA-256 over its content and all that its vectors depend on.

    `empty` counts rows without a text, which have no vector; `truncated` texts that the model did not see in full.
    """

    key: str
    origin: str
    space: str
    bundle: str
    variant: str
    precision: str
    prompt: str | None
    column: str
    empty: int
    truncated: int


def parts(source: Path, target: Path, column: str, rows: int) -> list[Part]:
    """The files of `source`, one or a folder of them, in parts of at most `rows` rows.

    Raises InputError: no Parquet file, one that cannot be read, without that column or with one that is to be added.
    """
    found = []
    for path, name in _files(source, target):
        with _opened(path) as file:
            _check_schema(file.schema_arrow, column, path)
            count = file.metadata.num_rows
        for first in range(0, count, rows):
            made = target / name.with_name(f"{name.stem}-{first:010}.parquet")
            found.append(Part(str(path), first, min(rows, count - first), str(made), str(source.resolve())))
    return found


def standing(target: Path) -> dict[Path, Made]:
    """The parts that are done in a folder, by their files; files that are no parts are left out."""
    found = {path: made(path) for path in sorted(target.rglob("*.parquet")) if path.is_file()}
    return {path: of for path, of in found.items() if of is not None}


def made(path: Path) -> Made | None:
    """What a part says of itself; None where there is none, or no whole one."""
    try:
        with pq.ParquetFile(path) as file:
            said = (file.schema_arrow.metadata or {}).get(_FOOTER)
    except (pa.ArrowException, OSError):
        return None
    try:
        return msgspec.json.decode(said, type=Made) if said is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def check(parts: dict[Path, Made], space: str, origin: Path, target: Path) -> None:
    """Raises SpaceError where a folder has vectors of another space, InputError where it has those of other texts."""
    for path, of in parts.items():
        if of.space != space:
            raise SpaceError(
                f"{target} has vectors of the embedding space {of.space[:16]} ({path.name}), the bundle makes those of "
                f"{space[:16]}; cosines between them mean nothing. Choose another folder, or remove this one."
            )
        if of.origin != str(origin.resolve()):
            raise InputError(
                f"{target} has the vectors of {of.origin}, not of {origin.resolve()}. Choose another folder."
            )


def carry_out(part: Part, model: EmbeddingModel, how: How) -> tuple[Made, bool]:
    """Make one part, unless it stands as it would be made; what it says of itself, and whether it stood.

    Raises InputError for rows that cannot be embedded, StorageError where it could not be written.
    """
    table = _rows(part)
    target = Path(part.target)
    key = _key(table, model, how)
    before = made(target)
    if before is not None and before.key == key:
        return before, True
    result = embedded(table, model, how)
    texts, lost, unread = (result.column(name) for name in (how.column, TOKENS_LOST, UNREAD))
    cut = sum((a or 0) + (b or 0) > 0 for a, b in zip(lost.to_pylist(), unread.to_pylist(), strict=True))
    said = Made(
        key,
        part.origin,
        model.space,
        model.bundle.digest,
        model.variant,
        how.precision,
        how.prompt,
        how.column,
        texts.null_count,
        cut,
    )
    footer = {**(table.schema.metadata or {}), _FOOTER: msgspec.json.encode(said)}
    sink = pa.BufferOutputStream()
    # Numbers of vectors hardly repeat: a dictionary of them takes time and room.
    pq.write_table(
        result.replace_schema_metadata(footer), sink, use_dictionary=table.column_names, write_page_checksum=True
    )
    storage.write_atomic(target, sink.getvalue().to_pybytes())
    return said, False


@contextmanager
def taken(part: Part) -> Iterator[None]:
    """Leaves a note beside the part's file while it is made, which only a process that was ended leaves behind.

    Raises InputError where every process that took it was ended: it would do so for ever. Raises StorageError.
    """
    target = Path(part.target)
    for number in range(_TRIES):
        note = target.with_name(f".{target.name}.{number}.taken")
        try:
            note.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"Could not write {note}: {error.strerror or error}. Free some space.") from error
        break
    else:
        raise InputError(
            f"{_TRIES} workers ended while they made it, perhaps for want of memory. Take fewer rows a part."
        )
    try:
        yield
    finally:
        with suppress(OSError):
            for earlier in range(number + 1):
                target.with_name(f".{target.name}.{earlier}.taken").unlink(missing_ok=True)


def embedded(table: pa.Table, model: EmbeddingModel, how: How) -> pa.Table:
    """The rows with their vectors as lists of fixed size, and the tokens and characters that the model did not see.

    A row without a text (null) has neither. Raises InputError for a column that is missing or has no texts.
    """
    _check_schema(table.schema, how.column, None)
    try:
        texts = table.column(how.column).to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"The column {how.column!r} has a text that is no valid UTF-8: {error}.") from error
    there = np.array([text is not None for text in texts], bool)
    answers = model([text for text in texts if text is not None], prompt=how.prompt, precision=how.precision)
    assert isinstance(answers, Embeddings)  # a list was handed over
    rows = np.zeros((len(texts), answers.embeddings.shape[1]), answers.embeddings.dtype)
    rows[there] = answers.embeddings
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1], mask=pa.array(~there))
    result = table.append_column(VECTOR, vectors)
    if answers.scales is not None:
        result = result.append_column(SCALE, _numbers(answers.scales, there, np.float32))
    reports = [report for report in answers.reports if isinstance(report, TextReport)]
    lost = _numbers([report.tokens_lost for report in reports], there, np.int32)
    unread = _numbers([report.characters_unread for report in reports], there, np.int64)
    return result.append_column(TOKENS_LOST, lost).append_column(UNREAD, unread)


def sweep(target: Path) -> None:
    """Remove what writers that were killed left half written."""
    for kind in ("partial", "taken"):
        for path in target.rglob(f".*.parquet.*.{kind}"):
            path.unlink(missing_ok=True)


def _numbers(values: Sequence[float] | NDArray[Any], there: NDArray[np.bool_], dtype: type[np.generic]) -> pa.Array:
    found = np.zeros(len(there), dtype)
    found[there] = values
    return pa.array(found, mask=~there)


def _files(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Each file to read, with its path below the source."""
    if source.is_file():
        yield source.resolve(), Path(source.name)
        return
    if not source.is_dir():
        raise InputError(f"{source} is neither a file nor a folder; a Parquet file, or a folder of them, was expected.")
    root = source.resolve()
    if target.resolve().is_relative_to(root):
        raise InputError(f"{target} is inside {source}, and would be read as well; choose a folder beside it.")
    names = [path.relative_to(root) for path in sorted(root.rglob("*.parquet")) if path.is_file()]
    # Hidden files and those that begin with _ are other programs' notes, by an old convention.
    names = [name for name in names if not any(piece.startswith((".", "_")) for piece in name.parts)]
    if not names:
        raise InputError(f"There is no Parquet file in {source}; nothing was made. Give the folder that holds them.")
    yield from ((root / name, name) for name in names)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}. Put a whole copy there."[:500]) from error


def _check_schema(schema: pa.Schema, column: str, path: Path | None) -> None:
    where = "The data" if path is None else str(path)
    if column not in schema.names:
        raise InputError(f"{where} has no column {column!r}; it has {', '.join(schema.names)[:200]}.")
    kind = schema.field(column).type
    of = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of)):
        raise InputError(f"{where}: the column {column!r} is of the type {kind}; texts (string) were expected.")
    taken = next((name for name in (VECTOR, SCALE, TOKENS_LOST, UNREAD) if name in schema.names), None)
    if taken is not None:
        raise InputError(f"{where} has a column {taken!r} already, which is to be added; rename it.")


def _rows(part: Part) -> pa.Table:
    """The rows of a part, all columns. Raises InputError where the file cannot be read or has become another."""
    found: list[pa.RecordBatch] = []
    with _opened(Path(part.source)) as file:
        last, begin = part.first + part.rows, 0
        groups, skipped = [], 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if end <= part.first:
                skipped = end
            elif begin < last:
                groups.append(group)
            begin = end
        try:
            at = skipped
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=groups):
                first = max(part.first - at, 0)
                found.append(batch.slice(first, max(0, min(batch.num_rows, last - at) - first)))
                at += batch.num_rows
                if at >= last:
                    break
            table = pa.Table.from_batches(found, file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{part.source} cannot be read: {error}. Put a whole copy there."[:500]) from error
    if table.num_rows != part.rows:
        raise InputError(f"{part.source} has become shorter while it was read; run it again.")
    return table.combine_chunks()


def _key(table: pa.Table, model: EmbeddingModel, how: How) -> str:
    """SHA-256 over the rows, every column of them, and over all that the vectors depend on."""
    sink = pa.BufferOutputStream()
    plain = table.replace_schema_metadata(None)
    with ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain)
    digest = hashlib.sha256(sink.getvalue())
    depends = (_VERSION, model.bundle.digest, model.space, model.variant, how)
    digest.update(msgspec.json.encode(depends))
    return digest.hexdigest()
