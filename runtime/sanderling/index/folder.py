"""An index of a folder's files: what changed is read, cut into pieces and embedded; the rest stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sanderling.errors import InputError, SanderlingError
from sanderling.fronts import TextFront
from sanderling.index import incoming, layout, reading
from sanderling.index.chunks import chunks
from sanderling.index.index import Index
from sanderling.prompts import prompt_for

if TYPE_CHECKING:
    from sanderling.tasks.feature_extraction import EmbeddingModel

# Pieces that are embedded and acknowledged together: seconds of work, which is all that an interruption costs.
_PIECES_AT_ONCE = 128
# Before each piece stands the name of its file, of so many characters at most: it often says what the text is about.
_NAME = 100
_LEAST_TOKENS = 16


class Source(Struct, frozen=True):
    """A file to index: its path below the folder with slashes, what it is, its size and time of change (ns)."""

    path: str
    kind: reading.Kind
    size: int
    modified: int


class Progress(Struct, frozen=True):
    """How far the indexing is: `done` and `total` bytes of the files that changed, and the `pieces` embedded."""

    done: int
    total: int
    pieces: int


class Report(Struct):
    """What became of a folder's files: how many were embedded, were as before, were gone; and those not read, with the
    reason. `other` counts files that are nothing the model takes: links, images for a text model, programs; `empty`
    those that hold no text."""

    embedded: int = 0
    unchanged: int = 0
    gone: int = 0
    other: int = 0
    empty: int = 0
    pieces: int = 0
    failed: dict[str, str] = {}


class Known(Struct):
    """What the index has of one file."""

    ids: list[str]
    size: int = -1
    modified: int = -1
    sha256: str = ""


def scan(folder: Path, report: Report) -> list[Source]:
    """All regular files below `folder`, in order; hidden ones and links are passed over, so that none leads in a loop.

    Raises InputError where the folder itself is none or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; the folder of the files to index was expected.")

    def unreadable(error: OSError) -> None:
        report.failed[str(error.filename)] = f"This folder cannot be read: {error.strerror or error}."

    found = []
    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_index(Path(parent, name)))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_symlink() or not path.is_file():
                report.other += 1
                continue
            relative = path.relative_to(folder).as_posix()
            try:
                relative.encode("utf-8")
                status = path.stat()
            except (UnicodeEncodeError, OSError) as error:
                report.failed[relative.encode("utf-8", "replace").decode()] = (
                    f"This file cannot be named or read: {error}"
                )
                continue
            found.append(Source(relative, reading.kind(path), status.st_size, status.st_mtime_ns))
    return found


def update(
    index: Index, folder: Path, model: EmbeddingModel, report: Report, tokens: int, overlap: int
) -> Iterator[Progress]:
    """Bring `index` up to date with the files of `folder`; after each step what was done is on the disk.

    A text gives a piece of at most `tokens` tokens, or several that share `overlap`; an image or a sound one item.
    `report` is filled on the way. Raises InputError where there is nothing to index at all; the index then stays as it
    is.
    """
    incoming.check_space(model.space, index.space)
    sources = scan(folder, report)
    takes = {"text": ("text", "html", "pdf"), "image": ("image",), "audio": ("audio",)}[model.modality]
    suitable = [source for source in sources if source.kind in takes]
    report.other += len(sources) - len(suitable)
    if not suitable:
        raise InputError(
            f"There is no {model.modality} file in {folder}; nothing was changed. Give the folder that holds them."
        )
    before = known(index)
    changed = [source for source in suitable if not _same(before.get(source.path), source)]
    report.unchanged = len(suitable) - len(changed)
    names = {source.path for source in sources} | set(report.failed)
    gone = [path for path in before if path not in names]
    report.gone = len(gone)
    index.delete([identifier for path in gone for identifier in before[path].ids])
    total, done = sum(source.size for source in changed), 0
    pending = _Pending(index, model)
    yield Progress(0, total, 0)
    for source in changed:
        old = before.get(source.path, Known([]))
        try:
            data = _bytes(folder, source)
            digest = hashlib.sha256(data).hexdigest()
            if digest == old.sha256:
                report.unchanged += 1
                done += source.size
                continue
            items = list(_items(source, data, digest, model, tokens, overlap))
        except reading.NotTextError:
            report.other += 1
            items = None
        except SanderlingError as error:
            report.failed[source.path], items = str(error), None
        except OSError as error:
            report.failed[source.path], items = f"This file cannot be read: {error.strerror or error}.", None
        done += source.size
        if items is not None:
            report.embedded += bool(items)
            report.empty += not items
            report.pieces += len(items)
            pending.add(source, items, old.ids)
        if len(pending) >= _PIECES_AT_ONCE:
            pending.commit(report)
            yield Progress(done, total, report.pieces)
    pending.commit(report)
    yield Progress(total, total, report.pieces)


