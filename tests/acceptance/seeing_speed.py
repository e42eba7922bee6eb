"""Issue 7: how fast pictures are seen and said, and in how much memory, beside transformers on torch: real sizes,
random weights, preprocessing included.

The better of torch in float32 and in bfloat16 is the one to beat. Of the variants the fastest counts that stays within
the drift floor; the bounds were set on a processor with AMX, and hold or not wherever the check runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import alternated
import decoding
import numpy as np
import two_towers
from checks import ROOT, Context, Row, at_least, at_most, registry
from photographs import crops, photographs
from seeing_peers import Seeing

import sanderling
from sanderling.tasks.image_to_text import ImageToText
from sanderling_bench.inputs import standard_texts
from sanderling_bench.process import run_child

sys.path.insert(0, str(ROOT / "tests"))

# Pictures and texts that a round takes, how many make a batch, and the tokens of a caption.
TIMED, BATCH, TOKENS = 16, 8, 20
CAPTIONED = 2
SINGLE, BATCHED, WORDS, CAPTIONS = 2.0, 1.4, 2.0, 2.0
# The drift floor: cosine to the original, of vectors and of the logits of a caption's first token.
FLOOR = 0.99
# Of the least that torch takes in either precision.
MEMORY = 0.6
PRECISIONS = ("float32", "bfloat16")
_CHILD = Path(__file__).with_name("seeing_peak.py")


@registry.check(7, "clip-speed")
def clip_speed(context: Context, variants: Sequence[str] = ("fp32", "int8-dynamic", "int8-static")) -> list[Row]:
    """CLIP ViT-B/32: vectors of images and texts."""
    folder, bundle = two_towers.exported(context, "CLIP ViT-B/32", variants)
    files = written(context.folder / "timed", TIMED)
    texts = list(standard_texts(TIMED))
    peers = {dtype: two_towers.Theirs(folder, dtype) for dtype in PRECISIONS}
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    rows = []
    for what, component, bound, given in (
        ("images one at a time", "vision_encoder", SINGLE, [[file] for file in files]),
        (f"images in batches of {BATCH}", "vision_encoder", BATCHED, batches),
        ("texts", "text_encoder", WORDS, [[text] for text in texts]),
    ):
        context.say(what)
        rows.append(_towers_row(f"CLIP: {what}", bundle, component, peers, given, bound))
    variant, _ = fastest(bundle, "vision_encoder", batches)
    rows.append(peak(context, "CLIP: images", "images", folder, bundle, variant, files[:BATCH], 0))
    return rows


def _towers_row(
    what: str,
    bundle: Path,
    component: str,
    peers: dict[str, two_towers.Theirs],
    given: Sequence[Sequence[Any]],
    bound: float,
) -> Row:
    """One way of asking, timed beside the precision of torch that is the faster for it."""
    variant, cosine = fastest(bundle, component, given)
    better = min(PRECISIONS, key=lambda dtype: once(lambda: theirs(peers[dtype], given)))
    title = f"{what}: times torch's speed ({better}), {variant} at cosine {cosine:.4f}"
    with sanderling.load(bundle, variant=variant, components=component) as model:
        return alternated.times_as_fast(title, lambda: ours(model, given), lambda: theirs(peers[better], given), bound)


def ours(model: Any, given: Sequence[Sequence[Any]]) -> None:
    for items in given:
        model(items[0] if len(items) == 1 else list(items))


def theirs(peer: two_towers.Theirs, given: Sequence[Sequence[Any]]) -> None:
    from PIL import Image

    for items in given:
        if isinstance(items[0], Path):
            peer.images([Image.open(file).convert("RGB") for file in items])
        else:
            peer.texts(items)


def fastest(bundle: Path, component: str, given: Sequence[Sequence[Any]]) -> tuple[str, float]:
    """The fastest variant of a component that holds the drift floor here, and the least cosine measured at export."""
    found = sanderling.open_bundle(bundle).manifest.components[component].variants
    least = {name: one.drift.cosine.min if one.drift is not None else 0.0 for name, one in found.items()}
    times = {}
    for name in found:
        if least[name] >= FLOOR:
            with sanderling.load(bundle, variant=name, components=component) as model:
                times[name] = once(partial(ours, model, given))
    variant = min(times, key=lambda name: times[name])
    return variant, least[variant]


def written(folder: Path, count: int) -> list[Path]:
    """Crops of photographs as JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, one in enumerate(crops(count, list(photographs()), seed=two_towers.SEED, kinds=("JPEG",))):
        found.append(folder / f"{number:03d}.jpg")
        found[-1].write_bytes(one.file)
    return found


