"""The bar of the commands that embed much: how far they are, at which rate, and the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sanderling.commands.console import stderr

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(unit: str) -> Progress:
    """The bar on standard error; each task has a field `counted`, in a `unit` that its rate is told in."""
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            counted, seconds = task.fields["counted"], task.elapsed or 0
            return Text(f"{counted:,} {unit}, {counted / seconds:,.1f}/s" if seconds and counted else "")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=stderr(),
    )
