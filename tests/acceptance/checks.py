"""What a check is: a function that measures, and the rows it gives: a figure with its spread, a bound, held or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "models" / "bundles"
DATA = Path(os.environ.get("SANDERLING_DATA") or ROOT.parent / "shared" / "data")


class NotCheckableError(Exception):
    """This machine cannot carry out the check; the message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside its bound. `spread` says how far the figure reaches: an interval, a mean, a count."""

    what: str
    figure: str
    spread: str
    bound: str
    held: bool


@dataclass(frozen=True, slots=True)
class Context:
    """What a check is given: an empty folder of its own, and a way to say what it is doing."""

    folder: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one issue, by name."""

    issue: int
    name: str
    measure: Callable[[Context], Sequence[Row]]


@dataclass
class Registry:
    """All checks, in the order in which their files register them."""

    checks: list[Check] = field(default_factory=list)

    def check(self, issue: int, name: str) -> Callable[[Callable[[Context], Sequence[Row]]], Check]:
        """Register a function as the check `name` of an issue."""

        def register(measure: Callable[[Context], Sequence[Row]]) -> Check:
            added = Check(issue, name, measure)
            self.checks.append(added)
            return added

        return register


registry = Registry()


def at_least(what: str, value: float, bound: float, *, spread: str = "", digits: int = 3, unit: str = "") -> Row:
    """A row that holds where `value` reaches `bound`."""
    return Row(what, f"{value:,.{digits}f}{unit}", spread, f">= {bound:,g}{unit}", bool(value >= bound))


def at_most(what: str, value: float, bound: float, *, spread: str = "", digits: int = 3, unit: str = "") -> Row:
    """A row that holds where `value` does not exceed `bound`."""
    return Row(what, f"{value:,.{digits}f}{unit}", spread, f"<= {bound:,g}{unit}", bool(value <= bound))


def true(what: str, held: bool, figure: str, bound: str, *, spread: str = "") -> Row:
    """A row for what is so or not."""
    return Row(what, figure, spread, bound, held)


def built(name: str) -> Path:
    """The folder of a recipe's bundle. Raises FileNotFoundError with the command that builds it."""
    folder = BUNDLES / name
    if not (folder / "bundle.json").is_file():
        raise FileNotFoundError(f"models/bundles/{name} is not there; build it with: make models")
    return folder
