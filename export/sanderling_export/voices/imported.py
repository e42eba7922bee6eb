"""The original of a voice of Piper: its own graph, but that its noise is given: it always says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.errors import CheckpointError
from sanderling.preprocess import phonemes
from sanderling.reasons import first_line
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.voices import VoiceSettings
from sanderling_export import graphs
from sanderling_export.voices import piper, surgery
from sanderling_export.voices.original import VoiceWords, reach
from sanderling_export.voices.surgery import NOISE_OF_DURATIONS, NOISE_OF_FRAMES


@dataclass
class PiperOriginal:
    """A Piper voice: what its JSON file says, its graph with given noise, and the three graphs that it is cut into."""

    said: VoiceWords
    parts: dict[str, onnx.ModelProto]
    hop: int
    context: int
    _session: Any = field(repr=False)
    _mean: str
    vectors: NDArray[np.float32] | None = None

    def waveform(
        self, symbols: Sequence[str], seed: int | None, settings: VoiceSettings | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids (tokens,) of a sentence's symbols, and what the original says: float32 (samples,).

        Noise is drawn as the runtime draws it, of sentence 0; without a `seed` there is none.
        """
        settings = settings or self.said.settings
        ids = phonemes.ids(symbols, self.said.phonemes)
        draw = None if seed is None else np.random.RandomState([seed, 0])
        durations = np.zeros((1, 2, ids.shape[1]), np.float32)
        if draw is not None and settings.duration_noise:
            durations[0] = draw.standard_normal((ids.shape[1], 2)).T
        scales = [settings.noise, 1 / settings.speed, settings.duration_noise]
        feeds = {
            "input": ids,
            "input_lengths": np.array([ids.shape[1]], np.int64),
            "scales": np.array(scales if draw is not None else [0.0, scales[1], 0.0], np.float32),
            NOISE_OF_DURATIONS: durations,
            NOISE_OF_FRAMES: np.zeros((1, 1, 1), np.float32),
        }
        if self.said.speakers:
            feeds["sid"] = np.array([next(iter(self.said.speakers.values()))], np.int64)
        mean, wave = self._session.run([self._mean, self._session.get_outputs()[0].name], feeds)
        if draw is not None and settings.noise:
            drawn = draw.standard_normal((mean.shape[2], mean.shape[1])).T.astype(np.float32)
            wave = self._session.run(None, {**feeds, NOISE_OF_FRAMES: drawn[None]})[0]
        return ids[0], np.ascontiguousarray(wave.reshape(-1))


def load(path: Path) -> PiperOriginal:
    """The voice whose graph is at `path`. Raises CheckpointError: no voice of Piper, or one that is built otherwise."""
    said = piper.read(path)
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:
        raise CheckpointError(
            f"{path} is no valid ONNX graph: {first_line(error, 300)}. Fetch the voice again."
        ) from error
    places = surgery.find(model)
    masks = surgery.crossing(model, places)
    runner = graphs.session(surgery.reference(model, places))
    _prove_masks(model, places, masks, said.phonemes)
    parts = surgery.parts(model, places, masks)
    hop, context = reach(parts["decoder"], bool(said.speakers))
    return PiperOriginal(said, parts, hop, context, runner, places.mean)


def _prove_masks(
    model: onnx.ModelProto, places: surgery.Places, masks: set[str], settings: PhonemesPreprocessing
) -> None:
    """Raise CheckpointError unless what the later parts read of the encoder is 1 throughout, of one sentence."""
    watched = graphs.copied(model)
    for name in masks:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    runner = graphs.session(watched)
    for count in (5, 40):
        symbols = list(settings.ids)[:count]
        ids = phonemes.ids(symbols, settings)
        feeds = {
            places.ids: ids,
            places.lengths: np.array([ids.shape[1]], np.int64),
            places.scales: np.array([0.0, 1.0, 0.0], np.float32),
        }
        if places.speaker is not None:
            feeds[places.speaker] = np.zeros(1, np.int64)
        for name, value in zip(masks, runner.run(list(masks), feeds), strict=True):
            if value.dtype != np.float32 or not (value == 1).all():
                raise CheckpointError(
                    f"The graph is not built as the voices of Piper are: flow or decoder read {name!r} of the encoder, "
                    "which is no mask. Export another voice."
                )
