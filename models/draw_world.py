"""Draw the contact sheet of docs/world.md: held-out pictures and clips with what the built models say of them.

python models/draw_world.py writes docs/world.png. What is not right word for word has a red frame.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from world import judging
from world.clips import COLUMNS, MOMENTS

import sanderling
from sanderling.preprocess.video import evenly, side_by_side

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "models" / "bundles" / "world-captions"
SHEET = ROOT / "docs" / "world.png"
_STILLS, _FILMS, _ACROSS = 18, 6, 6
_SHOWN, _EDGE, _TEXT, _GAP = 96, 3, 34, 10
_RIGHT, _WRONG = (150, 170, 150), (215, 40, 40)
_CHARACTERS = 20


def main() -> None:
    stills, films = judging.pictures(_STILLS), judging.films(_FILMS)
    pictures = [picture for _, picture in stills]
    for _, frames in films:
        pictures.append(side_by_side([frames[place] for place in evenly(MOMENTS, len(frames))], COLUMNS))
    expected = [*(scene.caption for scene, _ in stills), *(clip.caption for clip, _ in films)]
    with sanderling.load(BUNDLE) as model:
        assert isinstance(model, sanderling.ImageToText)
        said = model.generate(pictures).texts
    sheet(pictures, said, expected).quantize(256, kmeans=3, dither=Image.Dither.NONE).save(SHEET, optimize=True)


def sheet(pictures: Sequence[Image.Image], said: Sequence[str], expected: Sequence[str]) -> Image.Image:
    """Pictures in rows, each with its caption below."""
    width, height = _SHOWN + 2 * _EDGE + _GAP, _SHOWN + 2 * _EDGE + _TEXT + _GAP
    rows = -(-len(pictures) // _ACROSS)
    found = Image.new("RGB", (width * _ACROSS + _GAP, height * rows + _GAP), (255, 255, 255))
    pen, font = ImageDraw.Draw(found), ImageFont.load_default(10)
    for index, (picture, text, right) in enumerate(zip(pictures, said, expected, strict=True)):
        left, top = index % _ACROSS * width + _GAP, index // _ACROSS * height + _GAP
        frame = _RIGHT if text == right else _WRONG
        pen.rectangle((left, top, left + _SHOWN + 2 * _EDGE - 1, top + _SHOWN + 2 * _EDGE - 1), fill=frame)
        shown = picture.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
        found.paste(shown, (left + _EDGE, top + _EDGE))
        lines = "\n".join(textwrap.wrap(text, _CHARACTERS))
        pen.multiline_text((left, top + _SHOWN + 2 * _EDGE + 2), lines, fill=(40, 40, 40), font=font, spacing=1)
    return found


if __name__ == "__main__":
    main()
