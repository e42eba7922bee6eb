"""The original of a model that hears: Whisper in transformers, which every variant is measured against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.errors import CheckpointError
from sanderling.generation.rules import AUDIO_ENCODER, DECODER
from sanderling.hearing.audio_front import FEATURES
from sanderling.schema.generation import GenerationOutput, GenerationSettings, SpeechTokens
from sanderling.schema.sounds import AudioPreprocessing, LogMel
from sanderling_export import tokens
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.generation import settings
from sanderling_export.generation.decoders import LOGITS, Shape
from sanderling_export.speech import ctranslate, voice
from sanderling_export.speech.whisper import WhisperDecoder, WhisperEncoder, decoder_to_onnx, encoder_to_onnx

Array = NDArray[Any]
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_LANGUAGE = re.compile(r"^<\|([a-z]{2,3})\|>$")
# Of the window's frames, how many a short one has at least. With Whisper base, fewer lose words: see docs/speech.md.
_SHORT = 0.5
_FIRST_TIME = "<|0.00|>"
# Of a generation config, what is read here and not as settings of how tokens are chosen.
_OF_SPEECH = {
    "alignment_heads", "begin_suppress_tokens", "suppress_tokens", "forced_decoder_ids",
    "is_multilingual", "lang_to_id", "language", "task", "task_to_id", "max_initial_timestamp_index",
    "no_timestamps_token_id", "prev_sot_token_id",
    "return_timestamps", "median_filter_width", "begin_index", "no_speech_threshold", "logprob_threshold",
    "compression_ratio_threshold", "condition_on_prev_tokens",
}  # fmt: skip


class WhisperOriginal:
    """WhisperForConditionalGeneration, from transformers' folder or from CTranslate2's."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        folder = checkpoint.folder
        if ctranslate.is_folder(checkpoint):
            model = ctranslate.model(checkpoint)
            extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
        else:
            model = WhisperForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32, **_LOCAL)
            extractor = WhisperFeatureExtractor.from_pretrained(str(folder), **_LOCAL)
        model.set_attn_implementation("eager")  # plain products, which quantization knows
        self.model = model.eval()
        self._extractor = extractor
        self._tokenizer = _tokenizer(folder)
        config = model.config
        self.audio = _audio(extractor, config, voiced=options.voice_activity is not None)
        generation = model.generation_config
        ends = settings.stop_tokens(generation.eos_token_id, config.eos_token_id)
        starts = settings.stop_tokens(generation.decoder_start_token_id, config.decoder_start_token_id)[:1]
        if not starts or not ends:
            raise CheckpointError("The checkpoint does not say with which tokens transcripts begin and end.")
        context = int(config.max_target_positions)
        self.speech = _speech(self._tokenizer, generation, config)
        head = GenerationOutput(
            LOGITS,
            int(config.vocab_size),
            min(context, options.max_tokens or context),
            ends,
            starts,
            options.generation or _settings(generation, context),
            speech=self.speech,
        )
        text = tokens.settings(self._tokenizer, head.context, False, {}, None)
        self.description = Description(
            "automatic-speech-recognition",
            head,
            text=replace(text, padding_side="left", pad_token_id=ends[0]),
            tokenizer=tokens.tokenizer_json(self._tokenizer),
            audio=self.audio,
        )
        heads = int(config.decoder_attention_heads)
        self.shape = Shape(int(config.decoder_layers), heads, int(config.d_model) // heads, int(config.vocab_size))
        self.start_ids = self._begun(starts)

    def _begun(self, starts: Sequence[int]) -> tuple[int, ...]:
        """A transcript without times: in English where it knows that, else in its first language."""
        known, speech = self.speech.languages, self.speech
        language = known.get("en", next(iter(known.values()), None))
        middle = [] if language is None else [language]
        middle += [] if speech.transcribe is None else [speech.transcribe]
        return (*starts, *middle, speech.no_timestamps)

    def inputs(self, item: Audio) -> dict[str, Array]:
        """The spectrogram of the library's own feature extractor."""
        found = self._extractor(item.samples, sampling_rate=item.rate, return_tensors="np")
        return {FEATURES: np.asarray(found[FEATURES][0], np.float32)}

    def start(self, item: Audio) -> NDArray[np.int64]:
        """The tokens that every transcript is begun with here."""
        del item
        return np.array(self.start_ids, np.int64)

    def forced(self, item: Audio, following: Sequence[int]) -> NDArray[np.float32]:
        """Logits (n + 1, vocabulary) of the next token behind `start`, and behind each of `following` (n,)."""
        ids = torch.tensor([[*self.start_ids, *following]])
        with torch.inference_mode():
            logits = self.model(encoder_outputs=(self._states(item),), decoder_input_ids=ids).logits[0]
        return np.asarray(logits[len(self.start_ids) - 1 :].numpy(), np.float32)

    def greedy(self, item: Audio, count: int) -> list[int]:
        """The most probable token each time, none of them ruled out."""
        found: list[int] = []
        states = self._states(item)
        with torch.inference_mode():
            for _ in range(count):
                ids = torch.tensor([[*self.start_ids, *found]])
                logits = self.model(encoder_outputs=(states,), decoder_input_ids=ids).logits
                found.append(int(logits[0, -1].argmax()))
                if found[-1] in self.description.head.stop_token_ids:  # type: ignore[union-attr]
                    break
        return found

    def _states(self, item: Audio) -> Any:
        with torch.inference_mode():
            features = torch.from_numpy(np.array(self.inputs(item)[FEATURES])[None])
            return self.model.model.encoder(features).last_hidden_state

    def graphs(self, folder: Path) -> dict[str, onnx.ModelProto]:
        """The encoder's and the decoder's."""
        features = self.audio.mel
        encoder = WhisperEncoder(self.model, self.shape).eval()
        decoder = WhisperDecoder(self.model, self.shape, self.speech.alignment_heads).eval()
        return {
            AUDIO_ENCODER: encoder_to_onnx(encoder, features.bands, features.frames, folder),
            DECODER: decoder_to_onnx(decoder, folder),
        }


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(str(folder), use_fast=True, **_LOCAL)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json, without which tokens are no text.")
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def _audio(extractor: Any, config: Any, *, voiced: bool) -> AudioPreprocessing:
    rate, fft, hop = (int(getattr(extractor, name)) for name in ("sampling_rate", "n_fft", "hop_length"))
    frames = 2 * int(config.max_source_positions)  # the encoder's second convolution takes two at a time
    if int(extractor.n_samples) != frames * hop or getattr(extractor, "dither", None):
        raise CheckpointError(
            f"The feature extractor takes {extractor.n_samples} samples at once; the model takes {frames * hop}."
        )
    features = LogMel(fft, hop, int(extractor.feature_size), frames)
    return AudioPreprocessing(rate, features, voice.SETTINGS if voiced else None, short=int(frames * _SHORT))


def _settings(generation: Any, context: int) -> GenerationSettings:
    """How tokens are chosen, of a generation config without what is Whisper's own."""
    from transformers import GenerationConfig

    stated = generation.to_diff_dict()
    plain = GenerationConfig(**{name: value for name, value in stated.items() if name not in _OF_SPEECH})
    return replace(settings.of(plain, 0, None), max_new_tokens=context)


def _speech(tokenizer: Any, generation: Any, config: Any) -> SpeechTokens:
    """The special tokens that the vocabulary has, and what the generation config rules out.

    Raises CheckpointError where the vocabulary has no tokens of time.
    """
    vocabulary = {name: place for name, place in tokenizer.get_vocab().items() if place < config.vocab_size}
    no_times = vocabulary.get("<|notimestamps|>", getattr(generation, "no_timestamps_token_id", None))
    if no_times is None:
        raise CheckpointError("The vocabulary has no token <|notimestamps|>: this is no Whisper that can be exported.")
    languages = {found[1]: place for name, place in vocabulary.items() if (found := _LANGUAGE.match(name))}
    several = bool(getattr(generation, "is_multilingual", False)) or bool(getattr(generation, "lang_to_id", None))
    heads = getattr(generation, "alignment_heads", None) or ()
    known = {(layer, head) for layer in range(config.decoder_layers) for head in range(config.decoder_attention_heads)}
    ordered = dict(sorted(languages.items(), key=lambda one: one[1]))
    return SpeechTokens(
        no_timestamps=int(no_times),
        timestamps=int(vocabulary.get(_FIRST_TIME, int(no_times) + 1)),
        languages=ordered if several else {},
        transcribe=vocabulary.get("<|transcribe|>") if several else None,
        translate=vocabulary.get("<|translate|>") if several else None,
        no_speech=vocabulary.get("<|nospeech|>", vocabulary.get("<|nocaptions|>", int(no_times) - 1)),
        previous=vocabulary.get("<|startofprev|>"),
        first_timestamp=getattr(generation, "max_initial_timestamp_index", None),
        suppressed=tuple(int(token) for token in generation.suppress_tokens or () if token >= 0),
        suppressed_first=tuple(int(token) for token in generation.begin_suppress_tokens or () if token >= 0),
        alignment_heads=tuple(tuple(map(int, one)) for one in heads if tuple(one) in known),  # type: ignore[misc]
    )
