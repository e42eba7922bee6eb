"""Any sound to one channel of float32 at the rate a model takes, read block by block, with a report of what was done.

PCM and floating-point WAV files are read here; all other formats by soundfile and other rates by soxr, which the extra
`audio` brings.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.audio import Audio, AudioInput
from sanderling.audio_wave import MOST_CHANNELS, check_rate, coded_bytes, wave_blocks, wave_header
from sanderling.errors import AudioError, InputError, MissingExtraError
from sanderling.reasons import first_line
from sanderling.results import AudioReport

# Six hours at 16 kHz are 1.4 GB of float32.
MAX_SECONDS = 6 * 3600
_BLOCK_FRAMES = 2**18
_SHOWN = 200


def decoded(audio: AudioInput, rate: int) -> tuple[NDArray[np.float32], AudioReport]:
    """One channel (samples,) at `rate`: the mean of all channels, resampled where the rate was another.

    `audio` is a file's path, a file's bytes, or Audio. Raises AudioError: no such file, no sound, damaged, empty,
    longer than six hours, values that are not finite; MissingExtraError where soundfile or soxr is missing.
    """
    if isinstance(audio, Audio):
        where = "The audio"
        blocks, report = array_blocks(audio, where)
        bits = 0 if audio.samples.dtype.kind == "f" else 8 * audio.samples.dtype.itemsize
        return _joined(blocks, report, bits, rate, where)
    if isinstance(audio, bytes | bytearray | memoryview):
        data = bytes(audio)
        return _of_stream(io.BytesIO(data), len(data), f"The audio of {len(data):,} bytes", rate)
    if isinstance(audio, str | os.PathLike):
        return _of_file(audio, rate)
    hint = "Say its rate: Audio(samples, rate)." if isinstance(audio, np.ndarray) else "Wrap arrays in Audio."
    raise AudioError(f"The audio is of type {type(audio).__name__}; a file, bytes or Audio was expected. {hint}")


def _of_file(name: str | os.PathLike[str], rate: int) -> tuple[NDArray[np.float32], AudioReport]:
    shown = str(name) if str(name).isprintable() else ascii(str(name))
    shown = shown if len(shown) <= _SHOWN else f"{shown[:120]}...{shown[-60:]}"
    if not shown:
        raise AudioError("The path is empty; the path of an audio file was expected. Leave it out.")
    try:
        path = Path(os.fsdecode(name))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
            raise AudioError(f"{shown} is a {kind}; an audio file was expected. Name the file itself.")
        with path.open("rb") as file:
            return _of_stream(file, status.st_size, shown, rate)
    except FileNotFoundError:
        hint = "URLs are not fetched: pass a file or its bytes." if "://" in shown else "Check the path."
        raise AudioError(f"{shown} does not exist; an audio file was expected. {hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{shown} cannot be read: {reason}. Check the path.") from error


def _of_stream(stream: IO[bytes], size: int, where: str, rate: int) -> tuple[NDArray[np.float32], AudioReport]:
    header = wave_header(stream, size, where)
    if header is None:
        return _by_soundfile(stream, where, rate)
    report = AudioReport(header.rate, header.channels, header.frames, header.encoding, missing=header.missing)
    return _joined(wave_blocks(stream, header), report, 0 if header.floating else header.bits, rate, where)


def _by_soundfile(stream: IO[bytes], where: str, rate: int) -> tuple[NDArray[np.float32], AudioReport]:
    stream.seek(0)
    head = stream.read(12)
    if not head:
        raise AudioError(f"{where} is empty; an audio file was expected. Leave it out.")
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without the library it is for
        raise MissingExtraError(
            f"{where}, which is no WAV file of PCM or floating point (it begins with {head!r}),", "audio", "soundfile"
        ) from error
    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as opened:
            check_channels(opened.channels, where)
            check_rate(opened.samplerate, where)
            encoding = f"{opened.format.lower()} {opened.subtype.lower().replace('_', ' ')}"
            report = AudioReport(opened.samplerate, opened.channels, 0, encoding)
            bits = re.fullmatch(r"PCM_[SU]?(\d+)", opened.subtype)
            found = opened.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            samples, report = _joined(found, report, int(bits[1]) if bits else 0, rate, where)
            # What a damaged file still holds ends before what its header says.
            missing = max(0, opened.frames - report.frames) if 0 <= opened.frames < 2**53 else 0
        # soundfile counts what is there; of a coded WAV file the header tells how much there was.
        stated, there = coded_bytes(stream, stream.seek(0, os.SEEK_END))
        if there < stated:
            missing = max(missing, round(report.frames * (stated / max(1, there) - 1)), 1)
        return samples, replace(report, missing=missing)
    except InputError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise AudioError(
            f"{where} is no sound that can be read (it begins with {head!r}): {first_line(error)} "
            "Convert it to WAV first."
        ) from error


def array_blocks(audio: Audio, where: str) -> tuple[Iterator[NDArray[np.float32]], AudioReport]:
    """The samples of an array in blocks (frames, channels), float32 from -1 to 1, and what they are. AudioError."""
    samples = audio.samples
    if not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2):
        shape = getattr(samples, "shape", type(samples).__name__)
        raise AudioError(f"{where} has samples of the shape {shape}; (frames,) or (frames, channels) was expected.")
    if isinstance(audio.rate, bool) or not isinstance(audio.rate, int | np.integer):
        raise AudioError(f"{where} has the rate {audio.rate!r}; whole samples a second were expected.")
    check_rate(int(audio.rate), where)
    if samples.dtype.kind != "f" and samples.dtype not in (np.uint8, np.int16, np.int32):
        raise AudioError(f"{where} has the dtype {samples.dtype}; float32, int16, int32 or uint8 was expected.")
    frames = samples if samples.ndim == 2 else samples[:, None]
    if samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS >= samples.shape[0]:
        raise AudioError(f"{where} has the shape {samples.shape}; frames come first. Pass samples.T.")
    check_channels(frames.shape[1], where)
    report = AudioReport(int(audio.rate), frames.shape[1], len(frames), str(samples.dtype))
    return (_scaled(frames[first : first + _BLOCK_FRAMES]) for first in range(0, len(frames), _BLOCK_FRAMES)), report


def _scaled(frames: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        found = frames.astype(np.float32)
    if frames.dtype == np.uint8:
        return (found - 128) / np.float32(128)
    if frames.dtype.kind == "i":
        return found / np.float32(2 ** (8 * frames.dtype.itemsize - 1))
    return found


def check_channels(channels: int, where: str) -> None:
    """Raise AudioError for a number of channels that no sound has."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"{where} has {channels:,} channels; 1 to {MOST_CHANNELS} were expected.")


