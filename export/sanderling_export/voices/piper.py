"""Piper's voices: an ONNX graph, and beside it a JSON file that says how texts become its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sanderling.errors import CheckpointError
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.voices import VoiceSettings
from sanderling_export.voices.original import VoiceWords

SUFFIX = ".onnx"
_BEGIN, _END, _PAD = "^", "$", "_"


class _Audio(Struct, frozen=True):
    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)]


class _Espeak(Struct, frozen=True):
    voice: str


class _Inference(Struct, frozen=True):
    noise_scale: float = 0.667
    length_scale: Annotated[float, Meta(gt=0.0)] = 1.0
    noise_w: float = 0.8


class _Config(Struct, frozen=True):
    audio: _Audio
    phoneme_id_map: dict[str, tuple[int, ...]]
    espeak: _Espeak | None = None
    phoneme_type: str = "espeak"
    inference: _Inference = _Inference()
    vowel_clusters: tuple[tuple[str, ...], ...] = ()
    num_speakers: int = 1
    speaker_id_map: dict[str, int] = {}


def config_of(graph: Path) -> Path:
    """Where the JSON file of a voice's graph is."""
    return graph.with_name(f"{graph.name}.json")


def read(graph: Path) -> VoiceWords:
    """The voice whose graph is `graph`. Raises CheckpointError: no JSON file beside it, or one that is not Piper's."""
    path = config_of(graph)
    if not path.is_file():
        raise CheckpointError(
            f"{graph} is an ONNX graph without {path.name} beside it. Of existing graphs, Piper's voices are imported, "
            "each with its JSON file; export other models from the checkpoint they were made of."
        )
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON file of a Piper voice: {error}. Fetch the voice again.") from error
    alphabet: dict[str, Literal["espeak", "characters"]] = {"espeak": "espeak", "text": "characters"}
    if config.phoneme_type not in alphabet or (config.phoneme_type == "espeak" and config.espeak is None):
        raise CheckpointError(
            f"{path}: the voice's phonemes are of the type {config.phoneme_type!r}; espeak (with its voice) and text "
            "are known."
        )
    known = config.phoneme_id_map
    missing = [sign for sign in (_BEGIN, _END, _PAD) if sign not in known]
    if missing:
        raise CheckpointError(f"{path}: phoneme_id_map has no {missing[0]!r}, which begins, ends or parts sentences.")
    inference = config.inference
    try:
        settings = msgspec.convert(
            {
                "speed": 1 / inference.length_scale,
                "noise": inference.noise_scale,
                "duration_noise": inference.noise_w,
            },
            VoiceSettings,
        )
        phonemes = msgspec.convert(
            {
                "alphabet": alphabet[config.phoneme_type],
                "voice": config.espeak.voice if config.espeak and config.phoneme_type == "espeak" else None,
                "ids": {symbol: ids for symbol, ids in known.items() if ids},
                "begin": known[_BEGIN],
                "end": known[_END],
                "pad": known[_PAD],
                "clusters": config.vowel_clusters,
            },
            PhonemesPreprocessing,
        )
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path} has a value that no voice can have: {error}.") from error
    speakers = config.speaker_id_map or {str(number): number for number in range(config.num_speakers)}
    several = speakers if config.num_speakers > 1 else {}
    return VoiceWords(phonemes, settings, config.audio.sample_rate, several, normalize="peak")