class _Item(Struct, frozen=True):
    identifier: str
    given: Any
    metadata: dict[str, Any]


class _Pending:
    """Files read but not embedded yet."""

    def __init__(self, index: Index, model: EmbeddingModel) -> None:
        self._index = index
        self._model = model
        self._prompt = prompt_for(model, "document")
        self._files: list[tuple[Source, list[_Item], list[str]]] = []

    def __len__(self) -> int:
        return sum(len(items) for _, items, _ in self._files)

    def add(self, source: Source, items: list[_Item], old: list[str]) -> None:
        self._files.append((source, items, old))

    def commit(self, report: Report) -> None:
        """Embed what waits, and write it in one step; a file on which the model fails is reported."""
        try:
            self._write(self._files)
        except InputError:
            for file in self._files:
                try:
                    self._write([file])
                except InputError as error:
                    report.failed[file[0].path] = str(error)
                    report.embedded -= 1
                    report.pieces -= len(file[1])
        self._files = []

    def _write(self, files: list[tuple[Source, list[_Item], list[str]]]) -> None:
        items = [item for _, found, _ in files for item in found]
        ids = [item.identifier for item in items]
        gone = {identifier for _, _, old in files for identifier in old} - set(ids)
        if items:
            answers = self._model([item.given for item in items], prompt=self._prompt)
            # What a text model embeds are texts; images have no words.
            texts = [item.given if isinstance(item.given, str) else None for item in items]
            self._index.update(ids, answers, [item.metadata for item in items], delete=sorted(gone), texts=texts)
        elif gone:
            self._index.delete(sorted(gone))


def file_of(identifier: str, metadata: dict[str, Any]) -> str:
    """The file that an item is a piece of; of an item that no folder gave, its id."""
    return str(metadata.get("path", identifier))


def piece_id(path: str, number: int) -> str:
    """The id of a file's piece, counted from 0."""
    return f"{path}#{number}"


def file_named(identifier: str) -> str:
    """The file that an item of this id is a piece of, as `piece_id` names it; of an image its id."""
    path, mark, number = identifier.rpartition("#")
    return path if mark and number.isdecimal() else identifier


def _bytes(folder: Path, source: Source) -> bytes:
    if source.size > reading.MAX_BYTES:
        raise InputError(f"This file has {source.size:,} bytes; at most {reading.MAX_BYTES:,} are read.")
    return (folder / source.path).read_bytes()


def _items(
    source: Source, data: bytes, digest: str, model: EmbeddingModel, tokens: int, overlap: int
) -> Iterator[_Item]:
    file = {
        "path": source.path,
        "kind": source.kind,
        "size": source.size,
        "modified": source.modified,
        "sha256": digest,
    }
    if source.kind in ("image", "audio"):
        yield _Item(source.path, data, file)
        return
    front = model.front
    assert isinstance(front, TextFront)
    name = source.path[-_NAME:]
    room = front.room - len(front.offsets(name)) - 1
    size = max(_LEAST_TOKENS, min(tokens, room))
    found = list(chunks(reading.text(data, source.kind), front.offsets, size, min(overlap, size // 2)))
    for number, chunk in enumerate(found):
        metadata = {
            **file,
            "piece": number,
            "pieces": len(found),
            "line": chunk.line,
            "start": chunk.start,
            "text": chunk.text,
        }
        yield _Item(piece_id(source.path, number), f"{name}\n{chunk.text}", metadata)


def known(index: Index) -> dict[str, Known]:
    """What the index has of each file, by its path."""
    found: dict[str, Known] = {}
    for identifier in index.ids():
        about = index.metadata(identifier)
        file = found.setdefault(file_of(identifier, about), Known([]))
        file.ids.append(identifier)
        file.size, file.modified = about.get("size", -1), about.get("modified", -1)
        file.sha256 = about.get("sha256", "")
    return found


def _same(before: Known | None, source: Source) -> bool:
    return before is not None and (before.size, before.modified) == (source.size, source.modified)


def _is_index(path: Path) -> bool:
    return (path / layout.HEADER).is_file() and (path / layout.LOCK).is_file()
