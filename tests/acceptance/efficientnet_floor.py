"""Issue 4: EfficientNet-Lite0 in 8 bits, on 500 crops of photographs that calibration never saw; the list is committed.

`efficientnet_crops.tsv` names each crop: photograph, left, top, width, height in pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import photographs
from alternated import times_as_fast
from checks import Context, Row, at_least, built, registry, true
from numpy.typing import NDArray
from PIL import Image

from sanderling import cores, load
from sanderling.bundle import Bundle, open_bundle
from sanderling.plan import IMAGE_BUDGET
from sanderling.verification import cosines

NAME = "efficientnet-lite0"
CROPS = Path(__file__).with_name("efficientnet_crops.tsv")
MARGIN = 0.05
TIMED = 24


@registry.check(4, "efficientnet-floor")
def efficientnet_floor(context: Context) -> list[Row]:
    bundle = open_bundle(built(NAME))
    variant = bundle.manifest.default_variant
    listed = [line.split("\t") for line in CROPS.read_text(encoding="utf-8").splitlines()[1:]]
    seen = {name for name, *_ in listed} - set(photographs.unseen_by_calibration(NAME))
    crops = _crops(listed)
    logits = {}
    for name in ("fp32", variant):
        context.say(f"{name} answers {len(crops)} crops")
        with load(bundle.path, variant=name) as model:
            logits[name] = np.asarray(model.answer(crops).rows)
    expected, found = logits["fp32"], logits[variant]
    similar = cosines(found, expected)
    odds = np.exp(expected - expected.max(axis=1, keepdims=True))
    ordered = np.sort(odds / odds.sum(axis=1, keepdims=True), axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > MARGIN
    same = (found.argmax(axis=1) == expected.argmax(axis=1))[clear]
    first, second = (np.argsort(-rows, axis=1)[:, :5] for rows in (expected, found))
    overlap = np.array([len({*a} & {*b}) / 5 for a, b in zip(first.tolist(), second.tolist(), strict=True)])
    what = f"EfficientNet-Lite0 {variant}, {len(crops)} crops"
    return [
        true("photographs of the list that calibration saw", not seen, ", ".join(sorted(seen)) or "none", "none"),
        true("crops on the list", len(crops) == 500, str(len(crops)), "500"),
        at_least(f"{what}: mean cosine of logits", similar.mean(), 0.99, digits=4, spread=f"min {similar.min():.4f}"),
        at_least(
            f"{what}: first label as fp32's where its margin exceeds {MARGIN}",
            100 * same.mean(),
            97,
            digits=1,
            unit="%",
            spread=f"{same.sum()} of {len(same)}",
        ),
        at_least(f"{what}: overlap of the first five labels", 100 * overlap.mean(), 95, digits=1, unit="%"),
    ]


@registry.check(4, "efficientnet-speed")
def efficientnet_speed(context: Context) -> list[Row]:
    """The graphs alone: decoding and resizing a photograph is the same work for both."""
    bundle = open_bundle(built(NAME))
    variant = bundle.manifest.default_variant
    listed = [line.split("\t") for line in CROPS.read_text(encoding="utf-8").splitlines()[1:]]
    with load(bundle.path) as model:
        feeds, _ = model.front.feeds(model.front.prepare(_crops(listed[:TIMED]), None))
    ((name, pixels),) = feeds.items()
    sessions = {one: _session(bundle, one) for one in ("fp32", variant)}

    def run(which: str, count: int) -> None:
        for start in range(0, len(pixels), count):
            sessions[which].run(None, {name: pixels[start : start + count]})

    rows = []
    for count in (1, IMAGE_BUDGET):
        context.say(f"{count} crops a run")
        what = f"EfficientNet-Lite0 {variant}, {count} a run: times fp32's speed"
        rows.append(times_as_fast(what, lambda n=count: run(variant, n), lambda n=count: run("fp32", n), 1.5))  # type: ignore[misc]
    return rows


def _crops(listed: list[list[str]]) -> list[NDArray[np.uint8]]:
    places = photographs.photographs()
    opened = {name: Image.open(places[name]).convert("RGB") for name in sorted({line[0] for line in listed})}
    made = []
    for name, *numbers in listed:
        left, top, width, height = map(int, numbers)
        made.append(np.asarray(opened[name].crop((left, top, left + width, top + height))))
    return made


def _session(bundle: Bundle, variant: str) -> onnxruntime.InferenceSession:
    (form,) = bundle.manifest.components["model"].variants[variant].forms.values()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores.granted()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(bundle.path / form.graph), options, providers=["CPUExecutionProvider"])
