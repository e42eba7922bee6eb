"""What the commands share: consoles that fit a terminal or a pipe, and JSON on standard output.

The consoles leave `:name:` as it is, so that what is shown of a file is what stands in it, never an emoji.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def stdout() -> Console:
    """A console on standard output; in a pipe it does not wrap tables to 80 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, emoji=False)


def stderr() -> Console:
    """A console on standard error, for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)


def table(title: str | None, *columns: str) -> Table:
    """A table of names in its first column, and figures in the others; without grid lines, to fit 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        if index:
            made.add_column(column, justify="right")
        else:
            made.add_column(column, style="bold", no_wrap=True)
    return made


def print_json(value: object, *, indent: int = 0) -> None:
    """One JSON value and a newline on standard output, UTF-8; lone surrogates become U+FFFD."""
    raw = msgspec.json.encode(value, enc_hook=str)
    if indent:
        raw = msgspec.json.format(raw, indent=indent)
    sys.stdout.buffer.write(raw + b"\n")
    sys.stdout.buffer.flush()


def clean(text: str) -> str:
    """`text` as valid Unicode: what cannot be encoded becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def visible(text: str) -> str:
    """`text` on one line, with control characters as escapes: what a bundle says gives a terminal no orders."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def plain(text: str) -> str:
    """`text` for a console or table, shown as it is: visible, and never taken for rich's markup."""
    from rich.markup import escape

    return escape(visible(text))
