"""The samples of an export: some to calibrate on, others to measure with, a few to keep as golden ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling.errors import ExportError
from sanderling_export import photographs, references, texts
from sanderling_export.description import Description
from sanderling_export.recipe import Data
from sanderling_export.speech import sounds

_CALIBRATION_TEXTS = 150
_CHECK_TEXTS = 280
_GOLDEN_IMAGES = 6
# Crops of one photograph resemble each other: a small folder gives no more samples than this for each.
_CROPS_A_PHOTOGRAPH = 16


@dataclass(frozen=True, slots=True)
class Samples:
    """Texts, pairs of texts, RGB images, or sounds. `calibration` and `check` share no text and no photograph."""

    calibration: list[Any]
    check: list[Any]
    golden: list[Any]


def gather(known: Description, data: Data, base: Path, own: Path | None) -> Samples:
    """The user's `own` texts or folder of images or sounds, else the recipe's, else those every export can use."""
    if known.image is not None:
        return _images(data, base, own)
    if known.audio is not None:
        return Samples(*sounds.gather(known.audio.rate, own))
    golden = [*texts.GOLDEN, *(texts.GOLDEN_PAIRS if known.takes_pairs else ())]
    pairs = known.text is not None and known.text.pairs
    if own is not None or data.texts is not None:
        found: list[Any] = list(texts.read(own if own is not None else references.locate(str(data.texts), base)))
        found = [texts.pair(line) for line in found] if pairs else found
        return Samples(found[::2], [*found[1::2], *texts.HARD], golden)
    make = texts.corpus_pairs if pairs else texts.corpus
    return Samples(list(make(_CALIBRATION_TEXTS, 0)), [*make(_CHECK_TEXTS, 1), *texts.HARD], golden)


def _images(data: Data, base: Path, own: Path | None) -> Samples:
    if own is not None:
        if not own.is_dir():
            raise ExportError(f"{own} is no folder; an image model is calibrated on a folder of images.")
        calibration, check = photographs.folder(own)
    elif data.calibration and data.check:
        calibration = photographs.load(data.calibration, base)
        check = photographs.load(data.check, base)
    elif photographs.installed():
        calibration = photographs.load(photographs.CALIBRATION, base)
        check = photographs.load(photographs.CHECK, base)
    else:
        raise ExportError(
            "An image model is calibrated and measured on photographs. Give a folder of them: --data FOLDER "
            '(or install some: pip install "sanderling[models]").'
        )
    counts = [data.crops, data.crops]
    if own is not None:
        counts = [min(data.crops, _CROPS_A_PHOTOGRAPH * len(part)) for part in (calibration, check)]
    return Samples(
        photographs.crops(calibration, counts[0]),
        photographs.crops(check, counts[1]),
        photographs.golden(check, _GOLDEN_IMAGES),
    )
