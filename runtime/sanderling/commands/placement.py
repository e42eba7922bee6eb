"""`sanderling inspect --placement`: which provider really has which nodes of each variant, and how long they take."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from msgspec import Struct

from sanderling import providers
from sanderling.bundle import Bundle
from sanderling.commands.console import plain, print_json, stdout, table
from sanderling.errors import PartialPlacementWarning, SanderlingError
from sanderling.loading import load

if TYPE_CHECKING:
    from rich.table import Table

    from sanderling.placement import Placement


class Row(Struct, frozen=True):
    """One variant asked to run on one provider: nodes and shares of the run time by provider, or why it cannot.

    A model of several graphs that answer together has a row of all of them, and behind it one of each `graph`.
    """

    variant: str
    provider: str
    graph: str = ""
    nodes: dict[str, int] = {}
    time: dict[str, float] = {}
    error: str = ""


def show_placement(bundle: Bundle, *, as_json: bool) -> None:
    """Load each variant on each provider that can be used here, run the golden samples, and show what ran where."""
    rows = [
        row
        for variant in bundle.manifest.variants
        for provider in providers.available()
        for row in _rows(bundle, variant, provider)
    ]
    if as_json:
        print_json(rows, indent=1)
        return
    console = stdout()
    console.print(_table(rows))
    for row in rows:
        if row.error:
            console.print(f"{row.variant} on {row.provider}: {plain(row.error)}", soft_wrap=True)


def _rows(bundle: Bundle, variant: str, provider: str) -> list[Row]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartialPlacementWarning)  # it is what the table shows
            with load(bundle.path, variant=variant, provider=provider) as model:
                found: Placement = model.measure_placement()
    except SanderlingError as error:
        return [Row(variant, provider, error=str(error))]
    parts = {"": found} | found.graphs
    return [Row(variant, provider, name, part.nodes, part.time_shares) for name, part in parts.items()]


def _table(rows: list[Row]) -> Table:
    several = any(row.graph for row in rows)
    graph = ("graph",) if several else ()
    made = table("Where the nodes run", "variant", "provider", *graph, "nodes there", "their time", "elsewhere")
    for row in rows:
        total, there = sum(row.nodes.values()), row.nodes.get(row.provider, 0)
        others = ", ".join(f"{count} on {name}" for name, count in row.nodes.items() if name != row.provider)
        cells = ("", "", "cannot run") if row.error else (
            f"{there} of {total}", f"{row.time.get(row.provider, 0.0):.0%}", others
        )  # fmt: skip
        named = (row.graph or "all",) if several else ()
        made.add_row(row.variant, row.provider, *named, *cells)
    return made
