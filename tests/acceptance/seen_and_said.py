"""Issue 7: on combinations that were never trained on, pictures are found, captioned and asked about; clips, too, from
files; and int8 loses next to nothing of it. `docs/world.md` says what the world is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checks import ROOT, Context, NotCheckableError, Row, at_least, at_most, built, registry, true
from decoding import until

import sanderling

MODELS = ROOT / "models"
RECALL, EXACT, ANSWERED, OVER_BLIND, MOTION, LOST = 0.7, 0.6, 0.85, 0.25, 0.8, 0.02
# Every held-out scene more than once, rendered anew each time; the more, the less a figure is by chance.
PICTURES, QUESTIONS, FILMS, GALLERIES = 600, 1200, 200, 5
# Pictures that are described and asked about in transformers, too, and the most tokens of each.
ALIKE, TOKENS = 50, 20
# Segments of a video that stands for a film of three hours; each has a frame alone.
_HOURS, _LEFT = 3, 50


def world() -> Any:
    """The room that renders and judges."""
    if str(MODELS) not in sys.path:
        sys.path.insert(0, str(MODELS))
    from world import judging

    return judging


def by_variant(name: str, measure: Callable[[Any], float]) -> dict[str, float]:
    """The figure of each variant of a bundle."""
    folder = built(name)
    found = {}
    for variant in sanderling.open_bundle(folder).manifest.variants:
        with sanderling.load(folder, variant=variant) as model:
            found[variant] = measure(model)
    return found


def rows(what: str, figures: dict[str, float], bound: float, count: int) -> list[Row]:
    """Each variant against the bound, and what int8 loses to fp32."""
    judging = world()
    shown = [
        at_least(f"{what}, {variant}", value, bound, spread=judging.reach(value, count))
        for variant, value in figures.items()
    ]
    shown += [
        at_most(f"{what}: lost by {variant}", figures["fp32"] - value, LOST, spread=f"of {count:,}, to fp32")
        for variant, value in figures.items()
        if variant.startswith("int8")
    ]
    if not any(variant.startswith("int8") for variant in figures):
        shown.append(true(f"{what}: int8", False, "none", "a variant in int8"))
    return shown


@registry.check(7, "world: held-out pictures are found by their captions")
def found_by_captions(context: Context) -> list[Row]:
    judging = world()
    size = judging.GALLERY
    shown = judging.pictures(GALLERIES * size)
    galleries = [shown[start : start + size] for start in range(0, len(shown), size)]
    assert all(len({scene.caption for scene, _ in one}) == size for one in galleries)  # no caption twice in one

    def recall(model: Any) -> float:
        found = []
        for one in galleries:
            texts = model.embed_texts([scene.caption for scene, _ in one]).embeddings
            images = model.embed_images([picture for _, picture in one]).embeddings
            found.append(judging.recall_at_1(texts, images))
        return sum(found) / len(found)

    context.say(f"{len(galleries)} galleries of {size}")
    return rows("Recall@1 among 100", by_variant("world-clip", recall), RECALL, size * len(galleries))


@registry.check(7, "world: held-out pictures are captioned word for word")
def captioned(context: Context) -> list[Row]:
    judging = world()
    shown = judging.pictures(PICTURES)
    context.say(f"{len(shown)} pictures")

    def exact(model: Any) -> float:
        said = model.generate([picture for _, picture in shown]).texts
        right: float = judging.share([text == scene.caption for text, (scene, _) in zip(said, shown, strict=True)])
        return right

    return rows("captions right word for word", by_variant("world-captions", exact), EXACT, len(shown))


@registry.check(7, "world: questions about held-out pictures are answered")
def answered(context: Context) -> list[Row]:
    judging = world()
    asked = judging.asked(QUESTIONS)
    blind = judging.share([judging.blind(question) == question.answer for _, question in asked])
    context.say(f"{len(asked)} questions, {blind:.3f} right unseen")

    def right(model: Any) -> float:
        said = model.generate([picture for picture, _ in asked], [question.text for _, question in asked]).texts
        found: float = judging.share([text == question.answer for text, (_, question) in zip(said, asked, strict=True)])
        return found

    figures = by_variant("world-answers", right)
    return [
        *rows("answers right", figures, ANSWERED, len(asked)),
        *(
            at_least(f"answers right beyond blind, {variant}", value - blind, OVER_BLIND, spread=f"blind {blind:.3f}")
            for variant, value in figures.items()
        ),
    ]


@registry.check(7, "world: the trained networks write as in transformers")
def as_in_transformers(context: Context, count: int = ALIKE) -> list[Row]:
    """Token for token, of held-out pictures; each is read by transformers' own processor."""
    import torch
    import transformers

    judging = world()
    from world import networks

    asked = judging.asked(count)
    found: list[Row] = []
    for name, network in (("world-captions", "captioner"), ("world-answers", "answerer")):
        context.say(f"{name}: {count} pictures")
        checkpoint = MODELS / "world" / "checkpoints" / network
        original = networks.load(network, checkpoint).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        with sanderling.load(built(name), variant="fp32") as model:
            ends = model.bundle.manifest.postprocessing.stop_token_ids  # type: ignore[union-attr]
            for beams, how in ((1, "greedy"), (4, "beam-4")):
                same, written = 0, set()
                for picture, question in asked:
                    given = {"pixel_values": processor(picture, return_tensors="pt")["pixel_values"]}
                    texts = [] if network == "captioner" else [question.text]
                    if texts:
                        read = tokenizer(question.text, return_tensors="pt")
                        given |= {key: read[key] for key in ("input_ids", "attention_mask")}
                    with torch.inference_mode():
                        tokens = original.generate(
                            **given, max_new_tokens=TOKENS, num_beams=beams, do_sample=False, min_length=0
                        )
                    expected = until(tokens[0, 1:].tolist(), ends)
                    said = model.generate(picture, *texts, max_new_tokens=TOKENS, num_beams=beams)  # type: ignore[union-attr]
                    same += list(said.tokens) == expected
                    written.add(said.text)
                what = f"{name}: {how} sequences as transformers'"
                found.append(true(what, same == count, f"{same} of {count}", "all", spread=f"{len(written)} texts"))
    return found


