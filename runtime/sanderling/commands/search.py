"""`sanderling search`: the files of an index that are most like a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from sanderling.commands import finding
from sanderling.commands.console import stderr
from sanderling.components import TEXT_ENCODER, VISION_ENCODER
from sanderling.errors import InputError
from sanderling.index import reading
from sanderling.index.index import Index
from sanderling.prompts import prompt_for

_TOWERS = {"text": TEXT_ENCODER, "image": VISION_ENCODER}


def register(app: typer.Typer) -> None:
    """Add `search` to the command line."""
    app.command("search")(search)


def search(
    index: Annotated[Path, typer.Argument(help="The folder of the index.", show_default=False)],
    query: Annotated[str, typer.Argument(help="A text; of an index of images the file of one.", show_default=False)],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Files to show, best first.")] = 5,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-m", help="The bundle that embeds the query. Default: the index's own.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only files of this kind: text, html, pdf, image or audio.", show_default=False)
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="What the query is, for a model that joins texts and images: text or image. Default: image where it "
            "is the file of one.",
            show_default=False,
        ),
    ] = None,
    by_words: Annotated[
        bool, typer.Option("--words/--no-words", help="Rank by the words of the files, too, not by meaning alone.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, one a file, best first.")] = False,
) -> None:
    """Find the files that have most to do with a query, by meaning and by words, offline."""
    if kind is not None and kind not in get_args(reading.Kind):
        raise InputError(f"--kind is {kind!r}; one of {', '.join(get_args(reading.Kind))} was expected.")
    with Index.open(index) as opened:
        where = finding.bundle_of(opened, bundle)
        variant = opened.about.get("variant") if bundle is None else None
        with finding.embedding_model(where, variant, tower=_tower(query, modality)) as model:
            if modality is not None and modality != model.modality:
                raise InputError(f"--as is {modality}; {model.name} takes {model.modality}s.")
            answer = model(query, prompt=prompt_for(model, "query"))
        # What was indexed without words, images and sounds, is found by meaning alone; so is the file of an image.
        words = query if by_words and opened.worded and model.modality == "text" else None
        hits = finding.find(opened, answer, top_k, None if kind is None else {"kind": kind}, words)
    if by_words and words is None and hits and hits[0].metadata.get("kind") not in ("image", "audio", None):
        stderr().print("note: this index has no words, so files were found by meaning alone; index them anew for both.")
    if not hits:
        stderr().print("note: nothing was found.")
    finding.show(hits, as_json=as_json)


def _tower(query: str, modality: str | None) -> str:
    """Which tower a query is for, of a model that has two."""
    if modality is None:
        modality = "image" if _is_image(query) else "text"
    if modality not in _TOWERS:
        raise InputError(f"--as is {modality!r}; text or image was expected.")
    return _TOWERS[modality]


def _is_image(query: str) -> bool:
    try:
        return Path(query).is_file() and reading.kind(Path(query)) == "image"
    except (OSError, ValueError):  # too long for a path, or with a NUL: a text
        return False
