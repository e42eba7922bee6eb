"""From frames to samples: the last graph of a voice, run on parts of a sentence side by side, since what it makes of a
frame depends on a few around it alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import GraphError
from sanderling.voices.graphs import VoiceGraphs, Who
from sanderling.voices.rules import SPECTRUM

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.schema.voices import SpeechOutput
    from sanderling.session import Arrays
    from sanderling.workers import Workers

# Frames of one run: fewer make its borders dear, more take memory (about 130 KB each).
LEAST_FRAMES, MOST_FRAMES = 64, 1024


class Vocoding:
    """The graph `name` of a voice, which makes samples of frames."""

    def __init__(self, graphs: VoiceGraphs, name: str, head: SpeechOutput) -> None:
        self.name = name
        self._graphs = graphs
        self._head = head

    @property
    def workers(self) -> Workers:
        """Who runs it side by side."""
        return self._graphs.parts[self.name].workers

    def of_several(
        self, spectra: Sequence[NDArray[np.float32]], speaker: Who, cancellation: Cancellation | None
    ) -> list[NDArray[np.float32]]:
        """The waveform (samples,) of each sentence's frames (1, channels, frames), parts of them on all workers."""
        runs = parted([one.shape[2] for one in spectra], self.workers.count)
        pieces: list[NDArray[np.float32] | None] = [None] * len(runs)

        def samples(number: int) -> None:
            place, first, last = runs[number]
            pieces[number] = self.part(spectra[place], first, last, speaker, cancellation)

        self.workers.each(range(len(runs)), samples)
        waves: list[list[NDArray[np.float32]]] = [[] for _ in spectra]
        for (place, _, _), piece in zip(runs, pieces, strict=True):
            if piece is not None:
                waves[place].append(piece)
        return [self._levelled(np.concatenate(one) if one else np.empty(0, np.float32)) for one in waves]

    def part(
        self,
        spectrum: NDArray[np.float32],
        first: int,
        last: int,
        speaker: Who,
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        """The samples of the frames from `first` to before `last`, which see as many around them as they depend on."""
        head = self._head
        low, high = max(0, first - head.context), min(spectrum.shape[2], last + head.context)
        feeds: Arrays = {SPECTRUM: np.ascontiguousarray(spectrum[:, :, low:high])}
        engine = self._graphs.parts[self.name].many()
        wave = engine.run(self._graphs.told(feeds, self.name, speaker), cancellation)[head.output]
        if wave.shape != (1, (high - low) * head.hop):
            raise GraphError(
                f"The {self.name} answers {high - low} frames with the shape {wave.shape}; "
                f"(1, {(high - low) * head.hop}) was expected."
            )
        made = self._graphs.finite(wave, self.name)
        kept: NDArray[np.float32] = made[0, (first - low) * head.hop : (last - low) * head.hop]
        return kept

    def _levelled(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._head.normalize == "peak":
            peak = float(np.abs(wave).max(initial=0.0))
            wave = wave / np.float32(peak) if peak > 1e-8 else np.zeros_like(wave)
        return np.clip(wave, -1.0, 1.0)


def parted(frames: Sequence[int], workers: int) -> list[tuple[int, int, int]]:
    """The runs of sentences of so many frames: sentence, first frame, and the one after the last.

    A sentence by itself is shared by all workers evenly; of several, only those much longer than a worker's share of
    all are parted, since each border is computed twice.
    """
    total = sum(frames)
    share = -(-total // workers) if len(frames) == 1 else max(4 * LEAST_FRAMES, total // (3 * workers))
    size = min(MOST_FRAMES, max(LEAST_FRAMES, share))
    found = []
    for place, count in enumerate(frames):
        parts = max(1, -(-count // size))
        edges = [count * number // parts for number in range(parts + 1)]
        found += [(place, first, last) for first, last in pairwise(edges) if last > first]
    return found


def in_a_row(waves: Sequence[NDArray[np.float32]], pause: int) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Waveforms (samples,) one after the other with `pause` samples of silence between them, and where each starts."""
    parts: list[NDArray[np.float32]] = []
    starts = []
    length = 0
    for wave in waves:
        if parts and pause:
            parts.append(np.zeros(pause, np.float32))
            length += pause
        starts.append(length)
        parts.append(wave)
        length += len(wave)
    return (parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.float32)])), tuple(starts)
