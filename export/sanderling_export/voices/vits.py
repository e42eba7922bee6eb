"""Voices of transformers' VITS (VitsModel, as the MMS voices): three graphs of its modules, and the original.

transformers draws noise inside of the model; here the same modules are called with noise that is given. One sentence is
a run, so that all masks are 1. Means and spreads are put in place of frames by looking them up, which is what
multiplying with a matrix of ones and zeros does.
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
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.voices import VoiceSettings
from sanderling.voices import rules
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.voices.original import VoiceWords, reach
from sanderling_export.voices.surgery import WAVEFORM
from sanderling_export.voices.traced import traced

# Tokens and frames of the sentence that is traced; any count is said.
_TOKENS, _FRAMES = 17, 23
_NOISES = 2
# What the tokenizer of transformers takes for white space at both ends of a sentence, and what is said as a blank.
_BLANKS = "\t\n\r"


@dataclass
class VitsOriginal:
    """A VITS of transformers: what its files say, its three graphs, and itself with noise that is given."""

    said: VoiceWords
    parts: dict[str, onnx.ModelProto]
    hop: int
    context: int
    _model: Any = field(repr=False)
    vectors: NDArray[np.float32] | None = None

    def waveform(
        self, symbols: Sequence[str], seed: int | None, settings: VoiceSettings | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids (tokens,) of a sentence's symbols, and what transformers' own forward says with the noise that the
        runtime draws of sentence 0: float32 (samples,). Without a `seed` there is none."""
        settings = settings or self.said.settings
        ids = phonemes.ids(symbols, self.said.phonemes)
        draw = None if seed is None else np.random.RandomState([seed, 0])
        noisy = settings if draw is not None else msgspec.structs.replace(settings, noise=0.0, duration_noise=0.0)
        speaker = next(iter(self.said.speakers.values()), None)
        return ids[0], with_noise(self._model, ids, draw, noisy, speaker)


def load(checkpoint: Checkpoint, scratch: Path) -> VitsOriginal:
    """The voice in a folder of transformers. Raises CheckpointError: no weights that transformers reads, a tokenizer
    that needs a phonemizer or a romanizer, or durations that are not drawn."""
    from transformers import VitsModel

    folder = checkpoint.folder
    try:
        model = VitsModel.from_pretrained(folder, local_files_only=True).eval()
    except Exception as error:
        raise CheckpointError(f"{folder} is no VITS that transformers reads: {first_line(error, 300)}.") from error
    config = model.config
    if not config.use_stochastic_duration_prediction:
        raise CheckpointError(
            f"{folder}: the durations of this VITS are not drawn (use_stochastic_duration_prediction is false); voices "
            "with a stochastic predictor of durations are exported."
        )
    said = VoiceWords(
        read_tokenizer(folder, int(config.vocab_size)),
        _settings(model, folder),
        int(config.sampling_rate),
        {str(number): number for number in range(config.num_speakers)} if config.num_speakers > 1 else {},
    )
    parts = to_graphs(model, scratch)
    hop, context = reach(parts[rules.DECODER], bool(said.speakers))
    return VitsOriginal(said, parts, hop, context, model)


def read_tokenizer(folder: Path, vocabulary: int) -> PhonemesPreprocessing:
    """What transformers' VitsTokenizer does, as data: `vocab.json` and `tokenizer_config.json` of `folder`.

    Raises CheckpointError for one that makes phonemes of texts, that romanizes them, or that keeps unknown signs.
    """
    known = read_json(folder / "vocab.json")
    said = read_json(folder / "tokenizer_config.json")
    if not known:
        raise CheckpointError(f"{folder} has no vocab.json, which says the ids of a voice's letters.")
    if said.get("phonemize", True):
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: texts become phonemes first (phonemize), by another espeak-ng than "
            "voices have here, which would say them otherwise. Voices of letters are exported, as those of MMS; of "
            "phonemes, those of Piper."
        )
    if said.get("is_uroman", False):
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: texts are written in Roman letters first (is_uroman), by a program "
            "that the runtime does not have. Export a voice whose letters are those of its language."
        )
    if not said.get("normalize", True):
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: signs without an id are kept (normalize is false), as the unknown "
            "one. Voices that leave them out are exported."
        )
    signs = {sign: number for sign, number in known.items() if isinstance(number, int) and len(sign) == 1}
    ids: dict[str, tuple[int, ...]] = {sign: (number,) for sign, number in signs.items()}
    wrong = [number for number in signs.values() if not 0 <= number < vocabulary]
    if wrong or not ids:
        raise CheckpointError(f"{folder / 'vocab.json'} has {wrong[:1] or 'no ids'}; 0 to {vocabulary - 1} expected.")
    if said.get("language") == "ron" and "ţ" in ids:
        ids["ț"] = ids["ţ"]  # Romanian is written with the one and the model knows the other
    if " " in ids:
        # transformers leaves these out and joins the words around them.
        ids |= {blank: ids[" "] for blank in _BLANKS if blank not in ids}
    return PhonemesPreprocessing(
        alphabet="characters",
        ids=ids,
        pad=(0,) if said.get("add_blank", True) else (),
        lowercase=True,
        normalization="none",
        blanks="trimmed",
    )


