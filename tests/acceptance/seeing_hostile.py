"""Issue 7: what is no picture, no text, no label and no film is a typed error or a bounded answer; a film of three
hours takes no more memory than a short one; pictures of many threads do not mix; labels are embedded once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import decoding
import numpy as np
from checks import ROOT, Context, NotCheckableError, Row, at_most, registry, true

import sanderling
from sanderling import Cancellation, CancelledError, ImageError, InputError, TextError, VideoError, load
from sanderling.tasks.image_to_text import ImageToText

sys.path.insert(0, str(ROOT / "tests"))

Bad = Iterator[tuple[str, type[Exception], Callable[[], object]]]

# Of a film: its length, how much of it a segment is, and the segments it is first looked at for.
HOURS, SECONDS, FIRST = 3, 10.0, 50
GROWTH = 20.0
LABELS = 1000


def _towers(model: sanderling.DualEncoder, picture: Any) -> Bad:
    ask: Any = model
    given: list[tuple[str, type[Exception], Callable[[], object]]] = [
        ("an image as a text", TextError, lambda: ask.embed_texts(picture)),
        ("images as texts", TextError, lambda: ask.embed_texts([picture])),
        ("a text as an image", ImageError, lambda: ask.embed_images("a bird at the sea")),
        ("no image", ImageError, lambda: ask(None, ["a bird"])),
        ("an image of no bytes", ImageError, lambda: ask.embed_images(b"")),
        ("no labels", InputError, lambda: ask(picture, [])),
        ("an empty label", InputError, lambda: ask(picture, ["a bird", " "])),
        ("a label twice", InputError, lambda: ask(picture, ["a bird", "a bird"])),
        ("a label beyond the context", InputError, lambda: ask(picture, ["bird " * 100_000])),
        ("labels that are no list", InputError, lambda: ask(picture, "a bird")),
        ("a template without a place", InputError, lambda: ask(picture, ["a bird"], templates="a bird")),
        ("a lone surrogate", TextError, lambda: ask.embed_texts("\ud800")),
    ]
    yield from given


def _captions(model: ImageToText, picture: Any) -> Bad:
    ask: Any = model.generate
    given: list[tuple[str, type[Exception], Callable[[], object]]] = [
        ("a text as a picture", ImageError, lambda: ask("a bird at the sea")),
        ("no picture", ImageError, lambda: ask(None)),
        ("a picture of no bytes", ImageError, lambda: ask(b"")),
        ("a picture cut off", ImageError, lambda: ask(b"\x89PNG\r\n\x1a\n" + b"\0" * 30)),
        ("a beginning beyond the context", InputError, lambda: ask(picture, text="sea " * 100_000)),
        ("a beginning that is a picture", InputError, lambda: ask(picture, text=picture)),
        ("several pictures to stream", InputError, lambda: model.stream([picture, picture])),  # type: ignore[arg-type]
    ]
    yield from given


def _missed(bad: Bad) -> str:
    return ", ".join(what for what, kind, call in bad if not decoding.refused(kind, call))


@registry.check(7, "seeing-hostile")
def seeing_hostile(context: Context) -> list[Row]:
    import tiny_language
    import tiny_towers

    picture = tiny_language.PICTURES["photo-1"]
    with load(tiny_towers.dual_bundle(context.folder / "towers")) as towers:
        assert isinstance(towers, sanderling.DualEncoder)
        missed = _missed(_towers(towers, picture))
        rows = [true("two towers: bad pictures, texts and labels are typed errors", not missed, missed or "all", "all")]
    bundle = tiny_language.captioner_bundle(context.folder / "captions", max_new_tokens=10**6, min_new_tokens=10**6)
    with load(bundle, threads=1) as model:
        assert isinstance(model, ImageToText)
        missed = _missed(_captions(model, picture))
        rows.append(true("captions: bad pictures and beginnings are typed errors", not missed, missed or "all", "all"))
        never = [model.generate(picture, num_beams=beams).finish_reason for beams in (1, 3)]
        held = never == ["context", "context"]
        rows.append(true("a caption that never stops ends where the context does", held, ", ".join(never), "context"))
        rows.append(mixed(model, tiny_language.PICTURES))
        rows.append(cancelled(model, picture))
    return rows


def mixed(model: ImageToText, pictures: dict[str, Any]) -> Row:
    """Six threads, each with a picture and a way of its own."""
    ways: list[dict[str, Any]] = [{}, {"num_beams": 3}, {"do_sample": True, "seed": 4}]

    def said(name: str) -> list[Any]:
        return [model.generate(pictures[name], max_new_tokens=12, min_new_tokens=0, **way).tokens for way in ways]

    known = {name: said(name) for name in pictures}
    wrong: list[str] = []

    def work(name: str) -> None:
        wrong.extend(name for _ in range(10) if said(name) != known[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in (*pictures, *pictures)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alike = len({tuple(map(tuple, found)) for found in known.values()}) < len(pictures)
    figure = f"{len(wrong)} mixed" + (", pictures alike" if alike else "")
    return true(
        f"{len(threads)} threads caption at once, each its own picture", not wrong and not alike, figure, "none"
    )


def cancelled(model: ImageToText, picture: Any) -> Row:
    """Tokens that still come once a caption was cancelled."""
    late = []
    for count in range(1, 9):
        cancellation = Cancellation()
        read = 0
        try:
            for _ in model.stream(picture, max_new_tokens=30, min_new_tokens=30, cancellation=cancellation):
                read += 1
                if read == count:
                    cancellation.cancel()
        except CancelledError:
            late.append(read - count)
    held = len(late) == 8 and max(late) <= 1
    return true("captions: pieces that come after a cancellation", held, str(max(late, default=-1)), "at most 1",
                spread=f"{len(late)} of 8 streams ended so")  # fmt: skip


@registry.check(7, "films-hostile")
def films_hostile(context: Context) -> list[Row]:
    try:
        import tiny_films
    except ImportError as error:
        raise NotCheckableError(f"PyAV is not installed ({error}).") from error
    import tiny_language

    colors = (tiny_films.RED, tiny_films.GREEN, tiny_films.BLUE, tiny_films.GREY)
    frames = [tiny_films.plain(color) for color in colors]
    context.say(f"a film of {HOURS} hours")
    long = tiny_films.write(
        context.folder / "long.mkv", [frames[place // 30 % 4] for place in range(HOURS * 3600)], rate=1
    )
    cut = context.folder / "cut.mkv"
    cut.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    with load(tiny_language.captioner_bundle(context.folder / "captions"), threads=1) as model:
        assert isinstance(model, ImageToText)
        describe = sanderling.VideoToText(model)
        given: dict[str, Any] = {"seconds": SECONDS, "max_new_tokens": 4}
        describe(long, max_segments=FIRST, **given)
        before = decoding.resident()
        context.say("the whole of it")
        whole = describe(long, **given)
        grown = decoding.resident() - before
        half = describe(cut, **given)
        bounded = describe(long, max_segments=FIRST, **given)
        missed = _missed(_films(context.folder, describe, long, frames[0]))
    stated = whole.report.stated_seconds or 0.0
    left = stated - FIRST * SECONDS
    return [
        at_most(f"memory that captions of {HOURS} hours add", grown, GROWTH, digits=1, unit=" MB"),
        true("the whole film was read", abs(whole.report.seconds - HOURS * 3600) < 2 and not whole.report.seconds_lost,
             f"{whole.report.seconds:,.0f} s", f"{HOURS * 3600:,} s"),
        true("a film cut in the middle says what it lost",
             0 < half.report.seconds_lost < stated and bool(half.segments),
             f"{half.report.seconds_lost:,.0f} s lost of {stated:,.0f}", "the part that is not there"),
        true("a bound on segments says what was left", abs(bounded.report.seconds_lost - left) < SECONDS,
             f"{bounded.report.seconds_lost:,.0f} s", f"{left:,.0f} s"),
        true("what is no film is a typed error", not missed, missed or "all", "all"),
    ]  # fmt: skip


def _films(folder: Path, describe: sanderling.VideoToText, film: Path, frame: Any) -> Bad:
    import tiny_films

    ask: Any = describe
    index_lost = tiny_films.write(folder / "index.mp4", [frame] * 40)
    index_lost.write_bytes(index_lost.read_bytes()[: index_lost.stat().st_size // 2])
    text = folder / "text.mp4"
    text.write_text("no film at all " * 99, encoding="utf-8")
    empty = folder / "empty.mp4"
    empty.write_bytes(b"")
    given: list[tuple[str, type[Exception], Callable[[], object]]] = [
        ("a file that lost its index", VideoError, lambda: ask(index_lost)),
        ("a text as a film", VideoError, lambda: ask(text)),
        ("an empty file", VideoError, lambda: ask(empty)),
        ("sound alone", VideoError, lambda: ask(tiny_films.sound(folder / "sound.m4a"))),
        ("no file", VideoError, lambda: ask(folder / "none.mp4")),
        ("an address", VideoError, lambda: ask("https://example.org/a.mp4")),
        ("a picture", VideoError, lambda: ask(frame)),
        ("segments of no length", InputError, lambda: ask(film, seconds=0)),
    ]
    yield from given


@registry.check(7, "labels-once")
def labels_once(context: Context, labels: int = LABELS) -> list[Row]:
    """Texts that the text tower of CLIP ViT-B/32 reads for a thousand labels: once, and never again."""
    import two_towers

    _, bundle = two_towers.exported(context, "CLIP ViT-B/32", ("fp32", "int8-dynamic"))
    names = [f"photograph number {place}" for place in range(labels)]
    draw = np.random.default_rng(3)
    pictures = [draw.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(3)]
    kept = os.environ.get("SANDERLING_CACHE")
    os.environ["SANDERLING_CACHE"] = str(context.folder / "cache")
    try:
        first, answers = _read(bundle, "int8-dynamic", pictures[:2], names)
        later, again = _read(bundle, "int8-dynamic", pictures[:2], names)
        other, _ = _read(bundle, "fp32", pictures[2:], names[: labels // 10])
    finally:
        if kept is None:
            del os.environ["SANDERLING_CACHE"]
        else:
            os.environ["SANDERLING_CACHE"] = kept
    same = all(one.labels == two.labels for one, two in zip(answers, again, strict=True))
    return [
        true("texts read for the first picture", first[0] == labels, f"{first[0]:,}", f"{labels:,}"),
        true("texts read for the second picture", first[1] == 0, str(first[1]), "0"),
        true("texts read in the next process", sum(later) == 0 and same, str(sum(later)), "0, and the same labels"),
        true("texts read for another variant", other[0] == labels // 10, str(other[0]), "all of its own"),
    ]


def _read(bundle: Path, variant: str, pictures: list[Any], labels: list[str]) -> tuple[list[int], list[Any]]:
    """How many texts each picture made the text tower read, and the answers, as a fresh load has it."""
    counts, answers = [], []
    with load(bundle, variant=variant) as model:
        assert isinstance(model, sanderling.DualEncoder)
        answer = model.text_encoder.answer
        read: list[int] = []

        def counted(items: list[Any], *more: Any) -> Any:
            read.append(len(items))
            return answer(items, *more)

        model.text_encoder.answer = counted  # type: ignore[method-assign]
        for picture in pictures:
            read.clear()
            answers.append(model(picture, labels, top_k=5))
            counts.append(sum(read))
    return counts, answers
