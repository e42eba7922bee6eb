"""A feature extractor of transformers as the manifest's `preprocessing.audio`, proven against what it does."""

from __future__ import annotations

from typing import Any

import numpy as np

from sanderling.errors import CheckpointError
from sanderling.hearing.sound_front import VALUES, SoundFront
from sanderling.schema.sounds import AudioPreprocessing, Filterbank, Waveform
from sanderling.verification import MAX_AUDIO_DIFFERENCE
from sanderling_export.speech import sounds

_WAVE, _BANDS = "Wav2Vec2FeatureExtractor", "ASTFeatureExtractor"
# Kaldi's frames at 16 kHz, which the extractor of bands has no settings for.
_WINDOW, _HOP, _FFT = 400, 160, 512
# Made-up voices that are compared.
_COMPARED = 4


def is_wave(extractor: Any) -> bool:
    """Whether an extractor leaves sound as it is. Raises CheckpointError for one that is not known."""
    kind = type(extractor).__name__
    if kind not in (_WAVE, _BANDS):
        raise CheckpointError(
            f"The feature extractor {kind} is not known; Sanderling takes {_WAVE} and {_BANDS}: a model with another "
            "one cannot be exported."
        )
    return kind == _WAVE


def described(extractor: Any, least: int, most: int | None) -> AudioPreprocessing:
    """What `extractor` does. Waveforms of fewer than `least` samples are refused, those beyond `most` not heard.

    Raises CheckpointError: an extractor that is not known, or that does something else with a sound.
    """
    rate = int(extractor.sampling_rate)
    features: Waveform | Filterbank
    if is_wave(extractor):
        features = Waveform(least, most, bool(extractor.do_normalize))
    else:
        normal = bool(extractor.do_normalize)
        features = Filterbank(
            _WINDOW,
            _HOP,
            _FFT,
            int(extractor.num_mel_bins),
            int(extractor.max_length),
            mean=float(extractor.mean) if normal else 0.0,
            divisor=float(extractor.std) * 2 if normal else 1.0,
        )
    found = AudioPreprocessing(rate, features)
    _compare(extractor, found)
    return found


def _compare(extractor: Any, settings: AudioPreprocessing) -> None:
    front = SoundFront(settings, 1)
    for seed in range(_COMPARED):
        sound = sounds.voice(settings.rate, seed)
        expected = np.asarray(
            extractor(sound.samples, sampling_rate=sound.rate, return_tensors="np")[VALUES][0], np.float32
        )
        found = front.values(sound.samples)
        if found.shape != expected.shape or np.abs(found - expected).max() > MAX_AUDIO_DIFFERENCE:
            raise CheckpointError(
                f"The feature extractor {type(extractor).__name__} does more with a sound than its settings say."
            )