def to_graphs(model: Any, scratch: Path) -> dict[str, onnx.ModelProto]:
    """Encoder, flow and decoder of a VitsModel, as graphs. Scratch files go to `scratch`."""
    several = model.config.num_speakers > 1
    channels = int(model.config.flow_size)
    ids = torch.ones(1, _TOKENS, dtype=torch.int64)
    noise, length = torch.zeros(1, _NOISES, _TOKENS), torch.ones(1)
    frames = torch.zeros(1, channels, _FRAMES)
    told = (torch.zeros(1, dtype=torch.int64),) if several else ()
    of_frames: tuple[int | str, ...] = (1, channels, "frames")
    of_speaker: dict[str, dict[int, str]] = {rules.SPEAKER: {}} if several else {}
    return {
        rules.ENCODER: traced(
            _Encoder(model),
            (ids, noise, length, *told),
            {rules.IDS: {1: "tokens"}, rules.DURATION_NOISE: {2: "tokens"}, rules.LENGTH_SCALE: {}} | of_speaker,
            {rules.MEAN: of_frames, rules.SCALE: of_frames},
            scratch,
        ),
        rules.FLOW: traced(
            _Flow(model),
            (frames, *told),
            {rules.LATENTS: {2: "frames"}} | of_speaker,
            {rules.SPECTRUM: of_frames},
            scratch,
        ),
        rules.DECODER: traced(
            _Decoder(model),
            (frames, *told),
            {rules.SPECTRUM: {2: "frames"}} | of_speaker,
            {WAVEFORM: (1, "samples")},
            scratch,
        ),
    }


def with_noise(
    model: Any,
    ids: NDArray[np.int64],
    draw: np.random.RandomState | None,
    settings: VoiceSettings,
    speaker: int | None,
) -> NDArray[np.float32]:
    """The waveform (samples,) of ids (1, tokens) by transformers' own forward, whose noise is drawn from `draw` as the
    runtime draws it; a draw of None is zeros."""
    kept = torch.randn, torch.randn_like

    def durations(*size: int, **_: Any) -> torch.Tensor:
        if draw is None or not settings.duration_noise:
            return torch.zeros(size)
        batch, noises, tokens = size
        return torch.from_numpy(draw.standard_normal((tokens, noises)).T.astype(np.float32))[None].expand(batch, -1, -1)

    def frames(like: torch.Tensor, **_: Any) -> torch.Tensor:
        if draw is None or not settings.noise:
            return torch.zeros_like(like)
        return torch.from_numpy(draw.standard_normal((like.shape[2], like.shape[1])).T.astype(np.float32))[None]

    model.noise_scale, model.noise_scale_duration = settings.noise, settings.duration_noise
    model.speaking_rate = settings.speed
    torch.randn, torch.randn_like = durations, frames
    try:
        with torch.inference_mode():
            found = model(torch.from_numpy(ids), speaker_id=speaker).waveform
    finally:
        torch.randn, torch.randn_like = kept
    wave: NDArray[np.float32] = np.ascontiguousarray(found.numpy().reshape(-1))
    return wave


def _settings(model: Any, folder: Path) -> VoiceSettings:
    config = model.config
    try:
        return msgspec.convert(
            {
                "speed": float(config.speaking_rate),
                "noise": float(config.noise_scale),
                "duration_noise": float(config.noise_scale_duration),
            },
            VoiceSettings,
        )
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{folder / 'config.json'} has a value that no voice can have: {error}.") from error


class _Part(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def voice(self, told: tuple[torch.Tensor, ...]) -> torch.Tensor | None:
        """What says who speaks: (1, size, 1), or None where there is one speaker."""
        return self.model.embed_speaker(told[0]).unsqueeze(-1) if told else None


class _Encoder(_Part):
    def forward(
        self, input_ids: torch.Tensor, duration_noise: torch.Tensor, length_scale: torch.Tensor, *told: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        here = torch.ones_like(input_ids).to(torch.float32)
        encoded = self.model.text_encoder(input_ids=input_ids, padding_mask=here.unsqueeze(-1), return_dict=True)
        hidden, mask = encoded.last_hidden_state.transpose(1, 2), here.unsqueeze(1)
        lasting = torch.exp(self._log_durations(hidden, mask, duration_noise, self.voice(told))) * length_scale
        ends = torch.cumsum(torch.ceil(lasting), -1).reshape(-1, 1)
        # At least one frame, as in transformers.
        places = torch.arange(torch.clamp_min(ends[-1, 0], 1).to(torch.int64)).to(torch.float32)
        whose = (places.unsqueeze(0) >= ends).to(torch.int64).sum(0)
        means, spreads = encoded.prior_means.transpose(1, 2), encoded.prior_log_variances.transpose(1, 2)
        return means[:, :, whose], torch.exp(spreads[:, :, whose])

    def _log_durations(
        self, hidden: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor, voice: torch.Tensor | None
    ) -> torch.Tensor:
        """Logarithms of the frames that each token takes, (1, 1, tokens), from noise (1, 2, tokens) backwards through
        the flows of the predictor. The flow before the last of all is not used, as in transformers."""
        predictor = self.model.duration_predictor
        state = predictor.conv_pre(hidden)
        if voice is not None:
            state = state + predictor.cond(voice)
        state = predictor.conv_proj(predictor.conv_dds(state, mask))
        flows = list(reversed(predictor.flows))
        latents = noise
        for flow in [*flows[:-2], flows[-1]]:
            latents, _ = flow(torch.flip(latents, [1]), mask, global_conditioning=state, reverse=True)
        return latents[:, :1]


class _Flow(_Part):
    def forward(self, latents: torch.Tensor, *told: torch.Tensor) -> torch.Tensor:
        return self.model.flow(latents, torch.ones_like(latents[:, :1]), self.voice(told), reverse=True)


class _Decoder(_Part):
    def forward(self, spectrum: torch.Tensor, *told: torch.Tensor) -> torch.Tensor:
        return self.model.decoder(spectrum, self.voice(told)).reshape(1, -1)
