"""Scenes as pictures of 64 x 64 pixels, drawn with Pillow; where things stand and how they look vary with the seed."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from world.scenes import Scene

SIDE = 64
# Drawn this many times as large and averaged, for edges as a camera sees them.
_FINER = 2
# A quarter has 2 x 2 slots, each of which holds one thing at most.
_SLOT = SIDE // 4
# Pixels that a thing keeps from the edge of its slot, so that no two touch.
_GAP = 1
_DIAMETERS = {"small": (6.5, 8.5), "large": (12.0, 14.0)}
_RGB = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 80, 215),
    "yellow": (235, 200, 30),
    "purple": (150, 50, 175),
    "black": (30, 30, 30),
}
# How far a color's channels move, how light the ground is, and the noise of each pixel; of 255.
_SHIFT, _GROUND, _NOISE = 18, (214, 250), 6
_QUARTERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
# Of its diameter: the width of a ring's line, and of a cross's arms.
_RING, _ARM = 0.24, 0.34


def render(scene: Scene, draw: random.Random) -> Image.Image:
    """A picture (64 x 64, RGB) of a scene: slots, places in them, diameters, shades and noise are drawn at random."""
    canvas, pen = ground(draw)
    color = shade(scene.color, draw)
    across, down = _QUARTERS[scene.place]
    for slot in draw.sample(range(4), scene.count):
        diameter = draw.uniform(*_DIAMETERS[scene.size])
        room = (_SLOT - diameter) / 2 - _GAP
        x = (2 * across + slot % 2 + 0.5) * _SLOT + draw.uniform(-room, room)
        y = (2 * down + slot // 2 + 0.5) * _SLOT + draw.uniform(-room, room)
        thing(pen, scene.shape, color, x, y, diameter)
    return finished(canvas, draw)


def ground(draw: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture, and what draws on it in pixels of the finished one."""
    light = draw.randint(*_GROUND)
    canvas = Image.new("RGB", (SIDE * _FINER, SIDE * _FINER), (light, light, light))
    return canvas, ImageDraw.Draw(canvas)


def shade(color: str, draw: random.Random) -> tuple[int, ...]:
    """One of the shades of a color."""
    return tuple(min(255, max(0, channel + draw.randint(-_SHIFT, _SHIFT))) for channel in _RGB[color])


def thing(pen: ImageDraw.ImageDraw, shape: str, color: tuple[int, ...], x: float, y: float, diameter: float) -> None:
    """Draw one shape around (x, y), in pixels of the finished picture."""
    x, y, radius = x * _FINER, y * _FINER, diameter * _FINER / 2
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "ring":
        pen.ellipse(box, outline=color, width=max(1, round(2 * radius * _RING)))
    elif shape == "square":
        side = radius * 0.88
        pen.rectangle((x - side, y - side, x + side, y + side), fill=color)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=color)
    else:
        arm = radius * _ARM
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=color)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=color)


def finished(canvas: Image.Image, draw: random.Random) -> Image.Image:
    """The picture in its own size, with noise."""
    pixels = np.asarray(canvas.reduce(_FINER), np.int16)
    drawn = np.frombuffer(draw.randbytes(pixels.size), np.uint8).reshape(pixels.shape)
    noise = drawn.astype(np.int16) % (2 * _NOISE + 1) - _NOISE
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