def filmed(folder: Path, count: int) -> list[tuple[Any, Path]]:
    """Held-out clips as files, each a second of eight frames."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import tiny_films
    except ImportError as error:
        raise NotCheckableError(f"PyAV is not installed ({error}).") from error
    finally:
        sys.path.remove(str(ROOT / "tests"))
    found = []
    for index, (clip, frames) in enumerate(world().films(count)):
        found.append((clip, tiny_films.write(folder / f"{index:03d}.mp4", frames, rate=len(frames))))
    return found


@registry.check(7, "world: clips' captions name the right motion")
def motion(context: Context) -> list[Row]:
    judging = world()
    films = filmed(context.folder, FILMS)
    context.say(f"{len(films)} clips of a second, as files")
    segments: list[int] = []

    def named(model: Any) -> float:
        describe = sanderling.VideoToText(model)
        right = []
        for clip, path in films:
            found = describe(path)
            segments.append(len(found.segments))
            right.append(judging.motion_of(found.text) == clip.motion)
        share: float = judging.share(right)
        return share

    figures = by_variant("world-captions", named)
    return [
        *rows("captions of clips with the right motion", figures, MOTION, len(films)),
        true("a clip of a second is one segment", set(segments) == {1}, f"{max(segments)} at most", "1"),
    ]


@registry.check(7, "world: a video of three hours is bounded, and a cut one says what it lost")
def long_and_cut(context: Context) -> list[Row]:
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import tiny_films
    except ImportError as error:
        raise NotCheckableError(f"PyAV is not installed ({error}).") from error
    finally:
        sys.path.remove(str(ROOT / "tests"))
    import psutil

    def resident() -> float:
        return float(psutil.Process().memory_info().rss) / 1e6

    frames = [picture for _, picture in world().pictures(20)]
    # A frame every ten seconds: what a film of three hours costs to read is not what is looked at here.
    long = tiny_films.write(context.folder / "long.mkv", [frames[i % 20] for i in range(_HOURS * 360)], rate=1)
    cut = context.folder / "cut.mkv"
    cut.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    with sanderling.load(built("world-captions"), variant="fp32") as model:
        describe = sanderling.VideoToText(model, view=sanderling.VideoPreprocessing(seconds=1.0))
        describe(long, max_segments=_LEFT)
        before = resident()
        whole = describe(long)
        grown = resident() - before
        half = describe(cut)
        bounded = describe(long, max_segments=_LEFT)
    stated = whole.report.stated_seconds or 0.0
    return [
        at_most("memory that captions of the whole video add", grown, 40, digits=1, unit=" MB"),
        true(
            "the whole video was read", whole.report.seconds_lost == 0.0, f"{whole.report.seconds:,.0f} s",
            f"{stated:,.0f} s",
        ),
        true(
            "a video cut in the middle says what it lost",
            0 < half.report.seconds_lost < stated and bool(half.segments),
            f"{half.report.seconds_lost:,.0f} s lost of {stated:,.0f}",
            "the part that is not there",
        ),
        true(
            "a bound on segments says what was left",
            abs(bounded.report.seconds_lost - (stated - _LEFT)) < 2.0,
            f"{bounded.report.seconds_lost:,.0f} s",
            f"{stated - _LEFT:,.0f} s",
        ),
    ]  # fmt: skip
