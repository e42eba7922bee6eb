"""The sample photographs with the faces that models/bundles/faces finds drawn into them: docs/faces.jpg.

`python models/draw_faces.py [BUNDLE] [OUTPUT]`, each face with its box, its score and its landmarks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

import sanderling
from sanderling_export import references

MODELS = Path(__file__).resolve().parent
PHOTOGRAPHS = tuple(f"npm:@vladmandic/face-api/demo/sample{number}.jpg" for number in range(1, 7))
WIDTH, COLUMNS, GAP = 420, 3, 6
BOX, POINT = (255, 80, 40), (80, 255, 160)


def main() -> None:
    bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS / "bundles" / "faces"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else MODELS.parent / "docs" / "faces.jpg"
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.FaceRecognizer)
        drawn = [_drawn(model, references.locate(name, MODELS)) for name in PHOTOGRAPHS]
    _sheet([picture for picture, _ in drawn]).save(output, quality=80, optimize=True)
    sys.stdout.write(f"{sum(count for _, count in drawn)} faces, {output}\n")


def _drawn(model: sanderling.FaceRecognizer, path: Path) -> tuple[Image.Image, int]:
    found = model(path)
    assert isinstance(found, sanderling.Faces)  # of one path
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    ratio = WIDTH / picture.width
    picture = picture.resize((WIDTH, round(picture.height * ratio)), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    for face in found:
        left, top, right, bottom = (edge * ratio for edge in face.box)
        pen.rectangle((left, top, right, bottom), outline=BOX, width=2)
        pen.text((left + 2, top - 11), f"{face.score:.2f}", fill=BOX)
        for x, y in face.landmarks * ratio:
            pen.point((float(x), float(y)), fill=POINT)
    return picture, len(found)


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    rows = [pictures[first : first + COLUMNS] for first in range(0, len(pictures), COLUMNS)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1)), (255, 255, 255))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for place, picture in enumerate(row):
            sheet.paste(picture, (place * (WIDTH + GAP), top))
        top += height + GAP
    return sheet


if __name__ == "__main__":
    main()
