"""The frames of a voice that makes them one after the other, each from the one before.

The encoder reads a sentence once; the frame decoder is run step by step with a cache that stays where the provider
computes, until it says that the sentence ends; the postnet smooths all frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling.decode.steps import empty, links
from sanderling.errors import BundleError, GraphError, InputError
from sanderling.voices.frames import numbered
from sanderling.voices.graphs import Frames, Manner, VoiceGraphs, Who
from sanderling.voices.rules import (
    DROPOUT,
    ENCODER,
    END,
    FRAME,
    FRAME_DECODER,
    IDS,
    POSTNET,
    RAW,
    SPECTRUM,
    STEP,
    VECTOR,
    VOCODER,
)

if TYPE_CHECKING:
    from sanderling.bundle import Bundle
    from sanderling.cancellation import Cancellation
    from sanderling.schema.voices import FrameSteps, SpeechOutput, VoiceSettings
    from sanderling.session import Arrays, Engine

# A vector's largest number; those of speaker recognition are far below.
_MOST_IN_VECTOR = 1e6


class SteppedFrames:
    """Frames of a voice of encoder, frame decoder, postnet and vocoder. Its `noise` is how much of the drawn dropout
    there is, from 0 (none) to 1; it has neither `speed` nor `duration_noise`."""

    def __init__(
        self, bundle: Bundle, graphs: VoiceGraphs, head: SpeechOutput, steps: FrameSteps, vectors: NDArray[np.float32]
    ) -> None:
        self.still = {"noise": 0.0}
        self._name = bundle.manifest.name
        self._graphs = graphs
        self._head = head
        self._steps = steps
        self._component = graphs.component(FRAME_DECODER)
        given = {spec.name: spec.shape for spec in self._component.inputs}
        self._bands = int(given[FRAME][2])
        size = int(given[VECTOR][1])
        if vectors.shape != (vectors.shape[0], size) or max(head.speakers.values()) >= len(vectors):
            raise BundleError(
                f"{bundle.path}: the speakers' vectors have the shape {vectors.shape}; at least "
                f"{max(head.speakers.values()) + 1} of {size} numbers were expected. Export the bundle again."
            )
        self._vectors = vectors

    def speaker(self, name: str | None, vector: object) -> Who:
        if vector is None:
            number = numbered(self._name, self._head.speakers, name)
            assert number is not None  # there is at least one
            return self._vectors[number : number + 1]
        if name is not None:
            raise InputError("speaker and speaker_vector were both given; give one of them.")
        found = np.asarray(vector)
        size = self._vectors.shape[1]
        if found.shape != (size,) or found.dtype.kind not in "fiu":
            raise InputError(f"speaker_vector has the shape {found.shape}; ({size},) of numbers was expected.")
        if not np.isfinite(found).all() or np.abs(found).max() > _MOST_IN_VECTOR or not found.any():
            raise InputError(
                f"speaker_vector has numbers that are not finite or above {_MOST_IN_VECTOR:g}, or it is all zeros."
            )
        return found.astype(np.float32)[None]

    def checked(self, settings: VoiceSettings) -> VoiceSettings:
        for name in ("speed", "duration_noise"):
            if getattr(settings, name) != getattr(self._head.settings, name):
                raise InputError(f"{self._name} has no {name}: it says by itself how long every sound takes.")
        if settings.noise > 1:
            raise InputError(
                f"noise is {settings.noise!r}; from 0 (none) to 1 was expected: the drawn dropout's share."
            )
        return settings

    def frames(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: Manner,
        cancellation: Cancellation | None,
    ) -> Frames:
        raw, finished = self._raw(engines, ids, draw, how, cancellation)
        return Frames(self._graphs.frames(engines[POSTNET], POSTNET, {RAW: raw}, SPECTRUM, cancellation), finished)

    def feeds(self, ids: NDArray[np.int64], how: Manner) -> dict[str, Arrays]:
        engines = self._graphs.single()
        raw, _ = self._raw(engines, ids, None, how, None)
        spectrum = self._graphs.frames(engines[POSTNET], POSTNET, {RAW: raw}, SPECTRUM, None)
        return {ENCODER: {IDS: ids}, POSTNET: {RAW: raw}, VOCODER: {SPECTRUM: spectrum}}

    def _raw(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: Manner,
        cancellation: Cancellation | None,
    ) -> tuple[NDArray[np.float32], bool]:
        """The frames (1, bands, frames) as the steps leave them, and whether the voice ended the sentence itself."""
        steps, vector = self._steps, how.speaker
        read = engines[ENCODER].hold({IDS: ids}, cancellation)
        chain = engines[FRAME_DECODER].chain(links(self._component), empty(self._component, 1), read)
        frame = np.zeros((1, 1, self._bands), np.float32)
        assert isinstance(vector, np.ndarray)  # speaker() gives no other
        found, finished = [], False
        for step in range(most_steps(ids.shape[1], steps)):
            feeds: Arrays = {
                FRAME: frame,
                STEP: np.array([step], np.int64),
                DROPOUT: dropout(draw, steps, how.settings.noise),
                VECTOR: vector,
            }
            made = chain.run(feeds, cancellation)
            frames, end = made[RAW], made[END]
            if frames.shape != (1, steps.frames, self._bands) or end.shape != (1, steps.frames):
                raise GraphError(
                    f"The frame decoder answers {frames.shape} and {end.shape}; (1, {steps.frames}, {self._bands}) and "
                    f"(1, {steps.frames}) were expected."
                )
            found.append(self._graphs.finite(frames, "frame decoder")[0])
            frame = frames[:, -1:]
            finished = float(end.sum()) >= steps.threshold
            if finished:
                break
        return np.ascontiguousarray(np.concatenate(found).T[None]), finished


def most_steps(tokens: int, steps: FrameSteps) -> int:
    """After how many steps a sentence of so many tokens ends, whatever the frame decoder says."""
    return min(max(1, int(tokens * steps.most_per_token / steps.frames)), steps.most_steps)


def dropout(draw: np.random.RandomState | None, steps: FrameSteps, share: float) -> NDArray[np.float32]:
    """The factors (1, layers, units) of one step, drawn; `share` from 0 (all are 1) to 1.

    As in transformers, a unit is kept with the chance `dropout`, and then multiplied by 1 / (1 - `dropout`): with 0.5,
    which these voices have, that is what dropout does elsewhere.
    """
    factors = np.ones((1, steps.layers, steps.units), np.float32)
    if draw is None or not share:
        return factors
    kept = draw.random_sample((steps.layers, steps.units)) < steps.dropout
    drawn = np.where(kept, 1 / (1 - steps.dropout), 0.0)
    return (factors + share * (drawn - 1)).astype(np.float32)
