"""`sanderling devices`: the execution providers and devices of this machine."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from sanderling import providers
from sanderling.commands.console import plain, print_json, stdout, table


def register(app: typer.Typer) -> None:
    """Add `devices` to the command line."""
    app.command("devices")(devices)


def devices(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the providers and devices that can be used here, and how to have the others."""
    found = providers.devices()
    here = {device.provider for device in found}
    missing = {p.name: providers.install_line(p) for p in providers.known() if p.name not in here}
    if as_json:
        print_json({"devices": msgspec.to_builtins(found), "missing": missing}, indent=1)
        return
    made = table(None, "provider", "device", "vendor", "description")
    for device in found:
        made.add_row(device.provider, *map(plain, (device.kind, device.vendor, device.description)))
    console = stdout()
    console.print(made)
    for name, line in missing.items():
        console.print(f"[dim]{name}: not usable here. {line}[/]")
