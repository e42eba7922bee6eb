"""The grammar of still scenes: what may stand in one, how it is said, what is asked, and what is held out."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

COUNTS = ("one", "two", "three", "four")
SIZES = ("small", "large")
COLORS = ("red", "green", "blue", "yellow", "purple", "black")
SHAPES = ("circle", "square", "triangle", "cross", "ring")
PLACES = ("top left", "top right", "bottom left", "bottom right")
YES, NO = "yes", "no"

# One combination in so many is held out, by the hash of its caption.
_HELD_OUT = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """`count` (1 to 4) things that are alike, in one quarter of the picture."""

    count: int
    size: str
    color: str
    shape: str
    place: str

    @property
    def caption(self) -> str:
        """What is to be seen, in full: no two scenes that differ have one caption."""
        number = "a" if self.count == 1 else COUNTS[self.count - 1]
        return f"{number} {self.size} {self.color} {plural(self.shape, self.count)} at the {self.place}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene, of one kind, with the one answer that is right."""

    kind: str
    text: str
    answer: str


def plural(noun: str, count: int) -> str:
    """The noun for so many things."""
    if count == 1:
        return noun
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def is_held_out(caption: str) -> bool:
    """Whether what a caption says is kept from training: the hash of the caption alone decides."""
    return hashlib.sha256(caption.encode()).digest()[0] % _HELD_OUT == 0


@functools.cache
def scenes(*, held_out: bool) -> tuple[Scene, ...]:
    """All combinations of attributes that are held out, or all that may be trained on; in a fixed order."""
    every = (
        Scene(count, size, color, shape, place)
        for count, size, color, shape, place in itertools.product(
            range(1, len(COUNTS) + 1), SIZES, COLORS, SHAPES, PLACES
        )
    )
    return tuple(scene for scene in every if is_held_out(scene.caption) == held_out)


def questions(scene: Scene, draw: random.Random) -> list[Question]:
    """One question of each kind; every other one of the last kind is about what is not there."""
    return [
        Question("color", "what color are the shapes?", scene.color),
        Question("shape", "what shapes are there?", scene.shape),
        Question("count", "how many shapes are there?", COUNTS[scene.count - 1]),
        Question("place", "where are the shapes?", scene.place),
        Question("size", "are the shapes small or large?", scene.size),
        _presence(scene, draw),
    ]


def _presence(scene: Scene, draw: random.Random) -> Question:
    """Is there a COLOR SHAPE? Of those that are not there one differs in its color, its shape, or both."""
    color, shape, answer = scene.color, scene.shape, YES
    if draw.random() < 0.5:
        answer, differs = NO, draw.randrange(3)
        color = _other(COLORS, color, draw) if differs != 1 else color
        shape = _other(SHAPES, shape, draw) if differs != 0 else shape
    return Question("presence", f"is there a {color} {shape}?", answer)


def _other(words: Sequence[str], word: str, draw: random.Random) -> str:
    return draw.choice([one for one in words if one != word])
