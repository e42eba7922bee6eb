"""Steps that turn categories into numbers, asked for every category there is: a table for each column.

The fitted steps themselves fill the tables, so that whatever they do with rare, unseen or missing values, with drops or
with targets' means, is what the graph does: a row of the table for each category, one for all unseen ones, one for
a missing value.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from sanderling_export.tabular.columns import Column, Row, as_original
from sanderling_export.tabular.nodes import Nodes
from sanderling_export.tabular.trees import Unsupported

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
_UNSEEN_TEXT = "\N{REPLACEMENT CHARACTER} never seen"


@dataclass(frozen=True, slots=True)
class Categories:
    """What a column's categories are, and what the steps do with others."""

    values: tuple[str | bool | int | float, ...]
    unseen: Literal["error", "pass"]
    missing: Literal["error", "pass"]


def tables(
    chain: Sequence[Any], columns: Sequence[Column], named: bool
) -> tuple[list[NDArray[np.float64]], list[Categories], NDArray[np.int64]]:
    """For each column its table (categories + 2, width) and its categories; and the order of the answers' columns.

    Raises Unsupported where an answer depends on two columns at once.
    """
    known = [_known(values) for values in chain[-1].categories_]
    if len(known) != len(columns) or any(not values for values in known):
        raise Unsupported("a column has no category at all")
    base: Row = [values[0] for values in known]
    at_base = _ask(chain, columns, named, [base])
    if at_base is None:
        raise Unsupported("it refuses a category that it was fitted on")
    found, described = [], []
    for place, values in enumerate(known):
        asked = _ask(chain, columns, named, [[*base[:place], value, *base[place + 1 :]] for value in values])
        if asked is None:
            raise Unsupported(f"it refuses a category of {columns[place].name!r} that it was fitted on")
        extra = []
        for other in (_unseen(values), None):
            answer = _ask(chain, columns, named, [[*base[:place], other, *base[place + 1 :]]])
            extra.append(answer)
        rows = [asked, *(answer if answer is not None else at_base for answer in extra)]
        found.append(np.concatenate(rows))
        unseen, missing = ("error" if answer is None else "pass" for answer in extra)
        described.append(Categories(tuple(values), unseen, missing))  # type: ignore[arg-type]
    changing = np.array([(table != at_base).any(axis=0) for table in found])
    if (changing.sum(axis=0) > 1).any():
        raise Unsupported("an answer of it depends on two columns at once")
    # What never changes belongs to the first column as well as to any other.
    changing[0] |= ~changing.any(axis=0)
    order = np.concatenate([np.flatnonzero(row) for row in changing])
    own = [table[:, np.flatnonzero(row)] for table, row in zip(found, changing, strict=True)]
    return own, described, np.argsort(order)


def lookup(nodes: Nodes, rows: str, places: Sequence[int], made: Sequence[NDArray[np.float64]], order: Any) -> str:
    """The tables' rows for the codes that stand in the columns `places` of the graph's input, side by side."""
    parts = []
    for place, table in zip(places, made, strict=True):
        if table.shape[1]:
            code = nodes.add("Gather", rows, nodes.constant(place, np.int64), axis=1)
            parts.append(nodes.add("Gather", nodes.constant(table), nodes.cast(code, TensorProto.INT64), axis=0))
    if not parts:
        raise Unsupported("it gives no column at all")
    joined = nodes.concat(parts)
    return joined if (np.diff(order) == 1).all() else nodes.columns(joined, order)


def _ask(chain: Sequence[Any], columns: Sequence[Column], named: bool, rows: list[Row]) -> NDArray[np.float64] | None:
    """What the steps answer to rows, or None where they refuse them."""
    values: Any = as_original(columns, rows, named)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in chain:
                values = step.transform(values)
    except (ValueError, TypeError):
        return None
    return dense(values)


def dense(values: Any) -> NDArray[np.float64]:
    """An answer of a step as an array (n, width), float64."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values, np.float64)
    return array[:, None] if array.ndim == 1 else array


def _known(values: Any) -> list[Any]:
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [value for value in plain if value is not None and value == value]


def _unseen(values: Sequence[Any]) -> Any:
    if all(isinstance(value, str) for value in values):
        return _UNSEEN_TEXT
    if any(isinstance(value, str) for value in values):
        raise Unsupported("a column has texts and numbers for categories; make it one of the two")
    return math.floor(max(map(float, values))) + 1
