"""Small videos written by PyAV: plain colours one after the other, a moving bar, sound alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 40), (30, 40, 220), (120, 120, 120)
SIZE = (96, 64)


def plain(color: tuple[int, int, int], size: tuple[int, int] = SIZE) -> Image.Image:
    """A frame of one colour."""
    return Image.new("RGB", size, color)


def write(
    path: Path,
    frames: Sequence[Image.Image],
    rate: int = 8,
    *,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
) -> Path:
    """A video of these frames; `options` are the container's."""
    import av

    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        # Fine enough that colours are as they were, give or take a few.
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 3
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size = rate
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def colors(path: Path, seconds: Sequence[tuple[tuple[int, int, int], float]], rate: int = 8, **more: Any) -> Path:
    """A video of plain colours, each for so many seconds."""
    frames = [plain(color) for color, length in seconds for _ in range(round(length * rate))]
    return write(path, frames, rate, **more)


def sound(path: Path) -> Path:
    """A second of sound, and nothing to be seen."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        tone = (np.sin(np.arange(16_000) / 9) * 9_000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate = 16_000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def nearest(image: Image.Image) -> tuple[int, int, int]:
    """Which of the colours a frame is."""
    seen = np.asarray(image.convert("RGB"), float).reshape(-1, 3).mean(axis=0)
    return min((RED, GREEN, BLUE, GREY), key=lambda color: float(np.abs(seen - color).sum()))
