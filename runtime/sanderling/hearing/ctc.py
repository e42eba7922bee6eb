"""Connectionist temporal classification: logits of frames to characters and words with their times. Arrays in.

Graves et al., "Connectionist Temporal Classification" (2006). A long sound is heard in windows that overlap; each of
its frames is taken from exactly one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.decode.pieces import without_blanks
from sanderling.schema.answers import CtcOutput


class Stretch(Struct, frozen=True):
    """A window of a sound: its samples from `first` to the one before `last`, and of the frames that the graph makes of
    them those from `begin` to the one before `end`, which are kept."""

    first: int
    last: int
    begin: int
    end: int


class Run(Struct, frozen=True):
    """One token of the transcript, in the frames from `first` to the one before `last`; its mean `probability`."""

    token: int
    first: int
    last: int
    probability: float


def frames_of(samples: int, head: CtcOutput) -> int:
    """How many frames the graph makes of so many samples."""
    return max(0, (samples - head.field) // head.hop + 1)


def stretches(samples: int, head: CtcOutput) -> Iterator[Stretch]:
    """The windows of a sound; the frames that are kept of them are all of the sound's, each once and in order."""
    frames = frames_of(samples, head)
    if frames <= head.window:
        yield Stretch(0, samples, 0, frames)
        return
    kept = start = 0
    while kept < frames:
        start = min(start, frames - head.window)
        last = start + head.window == frames
        until = frames if last else start + head.window - head.margin
        first = start * head.hop
        # The last one has the rest of the sound, which is too short for a frame more.
        end = samples if last else first + (head.window - 1) * head.hop + head.field
        yield Stretch(first, end, kept - start, until - start)
        kept = until
        start += head.window - 2 * head.margin


def best(logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most probable token of each frame of (frames, tokens), and its probability."""
    tokens = logits.argmax(axis=1)
    highest = logits[np.arange(len(logits)), tokens]
    return tokens, np.asarray(1.0 / np.exp(logits - highest[:, None]).sum(axis=1), np.float32)


def collapsed(tokens: NDArray[np.int64], chances: NDArray[np.float32], blank: int) -> list[Run]:
    """The transcript's tokens: of each that stands in several frames in a row one, without blanks."""
    if not len(tokens):
        return []
    begins = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]]))
    ends = np.append(begins[1:], len(tokens))
    sums = np.add.reduceat(chances.astype(np.float64), begins)
    return [
        Run(int(tokens[first]), int(first), int(last), float(total / (last - first)))
        for first, last, total in zip(begins, ends, sums, strict=True)
        if tokens[first] != blank
    ]


def text_of(runs: Sequence[Run], head: CtcOutput) -> str:
    """The text of tokens, without blanks at its ends."""
    said = "".join(" " if run.token == head.delimiter else head.tokens[run.token] for run in runs).strip()
    said = said.lower() if head.lowercase else said
    return without_blanks(said) if head.clean_up_spaces else said


def words_of(runs: Sequence[Run], head: CtcOutput) -> list[list[Run]]:
    """The tokens of each word; those that say nothing are in none. Without a delimiter each token is a word."""
    found: list[list[Run]] = []
    apart = True
    for run in runs:
        if run.token == head.delimiter:
            apart = True
        elif head.tokens[run.token]:
            if apart or head.delimiter is None:
                found.append([])
            found[-1].append(run)
            apart = False
    return found