def once(way: Callable[[], object]) -> float:
    """Seconds of the second call; the first one warms."""
    way()
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def peak(
    context: Context,
    title: str,
    what: str,
    folder: Path,
    bundle: Path,
    variant: str,
    files: Sequence[Path],
    tokens: int,
) -> Row:
    """The most memory of a process that sees with us, beside one that sees with torch in either precision."""
    shown = context.folder / "peak"
    shown.mkdir(exist_ok=True)
    for file in files:
        (shown / file.name).write_bytes(file.read_bytes())

    def megabytes(who: str, model: Path) -> float:
        context.say(f"{title}: memory of {who}")
        printed, _ = run_child([sys.executable, str(_CHILD), who, what, str(model), variant, str(shown), str(tokens)])
        return int(printed) / 1e6

    own = megabytes("ours", bundle)
    others = {dtype: megabytes(dtype, folder) for dtype in PRECISIONS}
    least = min(others, key=lambda dtype: others[dtype])
    spread = ", ".join([f"{own:.0f} MB", *(f"torch {dtype} {found:.0f} MB" for dtype, found in others.items())])
    return at_most(f"{title}: share of torch's peak memory ({least})", own / others[least], MEMORY, spread=spread)


@registry.check(7, "caption-speed")
def caption_speed(
    context: Context, variants: Sequence[str] = ("fp32", "int8-dynamic", "int8-weight-only")
) -> list[Row]:
    """BLIP-base: captions of TOKENS tokens, one picture at a time."""
    from sanderling_export.pipeline import export

    folder = decoding.blip_base(context.folder / "blip", words=decoding.BLIP_WORDS)
    bundle, recipe = context.folder / "blip-bundle", context.folder / "blip.toml"
    data = two_towers.shown(context.folder)
    wanted = "\n".join(f"[variants.{variant}]" for variant in variants)
    recipe.write_text(f'name = "blip"\ncheckpoint = "blip"\n{wanted}\n{data}', encoding="utf-8")
    export(recipe, bundle, keep_failing=True, progress=context.say)
    files = written(context.folder / "timed", CAPTIONED)
    peers = {dtype: Seeing(folder, dtype) for dtype in PRECISIONS}
    better = min(PRECISIONS, key=lambda dtype: once(lambda: peers[dtype].captions(files[:1], TOKENS)))
    variant, cosine, model = _writer(bundle, files[0])

    def caption(model: ImageToText) -> list[Any]:
        return [model.generate(file, max_new_tokens=TOKENS, min_new_tokens=TOKENS) for file in files]

    with model:
        row = alternated.times_as_fast(
            f"BLIP-base: captions: times torch's speed ({better}), {variant} at cosine {cosine:.4f}",
            lambda: caption(model),
            lambda: [peers[better].captions([file], TOKENS) for file in files],
            CAPTIONS,
        )
        said = caption(model)
        rate = float(np.median([one.tokens_per_second for one in said]))
        first = float(np.median([one.timing.first_token for one in said]))
        begun = float(np.median([peers[better].first_token(file) for file in files]))
        whole = float(np.median([once(partial(peers[better].captions, [file], TOKENS)) for file in files]))
    theirs_rate = (TOKENS - 1) / (whole - begun)
    return [
        row,
        at_least("BLIP-base: times as soon: the first token", begun / first, 1.0, digits=2,
                 spread=f"{first * 1e3:,.0f} ms, torch {begun * 1e3:,.0f} ms"),
        at_least("BLIP-base: times torch's tokens a second behind the first", rate / theirs_rate, 1.0, digits=2,
                 spread=f"{rate:.1f} tokens/s, torch {theirs_rate:.1f}"),
        peak(context, "BLIP-base: captions", "captions", folder, bundle, variant, files[:CAPTIONED], TOKENS),
    ]  # fmt: skip


def _writer(bundle: Path, file: Path) -> tuple[str, float, ImageToText]:
    """The fastest variant that holds the drift floor, its least cosine, and the model."""
    found = sanderling.open_bundle(bundle).manifest.components["decoder"].variants
    best: tuple[float, str, float] | None = None
    for name, one in found.items():
        cosine = one.drift.cosine.min if one.drift is not None else 0.0
        if cosine < FLOOR:
            continue
        with sanderling.load(bundle, variant=name) as model:
            assert isinstance(model, ImageToText)
            taken = once(partial(model.generate, file, max_new_tokens=TOKENS, min_new_tokens=TOKENS))
        if best is None or taken < best[0]:
            best = (taken, name, cosine)
    assert best is not None  # fp32 holds it
    chosen = sanderling.load(bundle, variant=best[1])
    assert isinstance(chosen, ImageToText)
    return best[1], best[2], chosen
