"""The frames of a sentence, of which samples are made: by an encoder that tells how long each sound takes and where it
lies, with drawn noise, and a flow. `stepped_frames` makes them the other way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import GraphError, InputError
from sanderling.voices.graphs import Frames, Manner, VoiceGraphs, Who
from sanderling.voices.rules import (
    DECODER,
    DURATION_NOISE,
    ENCODER,
    FLOW,
    IDS,
    LATENTS,
    LENGTH_SCALE,
    MEAN,
    SCALE,
    SPECTRUM,
)

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.schema.voices import SpeechOutput, VoiceSettings
    from sanderling.session import Arrays, Engine


class FrameMaker(Protocol):
    """One way from the ids of a sentence to its frames."""

    # The settings of a sentence without drawn noise, whatever the voice's own are.
    still: dict[str, float]

    def speaker(self, name: str | None, vector: object) -> Who:
        """Who speaks, as the graphs are told; by default the first. Raises InputError."""
        ...

    def checked(self, settings: VoiceSettings) -> VoiceSettings:
        """The settings, if this kind of voice has them. Raises InputError."""
        ...

    def frames(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: Manner,
        cancellation: Cancellation | None,
    ) -> Frames:
        """The frames of ids (1, tokens), with noise from `draw` or without."""
        ...

    def feeds(self, ids: NDArray[np.int64], how: Manner) -> dict[str, Arrays]:
        """What each graph is given for a sentence without noise, the last one all frames; of graphs that run step by
        step nothing."""
        ...


class FlowFrames:
    """Frames of a voice of encoder, flow and decoder."""

    def __init__(self, name: str, graphs: VoiceGraphs, head: SpeechOutput) -> None:
        self.still = {"noise": 0.0, "duration_noise": 0.0}
        self._name = name
        self._graphs = graphs
        self._speakers = head.speakers
        given = {spec.name: spec for spec in graphs.component(ENCODER).inputs}
        self._noises = int(given[DURATION_NOISE].shape[1])

    def speaker(self, name: str | None, vector: object) -> Who:
        if vector is not None:
            raise InputError(f"{self._name} takes no speaker_vector; voices that make frames step by step do.")
        return numbered(self._name, self._speakers, name)

    def checked(self, settings: VoiceSettings) -> VoiceSettings:
        return settings

    def frames(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: Manner,
        cancellation: Cancellation | None,
    ) -> Frames:
        latents = self._latents(engines[ENCODER], ids, draw, how, cancellation)
        feeds = self._graphs.told({LATENTS: latents}, FLOW, how.speaker)
        return Frames(self._graphs.frames(engines[FLOW], FLOW, feeds, SPECTRUM, cancellation))

    def feeds(self, ids: NDArray[np.int64], how: Manner) -> dict[str, Arrays]:
        engines = self._graphs.single()
        latents = self._latents(engines[ENCODER], ids, None, how, None)
        of_flow = self._graphs.told({LATENTS: latents}, FLOW, how.speaker)
        spectrum = self._graphs.frames(engines[FLOW], FLOW, of_flow, SPECTRUM, None)
        return {ENCODER: self._encoder_feeds(ids, None, how), FLOW: of_flow, DECODER: {SPECTRUM: spectrum}}

    def _latents(
        self,
        engine: Engine,
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: Manner,
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        outputs = engine.run(self._encoder_feeds(ids, draw, how), cancellation)
        mean, scale = outputs[MEAN], outputs[SCALE]
        if mean.shape != scale.shape or mean.ndim != 3 or mean.shape[0] != 1:
            raise GraphError(
                f"The encoder answers frames of {mean.shape} and {scale.shape}; (1, n, frames) was expected."
            )
        if draw is None or not how.settings.noise:
            found: NDArray[np.float32] = mean
            return found
        drawn = draw.standard_normal((mean.shape[2], mean.shape[1])).T.astype(np.float32)
        noisy: NDArray[np.float32] = mean + drawn * scale * np.float32(how.settings.noise)
        return noisy

    def _encoder_feeds(self, ids: NDArray[np.int64], draw: np.random.RandomState | None, how: Manner) -> Arrays:
        settings = how.settings
        noise = np.zeros((1, self._noises, ids.shape[1]), np.float32)
        if draw is not None and settings.duration_noise:
            noise[0] = draw.standard_normal((ids.shape[1], self._noises)).T * settings.duration_noise
        length = np.array([1 / settings.speed], np.float32)
        feeds: Arrays = {IDS: ids, DURATION_NOISE: noise, LENGTH_SCALE: length}
        return self._graphs.told(feeds, ENCODER, how.speaker)


def numbered(voice: str, known: Mapping[str, int], name: str | None) -> int | None:
    """What the graphs call the speaker `name`, by default the first; None for a voice of one. Raises InputError."""
    if name is not None and name not in known:
        raise InputError(f"{voice} has no speaker {name!r}; it has {', '.join(known) or 'only one, unnamed'}.")
    if not known:
        return None
    return known[name] if name is not None else next(iter(known.values()))
