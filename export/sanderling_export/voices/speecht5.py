"""Voices of transformers' SpeechT5: encoder, frame decoder with a cache, postnet and HiFi-GAN vocoder as graphs.

The prenet of the frame decoder applies dropout at inference, too: drawn once a frame, the same for a batch, with
torch's own generator. Here its factors are an input, one row for each layer of the prenet. The runtime draws them by
the seed of a call, or gives ones, which is no dropout; and the original is given the same factors in the place of its
own draw, so that both can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from sanderling.errors import CheckpointError
from sanderling.preprocess import phonemes
from sanderling.reasons import first_line
from sanderling.schema.voices import FrameSteps, VoiceSettings
from sanderling.voices.rules import VOCODER
from sanderling.voices.stepped_frames import dropout, most_steps
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.voices import character_tokens
from sanderling_export.voices.original import VoiceWords, reach
from sanderling_export.voices.speecht5_graphs import to_graphs

# Where the vocoder's checkpoint and the speakers' vectors are, inside the voice's folder.
VOCODER_FOLDER, VECTORS_FILE = "vocoder", "speaker_embeddings.safetensors"
# As transformers' generate_speech, unless it is told otherwise.
_THRESHOLD, _MOST_PER_TOKEN = 0.5, 20.0


@dataclass
class SpeechT5Original:
    """A SpeechT5: what its files say, its graphs, its speakers' vectors, and itself with dropout that is given."""

    said: VoiceWords
    parts: dict[str, onnx.ModelProto]
    hop: int
    context: int
    vectors: NDArray[np.float32] | None
    _model: Any = field(repr=False)
    _vocoder: Any = field(repr=False)

    def waveform(
        self, symbols: Sequence[str], seed: int | None, settings: VoiceSettings | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids (tokens,) of a sentence's symbols, and what transformers' generate_speech says with the dropout that
        the runtime draws of sentence 0, by the first speaker: float32 (samples,). Without a `seed` there is none."""
        ids = phonemes.ids(symbols, self.said.phonemes)
        draw = None if seed is None else np.random.RandomState([seed, 0])
        return ids[0], self._spoken(ids, draw, settings or self.said.settings, self._vocoder).reshape(-1)

    def spectrum(self, symbols: Sequence[str], seed: int) -> NDArray[np.float32]:
        """The frames (1, bands, frames), float32, that `waveform` makes samples of."""
        ids = phonemes.ids(symbols, self.said.phonemes)
        found = self._spoken(ids, np.random.RandomState([seed, 0]), self.said.settings, None)
        return np.ascontiguousarray(found.T[None])

    def _spoken(
        self, ids: NDArray[np.int64], draw: np.random.RandomState | None, settings: VoiceSettings, vocoder: Any
    ) -> NDArray[np.float32]:
        number = next(iter(self.said.speakers.values()))
        assert self.said.steps is not None  # load() has them, and the vectors
        assert self.vectors is not None
        return spoken(self._model, vocoder, ids, self.vectors[number], draw, (self.said.steps, settings.noise))


def load(checkpoint: Checkpoint, scratch: Path) -> SpeechT5Original:
    """The voice in a folder of transformers. Raises CheckpointError: weights that transformers does not read, no
    vocoder, no vectors of speakers, a tokenizer of other tokens than characters."""
    from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan

    folder = checkpoint.folder
    if not (folder / VOCODER_FOLDER / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has no vocoder, which makes samples of frames. Put the checkpoint of a SpeechT5HifiGan (such as "
            f"microsoft/speecht5_hifigan) into {folder / VOCODER_FOLDER}."
        )
    names, vectors = read_vectors(folder / VECTORS_FILE)
    try:
        model = SpeechT5ForTextToSpeech.from_pretrained(folder, local_files_only=True).eval()
        vocoder = SpeechT5HifiGan.from_pretrained(folder / VOCODER_FOLDER, local_files_only=True).eval()
    except Exception as error:
        raise CheckpointError(f"{folder} is no SpeechT5 that transformers reads: {first_line(error, 300)}.") from error
    config = model.config
    if vectors.shape[1] != config.speaker_embedding_dim or vocoder.config.model_in_dim != config.num_mel_bins:
        raise CheckpointError(
            f"{folder}: speakers' vectors of {vectors.shape[1]} numbers and a vocoder of {vocoder.config.model_in_dim} "
            f"bands were found; the voice takes {config.speaker_embedding_dim} and makes {config.num_mel_bins}."
        )
    # The end of a sentence and the blank before it take places, too.
    tokens = character_tokens.read(folder, int(config.vocab_size), int(config.max_text_positions) - 2)
    parts = to_graphs(model, vocoder, scratch)
    hop, context = reach(parts[VOCODER], False)
    said = VoiceWords(
        tokens,
        VoiceSettings(1.0, 1.0, 0.0),
        int(vocoder.config.sampling_rate),
        {name: number for number, name in enumerate(names)},
        steps=_steps(config, folder),
    )
    return SpeechT5Original(said, parts, hop, context, vectors, model, vocoder)


def read_vectors(path: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of speakers, and their vectors (speakers, size), of a safetensors file with a tensor (size,) for each.

    Raises CheckpointError: no such file, or vectors that differ in size or are not finite.
    """
    from safetensors.numpy import load_file

    if not path.is_file():
        raise CheckpointError(
            f"{path} is not there: a voice of SpeechT5 sounds as a vector (x-vector) of a speaker says. Write one, or "
            'several, by names: safetensors.numpy.save_file({"alice": vector}, path), float32 of the shape (512,).'
        )
    try:
        found = {name: np.asarray(one, np.float32).reshape(-1) for name, one in load_file(path).items()}
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}.") from error
    if not found or len({one.shape for one in found.values()}) != 1 or not all(map(_usable, found.values())):
        raise CheckpointError(f"{path}: vectors of one size, finite and not all zeros, were expected, a name each.")
    names = tuple(sorted(found))
    return names, np.stack([found[name] for name in names])


