"""Which items count in a search, by their metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError
from sanderling.index.snapshot import Snapshot

# Names with the value each must have, or a list, tuple or set of the values it may have; or a function of the metadata.
Filter: TypeAlias = Mapping[str, Any] | Callable[[dict[str, Any]], bool]


def allowed(snapshot: Snapshot, wanted: Filter | None) -> NDArray[np.bool_] | None:
    """Which rows are there and pass, (rows,); None where all do. Raises InputError for what is no filter."""
    if wanted is None:
        return snapshot.alive
    if not callable(wanted) and not isinstance(wanted, Mapping):
        raise InputError(
            f"filter is of type {type(wanted).__name__}; a mapping of names to values, or a function of an item's "
            "metadata, was expected."
        )
    passes = wanted if callable(wanted) else _matcher(wanted)
    found = np.zeros(snapshot.header.rows, bool)
    for row in snapshot.rows().tolist():
        found[row] = bool(passes(snapshot.item(row)[1]))
    return found


def _matcher(wanted: Mapping[str, Any]) -> Callable[[dict[str, Any]], bool]:
    choices = [
        (name, list(value) if isinstance(value, list | tuple | set | frozenset) else [value])
        for name, value in wanted.items()
    ]
    return lambda metadata: all(name in metadata and metadata[name] in values for name, values in choices)
