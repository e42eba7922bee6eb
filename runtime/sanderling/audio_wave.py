"""WAV files of PCM and of floating point: a bounded reader of our own, and a writer that leaves a whole file or none.

The layout is that of Microsoft's and IBM's "Multimedia Programming Interface and Data Specifications 1.0" (1991) with
WAVE_FORMAT_EXTENSIBLE. No length in a header is believed further than the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import AudioError
from sanderling.storage import write_atomic

MOST_CHANNELS = 128
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# What follows the format's number in the GUID of WAVE_FORMAT_EXTENSIBLE.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Chunks before the samples that are looked at, and bytes of the format that are read: real files have a few of each.
_MOST_CHUNKS = 1000
_FORMAT_BYTES = 40
# A file that was written while it was recorded says so by lengths that it does not have.
_UNKNOWN = (0, 0xFFFFFFFF)
_BLOCK_BYTES = 2**20

WaveSamples = Literal["int16", "int24", "float32"]


class WaveHeader(Struct, frozen=True):
    """What a file says of its samples, held against what is there.

    Its samples of `bits` each are in frames of `channels`, `frames` of them, from the byte `begins`. `missing` counts
    the frames that the header promises and that are not there.
    """

    rate: int
    channels: int
    bits: int
    floating: bool
    begins: int
    frames: int
    missing: int = 0

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * (-(-self.bits // 8))

    @property
    def encoding(self) -> str:
        """In words: "float 32 bit", "pcm 16 bit"."""
        return f"{'float' if self.floating else 'pcm'} {self.bits} bit"


def wave_header(stream: IO[bytes], size: int, where: str) -> WaveHeader | None:
    """The header of a WAV file of `size` bytes; None where this is another kind of file, or its samples are coded.

    Raises AudioError, which calls the file `where`: damaged, no channels, a rate below 8,000 or above 192,000 Hz.
    """
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    made: tuple[int, int, int, int] | None = None
    place = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(place)
        chunk = stream.read(8)
        if len(chunk) < 8:
            break
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        place += 8
        if name == b"fmt ":
            made = _format(stream.read(min(length, _FORMAT_BYTES)), where)
            if made is None:
                return None
        elif name == b"data":
            if made is None:
                raise AudioError(f"{where} has samples before it says what they are (no 'fmt ' chunk). It is damaged.")
            return _measured(made, place, length, size - place)
        place += length + length % 2  # chunks begin at even places
    raise AudioError(f"{where} is a WAV file without samples (no 'data' chunk). Fetch it again.")


def coded_bytes(stream: IO[bytes], size: int) -> tuple[int, int]:
    """Of a WAV file of `size` bytes with coded samples: the bytes of them that its header states, and those there.

    (0, 0) of other files, and where the header states none, as of a file that was written while it was recorded.
    """
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0, 0
    place = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(place)
        chunk = stream.read(8)
        length = int.from_bytes(chunk[4:], "little")
        place += 8
        if chunk[:4] == b"data":
            return (0, 0) if length in _UNKNOWN else (length, min(length, max(0, size - place)))
        if len(chunk) < 8:
            break
        place += length + length % 2
    return 0, 0


def _format(chunk: bytes, where: str) -> tuple[int, int, int, int] | None:
    """Format, channels, rate and bits; None for a coded format."""
    if len(chunk) < 16:
        raise AudioError(f"{where} is cut off in its header. Fetch it again.")
    kind, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == _GUID_TAIL:
        kind = int.from_bytes(chunk[24:26], "little")
    if kind not in (_PCM, _FLOAT):
        return None
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"{where} has {channels:,} channels; 1 to {MOST_CHANNELS} were expected.")
    check_rate(rate, where)
    if (bits not in (32, 64)) if kind == _FLOAT else not 1 <= bits <= 32:
        raise AudioError(
            f"{where} has {'floating-point ' if kind == _FLOAT else ''}samples of {bits} bits; 1 to 32, or 32 and 64 "
            "in floating point, were expected. Convert it first."
        )
    if frame_bytes != channels * (-(-bits // 8)):
        raise AudioError(
            f"{where} says that {channels} samples of {bits} bits take {frame_bytes} bytes; that contradicts itself. "
            "It is damaged."
        )
    return kind, channels, rate, bits


def check_rate(rate: int, where: str) -> None:
    """Raise AudioError for a rate that no speech is recorded at."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{where} has a rate of {rate:,} Hz; {LOWEST_RATE:,} to {HIGHEST_RATE:,} were expected. Resample it first."
        )


