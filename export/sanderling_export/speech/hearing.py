"""Originals that hear with a single graph, in transformers: wav2vec 2.0 and its kin, and the Audio Spectrogram
Transformer; as recognizers by CTC, as classifiers, and as what turns sounds into vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.errors import CheckpointError, ExportError
from sanderling.hearing import ctc
from sanderling.hearing.sound_front import VALUES
from sanderling.schema.answers import CtcOutput
from sanderling.schema.sounds import AudioPreprocessing, Filterbank
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import description
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description, Options
from sanderling_export.passes.probe import SAMPLES
from sanderling_export.speech import listening, vocabulary

Array = NDArray[Any]
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
LOGITS, HIDDEN, SPEAKER = "logits", "last_hidden_state", "embeddings"
# Poolings over frames that a recipe may ask for.
_POOLINGS = ("mean", "max", "cls")
# Attention grows with the square of a sound's length: more than these are not heard at once.
_MOST_SECONDS = 30
# Sounds of so many samples are told apart, and where the fewest are looked for.
_PROBED = 32_000


class SoundOriginal:
    """What all of them have in common: how sound gets to the model, and the graph that answers."""

    # Set by each kind: the model whose answers are the bundle's, what it is, and the name of the graph's output.
    model: torch.nn.Module
    description: Description
    output: str

    def __init__(self, checkpoint: Checkpoint, library: Any) -> None:
        from transformers import AutoFeatureExtractor

        folder = checkpoint.folder
        if not (folder / "preprocessor_config.json").is_file():
            raise CheckpointError(
                f"{folder} has no preprocessor_config.json, so nothing says how sound is brought to the model. Fetch "
                "it with the checkpoint."
            )
        self.extractor = AutoFeatureExtractor.from_pretrained(str(folder), **_LOCAL)
        model = library.from_pretrained(str(folder), dtype=torch.float32, **_LOCAL)
        if model.config.model_type != "sew-d":  # whose attention has a way of its own
            model.set_attn_implementation("eager")  # plain products, which quantization knows
        self.model = model.eval()

    def inputs(self, item: Audio, prompt: str | None = None) -> dict[str, Array]:
        """What the library's own feature extractor makes of a sound."""
        del prompt  # sounds have none
        found = self.extractor(self._cut(item), sampling_rate=item.rate, return_tensors="np")
        return {VALUES: np.asarray(found[VALUES][0], np.float32)}

    def answers(self, items: Sequence[Audio], prompt: str | None = None) -> NDArray[Any]:
        """One answer a sound, each by itself: (sounds, d), or an array of those of each sound's frames."""
        del prompt
        rows = [self._answer(torch.from_numpy(np.array(self.inputs(item)[VALUES])[None])) for item in items]
        if rows[0].ndim == 1:
            return np.stack(rows)
        found = np.empty(len(rows), object)
        found[:] = rows
        return found

    def run(self, values: torch.Tensor) -> torch.Tensor:
        """The graph's answer to `input_values` (batch, ...)."""
        found: torch.Tensor = getattr(self.model(values), self.output)
        return found

    def to_onnx(self, folder: Path, opset: int) -> Path:
        """Write the graph to `folder`, for any number of sounds, and waveforms of any length."""
        audio = self.description.audio
        assert audio is not None  # every model here has it
        axes: dict[str, dict[int, str]] = {VALUES: {0: "batch"}, self.output: {0: "batch"}}
        if isinstance(audio.features, Filterbank):
            example = torch.zeros(2, audio.features.frames, audio.features.bands)
        else:
            example = torch.randn(2, _PROBED, generator=torch.Generator().manual_seed(0))
            axes[VALUES][1] = SAMPLES
        if self.output in (HIDDEN, LOGITS) and not isinstance(self, SoundClassifier):
            axes[self.output][1] = "frames"
        path = folder / "hearing.onnx"
        torch.onnx.export(
            _Graph(self).eval(),
            (example,),
            str(path),
            input_names=[VALUES],
            output_names=[self.output],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
        return path

    def _answer(self, values: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self.run(values)[0].float().numpy(), np.float32)

    def _cut(self, item: Audio) -> NDArray[np.float32]:
        """As much of a sound as the model hears at once."""
        audio = self.description.audio if hasattr(self, "description") else None
        most = getattr(audio.features, "most", None) if audio is not None else None
        return np.asarray(item.samples[:most], np.float32)

    def _heard(self, most_seconds: int | None, least: int = 1) -> AudioPreprocessing:
        """How sound is brought to the model, found from its extractor and proven against it."""
        rate = int(self.extractor.sampling_rate)
        most = None if most_seconds is None else most_seconds * rate
        fewest = max(least, fewest_samples(self.run)) if listening.is_wave(self.extractor) else least
        return listening.described(self.extractor, fewest, most)


class _Graph(torch.nn.Module):  # type: ignore[misc]
    """`input_values` to the one output that is read."""

    def __init__(self, original: SoundOriginal) -> None:
        super().__init__()
        self.model = original.model
        self._run = original.run

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        return self._run(input_values)


class CtcOriginal(SoundOriginal):
    """A recognizer by CTC: of each frame the logits of what is said in it."""

    output = LOGITS

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModelForCTC

        names = description.architectures(checkpoint)
        if not any(name.endswith("ForCTC") for name in names):
            raise CheckpointError(
                f"{checkpoint.folder} is a {', '.join(names) or 'model of no architecture'}; a recognizer that hears "
                "sound as it is is exported from one that says what each frame is (...ForCTC)."
            )
        if options.voice_activity is not None or options.labels is not None:
            raise ExportError("A recognizer by CTC takes neither labels nor voice_activity; leave them out.")
        super().__init__(checkpoint, AutoModelForCTC)
        config = self.model.config
        hop, field = frames_of(config)
        head = vocabulary.described(checkpoint.folder, int(config.vocab_size), hop, field, config.pad_token_id)
        _check_frames(self.run, head)
        self.description = Description("automatic-speech-recognition", head, audio=self._heard(None, field))


class SoundClassifier(SoundOriginal):
    """A classifier of sounds."""

    output = LOGITS

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModelForAudioClassification

        super().__init__(checkpoint, AutoModelForAudioClassification)
        config = self.model.config
        self.description = Description(
            "audio-classification",
            description.classification(config, int(config.num_labels), options),
            audio=self._heard(_MOST_SECONDS),
        )


class SoundEmbedder(SoundOriginal):
    """Sounds to vectors: of speakers (x-vectors), else the mean of the hidden states of all frames."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModel, AutoModelForAudioXVector

        speakers = any(name.endswith("ForXVector") for name in description.architectures(checkpoint))
        if speakers and options.pooling is not None:
            raise ExportError(f"x-vectors are pooled by the model itself; leave out the pooling {options.pooling!r}.")
        if options.pooling not in (None, *_POOLINGS):
            raise ExportError(f"--pooling {options.pooling} is no pooling over frames; choose {', '.join(_POOLINGS)}.")
        super().__init__(checkpoint, AutoModelForAudioXVector if speakers else AutoModel)
        self.output = SPEAKER if speakers else HIDDEN
        config = self.model.config
        size = int(config.xvector_output_dim if speakers else config.hidden_size)
        normalize = speakers if options.normalize is None else options.normalize
        pooling = "none" if speakers else options.pooling or "mean"
        head = EmbeddingOutput(
            self.output,
            pooling,  # type: ignore[arg-type]
            normalize,
            size,
            same_from=options.same_from,
        )
        self.description = Description(
            "feature-extraction",
            head,
            audio=self._heard(_MOST_SECONDS),
            dimensions=description.shorter(size, options.dimensions),
        )

    def _answer(self, values: torch.Tensor) -> NDArray[np.float32]:
        head = self.description.head
        assert isinstance(head, EmbeddingOutput)
        with torch.inference_mode():
            found = self.run(values)
            if head.pooling == "mean":
                found = found.mean(dim=1)
            elif head.pooling == "max":
                found = found.amax(dim=1)
            elif head.pooling == "cls":
                found = found[:, 0]
            if head.normalize:
                found = torch.nn.functional.normalize(found, dim=1)
            return np.asarray(found[0].float().numpy(), np.float32)


def frames_of(config: Any) -> tuple[int, int]:
    """Samples from one frame to the next, and samples that a frame is made of, by the convolutions' sizes."""
    kernels, strides = (getattr(config, name, None) for name in ("conv_kernel", "conv_stride"))
    if not kernels or not strides:
        raise CheckpointError("The model's config does not say of how many samples a frame is made (conv_kernel).")
    field = 1 + sum((kernel - 1) * math.prod(strides[:place]) for place, kernel in enumerate(kernels))
    return math.prod(strides), field


def _check_frames(run: Callable[[torch.Tensor], torch.Tensor], head: CtcOutput) -> None:
    """Raise CheckpointError where the model makes other frames of a sound than its convolutions say."""
    random = torch.Generator().manual_seed(0)
    for samples in (head.field + 3 * head.hop, head.field + 5 * head.hop - 1, _PROBED - 1):
        with torch.inference_mode():
            found = run(torch.randn(1, samples, generator=random)).shape[1]
        if found != ctc.frames_of(samples, head):
            raise CheckpointError(
                f"The model makes {found} frames of {samples:,} samples, where its convolutions make "
                f"{ctc.frames_of(samples, head)}: their times cannot be told."
            )


def fewest_samples(run: Callable[[torch.Tensor], torch.Tensor]) -> int:
    """The fewest samples that the model answers with finite numbers. Raises CheckpointError: not even two seconds."""
    random = torch.randn(1, _PROBED, generator=torch.Generator().manual_seed(0))

    def answers(count: int) -> bool:
        try:
            with torch.inference_mode():
                found = run(random[:, :count])
        except (RuntimeError, ValueError):  # torch's own, of a convolution that has too little to look at
            return False
        return found.numel() > 0 and bool(torch.isfinite(found).all())

    if not answers(_PROBED):
        raise CheckpointError(f"The model does not answer {_PROBED:,} samples of noise with finite numbers.")
    low, high = 0, _PROBED
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if answers(middle) else (middle, high)
    return high
