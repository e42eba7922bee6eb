"""What an export needs of the original of a voice, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.errors import CheckpointError
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.schema.voices import FrameSteps, VoiceSettings
from sanderling.voices.rules import SPEAKER, SPECTRUM
from sanderling_export import graphs

# The distance of one frame's change that is tried, and with how many draws.
_REACH, _TRIALS = 64, 3


@dataclass(frozen=True, slots=True)
class VoiceWords:
    """What a voice's files say, in the words of a bundle."""

    phonemes: PhonemesPreprocessing
    settings: VoiceSettings
    sample_rate: int
    speakers: dict[str, int]
    # Piper's own program brings each sentence to the same level; transformers gives it as it is.
    normalize: Literal["peak", "none"] = "none"
    # Of a voice that makes its frames step by step; where its speakers' vectors lie is known when they are written.
    steps: FrameSteps | None = None


class Original(Protocol):
    """A voice: what its files say, the graphs that it is cut into, and its speakers' vectors (speakers, size) if it
    has such."""

    said: VoiceWords
    parts: dict[str, onnx.ModelProto]
    hop: int
    context: int
    vectors: NDArray[np.float32] | None

    def waveform(
        self, symbols: Sequence[str], seed: int | None, settings: VoiceSettings | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids (tokens,) of a sentence's symbols, and what the original says: float32 (samples,).

        Noise is drawn as the runtime draws it, of sentence 0; without a `seed` there is none.
        """
        ...


@runtime_checkable
class SteppedOriginal(Original, Protocol):
    """A voice that makes its frames step by step."""

    def spectrum(self, symbols: Sequence[str], seed: int) -> NDArray[np.float32]:
        """The frames (1, bands, frames) of a sentence's symbols, with what the runtime draws of sentence 0."""
        ...


def reach(decoder: onnx.ModelProto, several: bool) -> tuple[int, int]:
    """Samples a frame, and how many frames to each side a sample depends on: seen by changing one frame."""
    runner = graphs.session(decoder)
    given = {value.name: value for value in runner.get_inputs()}
    channels = int(given[SPECTRUM].shape[1])
    told = {SPEAKER: np.zeros(1, np.int64)} if several and SPEAKER in given else {}
    frames, middle, context, hop = 2 * _REACH + 1, _REACH, 0, 0
    for trial in range(_TRIALS):
        draw = np.random.RandomState(trial)
        before = draw.standard_normal((1, channels, frames)).astype(np.float32)
        after = before.copy()
        after[:, :, middle] += 3 * draw.standard_normal(channels).astype(np.float32)
        (first,), (second,) = (runner.run(None, {SPECTRUM: one, **told})[0] for one in (before, after))
        hop, rest = divmod(len(first), frames)
        if rest or not hop:
            raise CheckpointError(
                f"The decoder makes {len(first)} samples of {frames} frames; a multiple was expected."
            )
        moved = np.flatnonzero(first != second)
        if not len(moved):
            raise CheckpointError("The decoder says the same whatever its frames are.")
        context = max(context, middle - int(moved[0]) // hop, int(moved[-1]) // hop - middle)
    if context >= _REACH:
        raise CheckpointError(f"What the decoder makes of a frame depends on {_REACH} frames around it, or more.")
    return hop, context
