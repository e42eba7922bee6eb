"""A model that hears a stream in a process of its own: run as a script with a bundle, seconds, seed and a mode.

The stream is made of the recorded clips again and again, with pauses of a quiet room between them as the seed draws
them, some of which are too short to be any. It is handed over in chunks of mixed lengths, `fast` (as it is taken) or
`paced` (as a microphone gives it). The mode `leaking` is `fast` and keeps every chunk many times, as a bug would:
whoever measures growth has to find it.
Prints one JSON object: the text, what was said, the report, bytes resident along the stream, and when updates came.
"""

from __future__ import annotations

import csv
import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from checks import DATA
from numpy.typing import NDArray

import sanderling
from sanderling.preprocess.audio import decoded
from sanderling_bench.child import peak_memory

RATE = 16_000
# Seconds of a pause, and of one behind which somebody goes on; how often there is such a one.
PAUSES, SHORT_PAUSES, SHORT = (0.7, 2.5), (0.1, 0.3), 0.5
# The quiet room: white noise of so many decibels of full scale.
_ROOM = -70.0
# What is louder is speech, and samples that are kept around it.
_SOUNDING, _EDGE = 0.01, 800
# Parts of the stream whose memory is compared, and looks at it in each.
_PARTS = 12


def clips() -> list[tuple[NDArray[np.float32], str]]:
    """The recorded clips without the silence around them, and what is said in each."""
    folder = DATA / "speech"
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        found = [(decoded(folder / row["file"], RATE)[0], row["text"]) for row in csv.DictReader(file, delimiter="\t")]
    return [(_sounding(clip), text) for clip, text in found]


def _sounding(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    loud = np.flatnonzero(np.abs(clip) > _SOUNDING)
    return clip[max(0, loud[0] - _EDGE) : loud[-1] + _EDGE]


def stream(seconds: float, seed: int) -> Iterator[tuple[NDArray[np.float32], str]]:
    """Parts of a sound that lasts so long or a little longer, and what is said in each ("" in a pause)."""
    draw, noise, given = random.Random(seed), np.random.default_rng(seed), 0
    # In order: one sentence again and again is what a model that hears takes for its own stammering.
    for clip, text in cycle(clips()):
        if given >= seconds * RATE:
            return
        length = draw.uniform(*(SHORT_PAUSES if draw.random() < SHORT else PAUSES))
        pause = noise.normal(0, 10 ** (_ROOM / 20), int(length * RATE)).astype(np.float32)
        given += len(clip) + len(pause)
        yield clip, text
        yield pause, ""


class Source:
    """The stream as chunks of PCM, and what was said in it so far."""

    def __init__(self, seconds: float, seed: int, mode: str) -> None:
        self.said: list[str] = []
        self._seconds, self._seed, self._mode = seconds, seed, mode
        self._kept: list[Any] = []

    def __iter__(self) -> Iterator[bytes]:
        draw, begun, given = random.Random(self._seed), time.perf_counter(), 0
        for part, text in stream(self._seconds, self._seed):
            pcm = np.rint(part * 32767).astype("<i2")
            first = 0
            while first < len(pcm):
                chunk = pcm[first : first + draw.choice((160, 512, 1600, 4000))]
                first += len(chunk)
                given += len(chunk)
                if self._mode == "paced":
                    time.sleep(max(0.0, begun + given / RATE - time.perf_counter()))
                if self._mode == "leaking":
                    self._kept.append(np.repeat(chunk, 4).astype(np.complex128))
                yield chunk.tobytes()
            if text:
                self.said.append(text)


def main() -> None:
    folder, seconds, seed, mode = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    model: Any = sanderling.load(folder, threads=2)
    source = Source(seconds, seed, mode)
    process, texts = psutil.Process(), list[str]()
    resident: list[tuple[float, int]] = []
    came: list[tuple[float, float, bool]] = []
    begun = time.perf_counter()
    behind = "drop" if mode == "paced" else "wait"
    with model.live(source, rate=RATE, language="en", behind=behind) as live:
        for update in live:
            texts.append(update.text)
            resident.append((update.until, process.memory_info().rss))
            came.append((time.perf_counter() - begun, update.until, update.ended))
        report = live.report
    edges = [seconds * place / _PARTS for place in range(_PARTS + 1)]
    parts = [[size for until, size in resident if a <= until < b] for a, b in pairwise(edges)]
    print(
        json.dumps(
            {
                "variant": model.variant, "text": "".join(texts), "said": " ".join(source.said),
                "report": {name: getattr(report, name) for name in report.__struct_fields__},
                "resident": [median(part) for part in parts if part], "peak": peak_memory(), "came": came,
                "took": time.perf_counter() - begun,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
