"""What the exports calibrate and measure with, of combinations that are trained on: python -m world.samples (in models)

Writes models/world/samples: pictures, captions and questions, a line each.
"""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from world.clips import clips, moments
from world.drawing import render
from world.scenes import questions, scenes

FOLDER = Path(__file__).resolve().parent / "samples"
# Every third one shows moments of a clip.
PICTURES = 12
_TEXTS = 240


def pictures() -> list[Image.Image]:
    """Pictures of scenes, and of moments of clips."""
    draw = random.Random("samples: pictures")
    found = []
    for index in range(PICTURES):
        moving = index % 3 == 2
        found.append(
            moments(draw.choice(clips(held_out=False)), draw)
            if moving
            else render(draw.choice(scenes(held_out=False)), draw)
        )
    return found


def captions() -> list[str]:
    """Captions of scenes, in an order that mixes them."""
    draw = random.Random("samples: captions")
    return [scene.caption for scene in draw.sample(scenes(held_out=False), _TEXTS)]


def asked() -> list[str]:
    """Questions of every kind."""
    draw = random.Random("samples: questions")
    chosen = draw.sample(scenes(held_out=False), _TEXTS)
    found = (draw.choice(questions(scene, draw)).text for scene in chosen)
    return list(dict.fromkeys(found))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for index, picture in enumerate(pictures()):
        picture.save(FOLDER / f"{index:02d}.png", optimize=True)
    for name, texts in (("captions.txt", captions()), ("questions.txt", asked())):
        (FOLDER / name).write_text("\n".join(texts) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
