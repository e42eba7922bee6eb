"""`sanderling trim`: a bundle cut down to the variants that will be shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sanderling.commands.console import plain, print_json, stdout
from sanderling.counts import megabytes
from sanderling.trimming import trim as trim_bundle


def register(app: typer.Typer) -> None:
    """Add `trim` to the command line."""
    app.command("trim")(trim)


def trim(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    keep: Annotated[list[str], typer.Option("--keep", help="A variant to keep; again for more.", show_default=False)],
    component: Annotated[
        list[str] | None,
        typer.Option(
            "--component", help="A component to keep, of those that answer by themselves; again for more. Default: all."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the trimmed bundle here and leave the old one as it is."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as JSON.")] = False,
) -> None:
    """Keep only the chosen variants of a bundle."""
    done = trim_bundle(bundle, keep, output, components=component)
    if as_json:
        print_json({"path": str(done.path), "kept": done.kept, "before": done.before, "after": done.after})
    else:
        sizes = f"{megabytes(done.before)} before, {megabytes(done.after)} now"
        stdout().print(f"{plain(str(done.path))}: kept {', '.join(done.kept)}; {sizes}", soft_wrap=True)
