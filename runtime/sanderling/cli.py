"""The command line: `sanderling`. Commands of the other rooms join through the entry-point group."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from sanderling.errors import MissingExtraError, SanderlingError

if TYPE_CHECKING:
    import typer

_COMMAND_GROUP = "sanderling.commands"
# Commands of distributions of their own: their extra, and what it installs.
_ELSEWHERE = {
    "export": ("export", "sanderling-export"),
    "bench": ("bench", "sanderling-bench"),
    "eval": ("eval", "sanderling-bench"),
}


def main() -> None:
    """Run the command line; an expected error is one line on standard error and the exit status 1.

    Interrupted by Ctrl-C, also before a command has begun, it ends with the exit status 130.
    """
    _open_streams()
    try:
        build_app()()
    except SanderlingError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        # The library translates what it meets; an error without a file's name comes from standard output.
        if error.filename is not None:
            raise
        reason = error.strerror or error
        _discard_output()
        _fail(f"Standard output could not be written: {reason}. Free some space, or send it elsewhere.")


def _open_streams() -> None:
    """Standard streams that can be used: one that is closed becomes an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character gets an escape instead of a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Let what could not be written go: Python would try again when it ends, and complain."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the process ends


def _fail(message: str) -> NoReturn:
    from sanderling.commands.console import visible

    sys.stderr.write(f"error: {visible(message)}\n")
    sys.exit(1)


def build_app() -> typer.Typer:
    """The application with every command that is installed. Raises MissingExtraError without the extra `cli`."""
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("The command line", "cli", package)
    from importlib.metadata import entry_points

    import typer

    from sanderling.commands import (
        devices,
        doctor,
        embed,
        index,
        inspect,
        live,
        run,
        search,
        similar,
        trim,
        tune,
        verify,
        watch,
    )

    app = typer.Typer(
        help="Small models, sealed and quantized, running anywhere without PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for module in (run, index, search, similar, embed, watch, live, inspect, verify, tune, trim, devices, doctor):
        module.register(app)
    entries = sorted(entry_points(group=_COMMAND_GROUP), key=lambda entry: entry.name)
    for name in sorted(_ELSEWHERE.keys() - {entry.name for entry in entries}):
        _register_missing(app, name)
    for entry in entries:
        try:
            entry.load()(app)
        except Exception as error:
            # One broken package, whatever it raises, takes its own command away, not the others.
            sys.stderr.write(f"note: the command {entry.name!r} is not available: {error}\n")
    return app


def _register_missing(app: typer.Typer, name: str) -> None:
    """A command that is not installed says how it is."""
    extra, distribution = _ELSEWHERE[name]

    def missing() -> None:
        raise MissingExtraError(f"The command {name}", extra, distribution)

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, context_settings=settings, help=f'Not installed: pip install "sanderling[{extra}]"')(missing)


def _root() -> None:
    """Small models, sealed and quantized, running anywhere without PyTorch."""