def spoken(
    model: Any,
    vocoder: Any,
    ids: NDArray[np.int64],
    vector: NDArray[np.float32],
    draw: np.random.RandomState | None,
    told: tuple[FrameSteps, float],
) -> NDArray[np.float32]:
    """The waveform (samples,), or without a vocoder the frames (frames, bands), by transformers' generate_speech, its
    dropout drawn from `draw` as the runtime draws it; a draw of None is without any. `told` are the steps, and how much
    dropout there is."""
    prenet = model.speecht5.decoder.prenet
    drawn: list[NDArray[np.float32]] = []
    calls = 0

    def given(states: torch.Tensor, _: float) -> torch.Tensor:
        nonlocal calls
        layer, calls = calls % len(prenet.layers), calls + 1
        while len(drawn) < states.shape[1]:
            drawn.append(dropout(draw, *told))
        # Each frame has the factors of its own step, whatever is read again.
        factors = np.stack([one[0, layer] for one in drawn[: states.shape[1]]])
        return states * torch.from_numpy(factors)[None]

    kept = prenet._consistent_dropout
    prenet._consistent_dropout = given
    try:
        with torch.inference_mode():
            wave = model.generate_speech(
                torch.from_numpy(ids),
                torch.from_numpy(vector)[None],
                vocoder=vocoder,
                threshold=told[0].threshold,
                # Frames a token; transformers fails beyond the positions that the model has.
                maxlenratio=(most_steps(ids.shape[1], told[0]) + 0.5) * told[0].frames / ids.shape[1],
            )
    finally:
        prenet._consistent_dropout = kept
    found: NDArray[np.float32] = np.ascontiguousarray(wave.numpy())
    return found


def _steps(config: Any, folder: Path) -> FrameSteps:
    try:
        return msgspec.convert(
            {
                "frames": int(config.reduction_factor),
                "layers": int(config.speech_decoder_prenet_layers),
                "units": int(config.speech_decoder_prenet_units),
                "vectors": "to be written",
                "dropout": float(config.speech_decoder_prenet_dropout),
                "threshold": _THRESHOLD,
                "most_per_token": _MOST_PER_TOKEN,
                "most_steps": int(config.max_speech_positions),
            },
            FrameSteps,
        )
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{folder / 'config.json'} has a value that no voice can have: {error}.") from error


def _usable(vector: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(vector).all() and vector.any())
