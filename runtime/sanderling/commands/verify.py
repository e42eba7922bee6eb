"""`sanderling verify`: the golden samples replayed here, with an exit status that says whether they held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sanderling import verification
from sanderling.commands.console import plain, print_json, stdout, table
from sanderling.counts import counted

if TYPE_CHECKING:
    from rich.table import Table

    from sanderling.schema.variants import Tolerance


def register(app: typer.Typer) -> None:
    """Add `verify` to the command line."""
    app.command("verify")(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant to verify; again for more. Default: all.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="An execution provider, or `all` usable here. Default: all.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every check as JSON.")] = False,
) -> None:
    """Check every file's hash, then whether each variant still answers as it did at export. Exit status 1 if not.

    A variant that fails on a provider is not used there any more on this machine, until it was verified again and held.
    """
    report = verification.verify(bundle, variants=variant, provider=provider, threads=threads)
    if as_json:
        print_json(msgspec.to_builtins(report) | {"held": report.held}, indent=1)
    else:
        console = stdout()
        console.print(
            f"[bold]{report.name}[/], {counted(report.threads, 'thread')}: "
            f"all files are as sealed, {len(report.checks)} golden answers were compared"
        )
        console.print(_table(report))
        for combination in report.combinations:
            if not combination.held:
                console.print(
                    f"[red]{combination.variant} on {combination.provider} will not be used on this machine: "
                    f"{plain(combination.reason)}[/]"
                )
        for check in report.failed[:20]:
            console.print(
                f"[red]{check.variant} on {check.provider}: {check.sample}, {check.way}: cosine "
                f"{check.cosine:.6f}, largest difference {check.max_abs:.3g}, preprocessing differs by "
                f"{check.input_difference:.3g}[/]"
            )
    if not report.held:
        raise typer.Exit(1)


def _table(report: verification.Report) -> Table:
    columns = ("lowest cosine", "at least", "farthest apart", "at most", "inputs apart", "held")
    made = table(None, "variant", *columns)
    for combination in report.combinations:
        where = (combination.variant, combination.provider)
        checks = [check for check in report.checks if (check.variant, check.provider) == where]
        near, far = _limits(report, combination.variant, checks)
        made.add_row(
            f"{combination.variant} on {combination.provider}",
            f"{min(check.cosine for check in checks):.6f}" if checks else "",
            f"{near.min_cosine:.6f}",
            f"{max(check.max_abs for check in checks):.3g}" if checks else "",
            f"{far.max_abs:.3g}" if far.max_abs is not None else "",
            f"{max(check.input_difference for check in checks):.3g}" if checks else "",
            "[green]yes[/]" if combination.held else "[red]no[/]",
        )
    return made


def _limits(report: verification.Report, variant: str, checks: list[verification.Check]) -> tuple[Tolerance, Tolerance]:
    """What the lowest cosine and the farthest answer were held against: of several graphs each has its own."""
    usual = report.tolerances[variant]
    if not checks:
        return usual, usual
    lowest = min(checks, key=lambda check: check.cosine)
    farthest = max(checks, key=lambda check: check.max_abs)
    return lowest.tolerance or usual, farthest.tolerance or usual