def _joined(
    blocks: Iterator[NDArray[np.float32]], report: AudioReport, bits: int, rate: int, where: str
) -> tuple[NDArray[np.float32], AudioReport]:
    """Blocks (frames, channels) mixed down, resampled and joined; the report with what was met on the way.

    `bits` are those of whole samples, whose highest value is a step below 1; 0 of floating-point ones.
    """
    highest = np.float32(1 - 2.0 ** (1 - bits) if bits else 1)
    changed = resampler(report.rate, rate, where) if report.rate != rate else None
    found: list[NDArray[np.float32]] = []
    frames = clipped = 0
    for block in blocks:
        if not np.isfinite(block).all():
            place = frames + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise AudioError(
                f"{where} has a value that is not finite at the sample {place:,}. Repair it, or cut it out."
            )
        frames += len(block)
        if frames > MAX_SECONDS * report.rate:
            raise AudioError(f"{where} is longer than {MAX_SECONDS // 3600} hours. Split it.")
        clipped += int(np.count_nonzero((block >= highest) | (block <= -1)))
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        found.append(np.ascontiguousarray(mono) if changed is None else changed.resample_chunk(mono, last=False))
    if frames == 0:
        raise AudioError(f"{where} has no samples. Leave it out.")
    if changed is not None:
        found.append(changed.resample_chunk(np.empty(0, np.float32), last=True))
    samples = found[0] if len(found) == 1 else np.concatenate(found)
    missing = report.missing + max(0, report.frames - frames)
    resampled = None if changed is None else rate
    return samples, replace(report, frames=frames, clipped=clipped, missing=missing, resampled=resampled)


def resampler(given: int, wanted: int, where: str) -> Any:
    """What makes samples of one rate from those of another, chunk by chunk. Raises MissingExtraError without soxr."""
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"{where} has {given:,} samples a second and the model takes {wanted:,}: resampling", "audio", "soxr"
        ) from error
    return soxr.ResampleStream(given, wanted, 1, dtype="float32", quality="HQ")