def _measured(made: tuple[int, int, int, int], begins: int, stated: int, there: int) -> WaveHeader:
    kind, channels, rate, bits = made
    header = WaveHeader(rate, channels, bits, kind == _FLOAT, begins, 0)
    there = max(0, there)
    length = there if stated in _UNKNOWN else min(stated, there)
    frames = length // header.frame_bytes
    missing = 0 if stated in _UNKNOWN else -(-stated // header.frame_bytes) - frames
    return WaveHeader(rate, channels, bits, kind == _FLOAT, begins, frames, missing)


def wave_blocks(stream: IO[bytes], header: WaveHeader) -> Iterator[NDArray[np.float32]]:
    """The samples in blocks (frames, channels), float32 from -1 to 1; floating-point ones as they are stored."""
    stream.seek(header.begins)
    left = header.frames
    size = max(1, _BLOCK_BYTES // header.frame_bytes)
    while left:
        data = stream.read(min(size, left) * header.frame_bytes)
        frames = len(data) // header.frame_bytes
        if frames == 0:
            return
        left -= frames
        yield wave_samples(data[: frames * header.frame_bytes], header).reshape(frames, header.channels)


def wave_samples(data: bytes, header: WaveHeader) -> NDArray[np.float32]:
    """The bytes of whole frames as samples (frames * channels,), float32 from -1 to 1."""
    if header.floating:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            return np.frombuffer(data, "<f4" if header.bits == 32 else "<f8").astype(np.float32)
    width = -(-header.bits // 8)
    if width == 1:
        return ((np.frombuffer(data, np.uint8).astype(np.float32)) - 128) / np.float32(128)
    if width == 3:
        # As the upper three bytes of 32 bits, which keeps the sign.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        found: NDArray[Any] = wide.view("<i4").reshape(-1)
        return found.astype(np.float32) / np.float32(2**31)
    found = np.frombuffer(data, "<i2" if width == 2 else "<i4")
    return found.astype(np.float32) / np.float32(2 ** (8 * width - 1))


def wave_bytes(samples: NDArray[Any], rate: int, encoding: WaveSamples = "int16") -> tuple[bytes, int]:
    """A WAV file of samples (frames,) or (frames, channels) from -1 to 1, and how many of them were beyond and clipped.

    Floating point clips nothing. Raises AudioError: no numbers, a shape or a rate that no file has, more than 4 GB.
    """
    values = np.asarray(samples)
    if values.dtype.kind != "f" or values.ndim not in (1, 2) or not np.isfinite(values).all():
        raise AudioError(
            f"Samples of the dtype {values.dtype} and the shape {values.shape} cannot be written as WAV; finite "
            "floating-point ones of the shape (frames,) or (frames, channels) were expected."
        )
    channels = 1 if values.ndim == 1 else values.shape[1]
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"Samples of {channels} channels cannot be written; 1 to {MOST_CHANNELS} were expected.")
    check_rate(rate, "What is to be written")
    if encoding == "float32":
        data, clipped, width = values.astype("<f4").tobytes(), 0, 4
    else:
        width = 2 if encoding == "int16" else 3
        full = 2 ** (8 * width - 1)
        scaled = np.rint(values.astype(np.float64) * full)
        # One step beyond the highest value is what 1.0 is: rounding, and no loss that one could hear.
        clipped = int(np.count_nonzero((scaled > full) | (scaled < -full)))
        whole = np.clip(scaled, -full, full - 1).astype("<i4")
        data = whole.astype("<i2").tobytes() if width == 2 else whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    if len(data) > 0xFFFFFFFF - 64:
        raise AudioError(f"{len(data):,} bytes of samples do not fit a WAV file (4 GB); write them in parts.")
    kind = _FLOAT if encoding == "float32" else _PCM
    made = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    if kind == _FLOAT:  # a format other than PCM has a size of its extension, and says how many frames there are
        made += struct.pack("<H", 0)
    chunks = _chunk(b"fmt ", made)
    if kind == _FLOAT:
        chunks += _chunk(b"fact", struct.pack("<I", len(values)))
    chunks += _chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks, clipped


def write_wave(path: Path, samples: NDArray[Any], rate: int, encoding: WaveSamples = "int16") -> int:
    """Write a WAV file, whole or not at all; how many samples were clipped. StorageError, errors of wave_bytes."""
    data, clipped = wave_bytes(samples, rate, encoding)
    write_atomic(path, data)
    return clipped


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
