"""`sanderling similar`: near duplicates in an index, or what is like some of its files and unlike others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sanderling.commands import finding
from sanderling.commands.console import plain, print_json, stderr, stdout
from sanderling.errors import InputError
from sanderling.index.folder import Known, known
from sanderling.index.index import Index
from sanderling.index.uses import near_duplicates, recommend


def register(app: typer.Typer) -> None:
    """Add `similar` to the command line."""
    app.command("similar")(similar)


def similar(
    index: Annotated[Path, typer.Argument(help="The folder of the index.", show_default=False)],
    like: Annotated[
        list[str] | None,
        typer.Argument(help="Files in it, or ids, to find the like of. None: groups of near duplicates."),
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option("--unlike", help="A file, or id, to be unlike; again for more.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Files to show, best first.")] = 5,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="0: the most alike; towards 1: unlike each other, too.")
    ] = 0.0,
    min_cosine: Annotated[float, typer.Option(min=-1, max=1, help="Of near duplicates.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Find groups of near duplicates, or what is most like some files."""
    with Index.open(index) as opened:
        if not like:
            if unlike:
                raise InputError("--unlike goes with files to be like; name some after the index.")
            _show_groups(near_duplicates(opened, min_cosine), as_json=as_json)
            return
        files = known(opened)
        liked = [name for given in like for name in _ids(opened, files, given)]
        disliked = [name for given in unlike or [] for name in _ids(opened, files, given)]
        hits = finding.by_file(
            opened,
            lambda count: recommend(opened, liked, disliked, count, diversity=diversity),
            top_k,
            but={*like, *(unlike or [])},
        )
    finding.show(hits, as_json=as_json)


def _ids(index: Index, files: dict[str, Known], given: str) -> list[str]:
    if given in files:
        return files[given].ids
    if given in index:
        return [given]
    raise InputError(f"{given!r} is neither a file nor an id in {index.path}; `sanderling search` shows their names.")


def _show_groups(groups: list[list[str]], *, as_json: bool) -> None:
    console = stdout()
    for number, group in enumerate(groups, start=1):
        if as_json:
            print_json({"group": group})
        else:
            console.print(f"[bold]{number:2d}.[/] {'  '.join(map(plain, group))}", soft_wrap=True)
    if not groups:
        stderr().print("note: no two items are so much alike.")
