"""`text-to-speech` by a voice that makes its frames one after the other, each from the one before.

The encoder reads a sentence once; the frame decoder is run step by step with a cache that stays where the provider
computes, until it says that the sentence ends; the postnet smooths all frames, and the vocoder makes samples of them,
in parts side by side as the decoder of other voices does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.decode.steps import empty, links
from sanderling.errors import BundleError, GraphError, InputError
from sanderling.manifest import FrameSteps, SpeechOutput, VoiceSettings
from sanderling.placement import Placement
from sanderling.preprocess import phonemes
from sanderling.tasks.text_to_speech import Voice, Who
from sanderling.voice_rules import (
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
    from sanderling.engines import Engines
    from sanderling.plan import Plan
    from sanderling.session import Arrays, Engine
    from sanderling.voice_front import VoiceFront

# A vector's largest number; those of speaker recognition are far below.
_MOST_IN_VECTOR = 1e6


class SteppedVoice(Voice):
    """A Voice whose frames are made step by step. Its `noise` is how much of the drawn dropout there is, from 0 (none)
    to 1; it has neither `speed` nor `duration_noise`."""

    _last = VOCODER

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: VoiceFront,
        engines: Mapping[str, Engines],
        head: SpeechOutput,
        vectors: NDArray[np.float32],
    ) -> None:
        super().__init__(bundle, plan, front, engines, head)
        assert head.steps is not None  # of whom else is it made
        self._steps: FrameSteps = head.steps
        self._component = bundle.manifest.components[FRAME_DECODER]
        given = {spec.name: spec.shape for spec in self._component.inputs}
        self._bands = int(given[FRAME][2])
        size = int(given[VECTOR][1])
        if vectors.shape != (vectors.shape[0], size) or max(head.speakers.values()) >= len(vectors):
            raise BundleError(
                f"{bundle.path}: the speakers' vectors have the shape {vectors.shape}; at least "
                f"{max(head.speakers.values()) + 1} of {size} numbers were expected. Export the bundle again."
            )
        self._vectors = vectors

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """As of every voice; of the frame decoder a first step is measured."""
        from sanderling.golden import inputs_of, read_golden  # only for those who measure

        if inputs is None:
            inputs = inputs_of(self.bundle, read_golden(self.bundle), self.takes)
        engines = {name: part.single for name, part in self._parts.items()}
        speaker = self.first_speaker
        feeds: dict[str, list[Arrays]] = {ENCODER: [], POSTNET: [], VOCODER: []}
        for script in self._voice_front.prepare(list(inputs), None):
            for symbols in script.sentences:
                ids = phonemes.ids(symbols, self._voice_front.settings)
                raw = self._raw(engines, ids, None, (self.settings, speaker), None)
                feeds[ENCODER].append({IDS: ids})
                feeds[POSTNET].append({RAW: raw})
                feeds[VOCODER].append({SPECTRUM: engines[POSTNET].run({RAW: raw})[SPECTRUM]})
        return self._timed(feeds, whole_number("runs", runs))

    def _speaker(self, name: str | None, vector: object = None) -> Who:
        if vector is None:
            number = super()._speaker(name)
            assert isinstance(number, int)  # there is at least one
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

    def _checked(self, settings: VoiceSettings) -> VoiceSettings:
        for name in ("speed", "duration_noise"):
            if getattr(settings, name) != getattr(self.settings, name):
                raise InputError(f"{self.name} has no {name}: it says by itself how long every sound takes.")
        if settings.noise > 1:
            raise InputError(
                f"noise is {settings.noise!r}; from 0 (none) to 1 was expected: the drawn dropout's share."
            )
        return settings

    def _frames(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: tuple[VoiceSettings, Who],
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        raw = self._raw(engines, ids, draw, how, cancellation)
        found: NDArray[np.float32] = engines[POSTNET].run({RAW: raw}, cancellation)[SPECTRUM]
        if found.shape != raw.shape:
            raise GraphError(f"The postnet answers {raw.shape} with {found.shape}; the same shape was expected.")
        if not np.isfinite(found).all():
            raise self._not_finite("of the postnet graph")
        return found

    def _raw(
        self,
        engines: Mapping[str, Engine],
        ids: NDArray[np.int64],
        draw: np.random.RandomState | None,
        how: tuple[VoiceSettings, Who],
        cancellation: Cancellation | None,
    ) -> NDArray[np.float32]:
        """The frames (1, bands, frames) as the steps leave them."""
        steps, (settings, vector) = self._steps, how
        read = engines[ENCODER].hold({IDS: ids}, cancellation)
        chain = engines[FRAME_DECODER].chain(links(self._component), empty(self._component, 1), read)
        frame = np.zeros((1, 1, self._bands), np.float32)
        assert isinstance(vector, np.ndarray)  # _speaker gives no other
        found = []
        for step in range(most_steps(ids.shape[1], steps)):
            feeds: Arrays = {
                FRAME: frame,
                STEP: np.array([step], np.int64),
                DROPOUT: dropout(draw, steps, settings.noise),
                VECTOR: vector,
            }
            made = chain.run(feeds, cancellation)
            frames, end = made[RAW], made[END]
            if frames.shape != (1, steps.frames, self._bands) or end.shape != (1, steps.frames):
                raise GraphError(
                    f"The frame decoder answers {frames.shape} and {end.shape}; (1, {steps.frames}, {self._bands}) and "
                    f"(1, {steps.frames}) were expected."
                )
            if not np.isfinite(frames).all():
                raise self._not_finite("of the frame decoder graph")
            found.append(frames[0])
            frame = frames[:, -1:]
            if float(end.sum()) >= steps.threshold:
                break
        return np.ascontiguousarray(np.concatenate(found).T[None])


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
