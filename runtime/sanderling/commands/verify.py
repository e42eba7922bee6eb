"""`sanderling verify`: the golden samples replayed here, with an exit status that says whether they held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sanderling import verification
from sanderling.commands.console import print_json, stdout

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add `verify` to the command line."""
    app.command("verify")(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant to verify; again for more. Default: all.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="The execution provider. Default: cpu.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every check as JSON.")] = False,
) -> None:
    """Check every file's hash, then whether each variant still answers as it did at export. Exit status 1 if not."""
    report = verification.verify(bundle, variants=variant, provider=provider, threads=threads)
    if as_json:
        print_json(msgspec.to_builtins(report) | {"held": report.held}, indent=1)
    else:
        console = stdout()
        console.print(f"[bold]{report.name}[/] on {report.provider}, {report.threads} threads: all files are as sealed")
        console.print(_table(report))
        for check in report.failed[:20]:
            console.print(
                f"[red]{check.variant}: {check.sample}, {check.batching}: cosine {check.cosine:.6f}, "
                f"largest difference {check.max_abs:.3g}, preprocessing differs by {check.input_difference:.3g}[/]"
            )
    if not report.held:
        raise typer.Exit(1)


def _table(report: verification.Report) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("variant", style="bold")
    for column in ("checks", "lowest cosine", "tolerance", "largest difference", "tolerance", "preprocessing", "held"):
        table.add_column(column, justify="right")
    for variant, limits in report.tolerances.items():
        checks = [check for check in report.checks if check.variant == variant]
        held = all(check.held for check in checks)
        table.add_row(
            variant,
            str(len(checks)),
            f"{min(check.cosine for check in checks):.6f}",
            f"≥ {limits.min_cosine:.6f}",
            f"{max(check.max_abs for check in checks):.3g}",
            f"≤ {limits.max_abs:.3g}" if limits.max_abs is not None else "",
            f"{max(check.input_difference for check in checks):.3g}",
            "[green]yes[/]" if held else "[red]no[/]",
        )
    return table
