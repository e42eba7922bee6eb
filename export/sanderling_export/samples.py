"""The samples of an export: some to calibrate on, others to measure with, a few to keep as golden ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling.errors import ExportError
from sanderling.manifest import Task
from sanderling_export import photographs, texts
from sanderling_export.recipe import Data

_CALIBRATION_TEXTS = 150
_CHECK_TEXTS = 280
_GOLDEN_IMAGES = 6
# Crops of one photograph resemble each other: a small folder gives no more samples than this for each.
_CROPS_A_PHOTOGRAPH = 16


@dataclass(frozen=True, slots=True)
class Samples:
    """Texts, or RGB images. `calibration` and `check` share no text and no photograph."""

    calibration: list[Any]
    check: list[Any]
    golden: list[Any]


def gather(task: Task, data: Data, base: Path, own: Path | None) -> Samples:
    """The user's `own` texts or folder of images, else the recipe's, else those every export can use."""
    if task.startswith("image"):
        return _images(data, base, own)
    if own is not None:
        found = texts.read(own)
        return Samples(found[::2], [*found[1::2], *texts.HARD], list(texts.GOLDEN))
    check = [*texts.corpus(_CHECK_TEXTS, 1), *texts.HARD]
    return Samples(texts.corpus(_CALIBRATION_TEXTS, 0), check, list(texts.GOLDEN))


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
