"""What the networks are judged on: held-out combinations, rendered from seeds of their own, and the counting."""

from __future__ import annotations

import functools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from world.clips import MOTIONS, Clip, clips, film
from world.drawing import render
from world.scenes import Question, Scene, questions, scenes

# Pictures that a caption is to find its own among.
GALLERY = 100
# Draws of each training scene's questions, from which the most frequent answers are counted.
_DRAWS = 8


def pictures(count: int) -> list[tuple[Scene, Image.Image]]:
    """So many held-out scenes, none twice before all were there, each with its picture."""
    every = list(scenes(held_out=True))
    random.Random("judging: scenes").shuffle(every)
    return [
        (scene, render(scene, random.Random(f"judging: picture {index}")))
        for index, scene in enumerate((every * math.ceil(count / len(every)))[:count])
    ]


def gallery() -> list[tuple[Scene, Image.Image]]:
    """A hundred held-out scenes with a hundred captions."""
    return pictures(GALLERY)


def asked(count: int) -> list[tuple[Image.Image, Question]]:
    """So many questions about held-out scenes, of each kind as many."""
    found = []
    for index, (scene, picture) in enumerate(pictures(count)):
        kinds = questions(scene, random.Random(f"judging: question {index}"))
        found.append((picture, kinds[index % len(kinds)]))
    return found


def films(count: int) -> list[tuple[Clip, list[Image.Image]]]:
    """So many held-out clips, none twice before all were there, each with its eight frames."""
    every = list(clips(held_out=True))
    random.Random("judging: clips").shuffle(every)
    return [
        (clip, film(clip, random.Random(f"judging: film {index}")))
        for index, clip in enumerate((every * math.ceil(count / len(every)))[:count])
    ]


@functools.cache
def _answers() -> dict[str, str]:
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for index, scene in enumerate(scenes(held_out=False)):
        draw = random.Random(f"judging: blind {index}")
        for question in (one for _ in range(_DRAWS) for one in questions(scene, draw)):
            counted[question.text][question.answer] += 1
    return {text: answers.most_common(1)[0][0] for text, answers in counted.items()}


def blind(question: Question) -> str:
    """The answer of who never sees a picture, at their best: the most frequent one to this very question."""
    return _answers()[question.text]


def recall_at_1(texts: NDArray[np.float32], images: NDArray[np.float32]) -> float:
    """The share of texts (n, d) whose own image, of those (n, d), is the first one; vectors of length 1."""
    return float(((texts @ images.T).argmax(axis=1) == np.arange(len(texts))).mean())


def motion_of(caption: str) -> str | None:
    """The motion that a caption names; None where it names none, or several."""
    named = [motion for motion in MOTIONS if motion in caption]
    return named[0] if len(named) == 1 else None


def share(right: Sequence[bool]) -> float:
    """How many of them hold."""
    return sum(right) / len(right)


def reach(value: float, count: int) -> str:
    """The 95% interval of a share of so many, by Wilson's formula."""
    z = 1.96
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(value * (1 - value) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{middle - half:.3f} to {middle + half:.3f}"
