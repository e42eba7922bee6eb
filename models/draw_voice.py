"""Log-mel spectrograms of one sentence, as a voice says it in two variants: docs/voice.png.

`python models/draw_voice.py [BUNDLE] [OUTPUT]` takes a bundle that was exported with `--variants fp32,int8-static`:
fp32 on the left, int8-static on the right, of the same noise; 80 mel bands from 0 Hz at the bottom to half the sample
rate, 60 decibels from black to white, at one scale.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import sanderling
from sanderling_export.voices import mel

MODELS = Path(__file__).resolve().parent
TEXT = "The ferry leaves at half past six, and whoever misses it waits."
VARIANTS = ("fp32", "int8-static")
RANGE, SCALE, HEADING, GAP = 60.0, 3, 16, 8


def main() -> None:
    bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS / "bundles" / "joe-medium"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else MODELS.parent / "docs" / "voice.png"
    said = {variant: _said(bundle, variant) for variant in VARIANTS}
    rate = next(iter(said.values())).sample_rate
    spectrograms = {variant: mel.spectrogram(speech.audio, rate) for variant, speech in said.items()}
    top = max(float(one.max()) for one in spectrograms.values())
    pictures = [_picture(one, top) for one in spectrograms.values()]
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, pictures[0].height + HEADING), (255, 255, 255))
    left = 0
    for variant, picture in zip(VARIANTS, pictures, strict=True):
        ImageDraw.Draw(sheet).text((left + 2, 2), variant, fill=(0, 0, 0))
        sheet.paste(picture, (left, HEADING))
        left += picture.width + GAP
    sheet.save(output, optimize=True)
    apart = mel.distance(said["int8-static"].audio, said["fp32"].audio, rate)
    sys.stdout.write(f"{apart:.2f} dB apart in the mean, {output}\n")


def _said(bundle: Path, variant: str) -> sanderling.Speech:
    with sanderling.load(bundle, variant=variant) as voice:
        assert isinstance(voice, sanderling.Voice)
        found = voice(TEXT, seed=1)
        assert isinstance(found, sanderling.Speech)  # of one text
        return found


def _picture(spectrogram: NDArray[np.float64], top: float) -> Image.Image:
    """Grey, 60 decibels below `top` and less in black; low bands below."""
    grey = np.clip(255 * (spectrogram - top + RANGE) / RANGE, 0, 255).astype(np.uint8)[::-1]
    picture = Image.fromarray(grey)
    return picture.resize((picture.width, picture.height * SCALE), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
