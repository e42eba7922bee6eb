"""What a voice is calibrated and measured with: sentences, their symbols, and what each graph is given of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.preprocess import phonemes
from sanderling.voices.front import VoiceFront
from sanderling.voices.rules import (
    DECODER,
    DURATION_NOISE,
    ENCODER,
    FLOW,
    IDS,
    LATENTS,
    LENGTH_SCALE,
    SPEAKER,
    SPECTRUM,
    VOCODER,
)
from sanderling_export import graphs, references, texts
from sanderling_export.plan import Plan
from sanderling_export.voices import sentences
from sanderling_export.voices.original import Original, SteppedOriginal

# Frames of a calibration sample of the decoder, all alike.
_FRAMES = 64
_SEED = 20261122


def gather(plan: Plan, source: Original) -> tuple[Sequence[str], Sequence[str]]:
    """The texts that calibrate, and those that a voice is measured with."""
    own = plan.own_data
    if own is not None or plan.data.texts is not None:
        found = texts.read(own if own is not None else references.locate(str(plan.data.texts), plan.base))
        return found[::2], found[1::2]
    own_sentences = sentences.of(source.said.phonemes)
    return own_sentences.calibration, own_sentences.check


def symbols(front: VoiceFront, some: Sequence[str]) -> list[tuple[str, ...]]:
    """The symbols of each sentence of texts."""
    return [sentence for script in front.prepare(list(some), None) for sentence in script.sentences]


def feeds(
    fp32: Mapping[str, onnx.ModelProto], source: Original, calibration: Sequence[tuple[str, ...]]
) -> dict[str, list[dict[str, NDArray[np.generic]]]]:
    """What each graph is given for the sentences that calibrate, with noise; the frames in parts of one length. Of a
    voice that makes frames step by step, what its vocoder is given."""
    if isinstance(source, SteppedOriginal):
        of_steps = [source.spectrum(symbols, _SEED + number) for number, symbols in enumerate(calibration)]
        parts: list[dict[str, NDArray[np.generic]]] = [
            {SPECTRUM: part} for spectrum in of_steps for part in _parts(spectrum)
        ]
        return {name: parts if name == VOCODER else [] for name in fp32}
    runners = {name: graphs.session(model) for name, model in fp32.items()}
    found: dict[str, list[dict[str, NDArray[np.generic]]]] = {name: [] for name in fp32}
    settings = source.said.settings
    speaker = {SPEAKER: np.array([next(iter(source.said.speakers.values()), 0)], np.int64)}

    def run(name: str, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
        taken = {one.name for one in runners[name].get_inputs()}
        given = {key: value for key, value in {**feeds, **speaker}.items() if key in taken}
        result: list[NDArray[np.float32]] = runners[name].run(None, given)
        return result

    for number, symbols in enumerate(calibration):
        ids = phonemes.ids(symbols, source.said.phonemes)
        draw = np.random.RandomState([_SEED, number])
        noise = draw.standard_normal((1, 2, ids.shape[1])).astype(np.float32) * np.float32(settings.duration_noise)
        length = np.ones(1, np.float32)
        mean, scale = run(ENCODER, {IDS: ids, DURATION_NOISE: noise, LENGTH_SCALE: length})
        drawn = draw.standard_normal(mean.shape).astype(np.float32)
        latents = mean + drawn * scale * np.float32(settings.noise)
        (spectrum,) = run(FLOW, {LATENTS: latents})
        for name, key, frames in ((FLOW, LATENTS, latents), (DECODER, SPECTRUM, spectrum)):
            taken = {one.name for one in runners[name].get_inputs()}
            told = {k: v for k, v in speaker.items() if k in taken}
            found[name] += [{key: part, **told} for part in _parts(frames)]
    return found


def _parts(frames: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Frames (1, channels, frames) in parts of one length; what is left over goes, unless it is all there is."""
    count = frames.shape[2]
    size = min(_FRAMES, count)
    starts = range(0, count - size + 1, size) if size else ()
    return [np.ascontiguousarray(frames[:, :, start : start + size]) for start in starts]
