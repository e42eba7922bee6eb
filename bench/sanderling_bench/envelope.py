"""How records of every kind go to a file and come back: one line of JSON that says what it is, and in which version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from sanderling.errors import SanderlingError
from sanderling.storage import write_atomic

R = TypeVar("R", bound=Struct)


class _Header(Struct, frozen=True):
    format: str
    version: int


@dataclass(frozen=True, slots=True)
class Envelope(Generic[R]):
    """One kind of record: its type, format and version; in errors, what it is called and how another is made.

    Unknown fields are ignored; another format or version is refused.
    """

    record: type[R]
    format: str
    version: int
    error: type[SanderlingError]
    noun: str
    again: str

    def encode(self, made: R) -> bytes:
        """The record as JSON, UTF-8, in one line ending in a newline."""
        return msgspec.json.encode(made) + b"\n"

    def decode(self, raw: bytes, where: str) -> R:
        """Read a record; `where` names it in errors. Raises `error`: not a record, or of a version not known here."""
        try:
            header = msgspec.json.decode(raw, type=_Header)
            if header.format != self.format:
                raise self.error(f"{where} has the format {header.format[:80]!r}, expected {self.format!r}.")
            if header.version != self.version:
                raise self.error(
                    f"{where} has record version {header.version}; this Sanderling reads version {self.version}. "
                    f"Update it, or {self.again} again."
                )
            return msgspec.json.decode(raw, type=self.record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            again = self.again.capitalize()
            raise self.error(f"{where} is no {self.noun} record: {error}. {again} again.") from error

    def read(self, path: Path) -> R:
        """The record in the file `path`. Raises `error` if it cannot be read or is none."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise self.error(f"{path} cannot be read: {error.strerror or error}.") from error
        return self.decode(raw, str(path))

    def write(self, made: R, path: Path) -> None:
        """Write the record to `path`, whole or not at all. Raises StorageError if it cannot be."""
        write_atomic(path, self.encode(made))
