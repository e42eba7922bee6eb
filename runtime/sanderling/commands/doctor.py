"""`sanderling doctor`: what keeps models on this machine from running as they could."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from sanderling.commands.console import print_json, stdout
from sanderling.doctor import examine


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Look for what slows models down or makes them fail here, and say what to do. Exit status 1 if anything does."""
    findings = examine()
    if as_json:
        print_json(msgspec.to_builtins(findings), indent=1)
    else:
        from rich.markup import escape

        console = stdout()
        for finding in findings:
            mark = "[green]ok  [/]" if finding.well else "[red]look[/]"
            console.print(f"{mark} [bold]{finding.what}[/]: {escape(finding.met)}")
            if not finding.well:
                console.print(f"     {escape(finding.advice)}")
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)
