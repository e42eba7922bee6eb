"""The command line: `sanderling`. Commands of the other rooms join through the entry-point group."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from sanderling.errors import MissingExtraError, SanderlingError

if TYPE_CHECKING:
    import typer

_COMMAND_GROUP = "sanderling.commands"


def main() -> None:
    """Run the command line; an expected error is one line on standard error and the exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character gets an escape instead of a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        build_app()()
    except SanderlingError as error:
        from sanderling.commands.console import visible

        sys.stderr.write(f"error: {visible(str(error))}\n")
        sys.exit(1)


def build_app() -> typer.Typer:
    """The application with every command that is installed. Raises MissingExtraError without the extra `cli`."""
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("The command line", "cli", package)
    from importlib.metadata import entry_points

    import typer

    from sanderling.commands import devices, inspect, run, trim, tune, verify

    app = typer.Typer(
        help="Small models, sealed and quantized, running anywhere without PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for module in (run, inspect, verify, tune, trim, devices):
        module.register(app)
    for entry in sorted(entry_points(group=_COMMAND_GROUP), key=lambda entry: entry.name):
        try:
            entry.load()(app)
        except Exception as error:
            # One broken package, whatever it raises, takes its own command away, not the others.
            sys.stderr.write(f"note: the command {entry.name!r} is not available: {error}\n")
    return app


def _root() -> None:
    """Small models, sealed and quantized, running anywhere without PyTorch."""
