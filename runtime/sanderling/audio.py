"""Sound as it is handed over and as it comes out: samples and their rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct
from numpy.typing import NDArray

from sanderling.audio_wave import WaveSamples, write_wave


class Audio(Struct, frozen=True, eq=False):
    """Sound: `samples` of the shape (frames,) or (frames, channels), `rate` of them a second.

    Floating-point samples lie between -1 and 1; whole ones (uint8, int16, int32) fill the range of their dtype.
    """

    samples: NDArray[Any]
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def save(self, path: str | os.PathLike[str], encoding: WaveSamples = "int16") -> int:
        """Write floating-point samples to a WAV file, whole or not at all; how many were beyond 1 and clipped.

        Raises AudioError: samples that no file has; StorageError: the disk is full, or the folder may not be written.
        """
        return write_wave(Path(path), self.samples, self.rate, encoding)


AudioInput: TypeAlias = "str | os.PathLike[str] | bytes | Audio"
