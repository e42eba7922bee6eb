"""Chunks of sound as a microphone gives them, to samples at the rate a model takes, in a bounded waiting room."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sanderling.audio import Audio
from sanderling.audio_wave import WaveHeader, check_rate, wave_samples
from sanderling.cancellation import Cancellation
from sanderling.errors import AudioError, InputError
from sanderling.preprocess.audio import array_blocks, check_channels, resampler

ChunkSamples = Literal["uint8", "int16", "int24", "int32", "float32"]
Behind = Literal["wait", "drop"]
# Bits, and whether they are of floating point.
_BYTES: dict[str, tuple[int, bool]] = {
    "uint8": (8, False), "int16": (16, False), "int24": (24, False), "int32": (32, False), "float32": (32, True),
}  # fmt: skip
# Who waits looks so often, in seconds, whether the call was cancelled.
_LOOK = 0.1
# Arrivals closer to each other than so many samples are one.
_CLOSE = 320


class Incoming:
    """Chunks to blocks (samples,) of float32 at `wanted` samples a second, with counts of what was met."""

    def __init__(self, wanted: int, rate: int | None, channels: int, samples: ChunkSamples) -> None:
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | np.integer)):
            raise InputError(f"rate is {rate!r}; whole samples a second were expected.")
        if rate is not None:
            check_rate(int(rate), "The stream")
        if isinstance(channels, bool) or not isinstance(channels, int):
            raise InputError(f"channels is {channels!r}; a whole number was expected.")
        check_channels(channels, "The stream")
        if samples not in _BYTES:
            raise InputError(f"samples is {samples!r}; one of {', '.join(_BYTES)} was expected.")
        self.wanted = wanted
        self._given = None if rate is None else int(rate)
        self._channels = channels
        self._samples = samples
        self._rest = b""
        self._resampler: Any = None
        self.rate, self.channels, self.encoding = 0, 0, ""
        self.frames = self.clipped = self.missing = 0

    @property
    def resampled(self) -> int | None:
        """The rate that the sound was resampled to, if it was."""
        return None if self._resampler is None else self.wanted

    def blocks(self, chunk: Any) -> Iterator[NDArray[np.float32]]:
        """The samples of a chunk, in blocks of at most some seconds. Raises AudioError; MissingExtraError for soxr."""
        if isinstance(chunk, bytes | bytearray | memoryview):
            yield from self._of_bytes(bytes(chunk))
            return
        where = f"The chunk at {self.frames / self.rate if self.rate else 0:.2f} s"
        if isinstance(chunk, np.ndarray):
            if self._given is None:
                raise AudioError(f"{where} is an array without a rate. Say it: live(chunks, rate=16_000).")
            chunk = Audio(chunk, self._given)
        elif not isinstance(chunk, Audio):
            raise AudioError(f"{where} is of type {type(chunk).__name__}; bytes, an array or Audio was expected.")
        elif self._given is not None and chunk.rate != self._given:
            raise AudioError(f"{where} has the rate {chunk.rate!r}; {self._given:,} was said.")
        found, report = array_blocks(chunk, where)
        if not report.frames:
            return
        bits = 0 if report.encoding.startswith("float") else 8 * chunk.samples.dtype.itemsize
        self._met(report.rate, report.channels, report.encoding, where)
        for block in found:
            yield from self._mixed(block, bits)

    def rest(self) -> NDArray[np.float32]:
        """The samples that are still on their way when no chunk comes any more."""
        self.missing += bool(self._rest)
        self._rest = b""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        return np.asarray(self._resampler.resample_chunk(np.empty(0, np.float32), last=True), np.float32)

    def _of_bytes(self, data: bytes) -> Iterator[NDArray[np.float32]]:
        if self._given is None:
            raise AudioError("The chunks are bytes without a rate. Say it: live(chunks, rate=16_000).")
        bits, floating = _BYTES[self._samples]
        header = WaveHeader(self._given, self._channels, bits, floating, 0, 0)
        width, size = header.frame_bytes, header.frame_bytes * self._given
        if data and not self.rate:
            self._met(self._given, self._channels, f"{self._samples} bytes", "The stream")
        elif data:
            self._met(self._given, self._channels, f"{self._samples} bytes", f"The chunk at {self.frames} samples")
        whole = self._rest + data
        end = len(whole) - len(whole) % width
        self._rest = whole[end:]
        for first in range(0, end, size):
            frames = wave_samples(whole[first : min(first + size, end)], header).reshape(-1, self._channels)
            yield from self._mixed(frames, 0 if floating else bits)

    def _met(self, rate: int, channels: int, encoding: str, where: str) -> None:
        """Take note of what a chunk is: the same as the first one."""
        if not self.rate:
            self.rate, self.channels, self.encoding = rate, channels, encoding
            if rate != self.wanted:
                self._resampler = resampler(rate, self.wanted, where)
        elif (rate, channels, encoding) != (self.rate, self.channels, self.encoding):
            raise AudioError(
                f"{where} has {rate:,} Hz, channels {channels}, {encoding}; the stream began with {self.rate:,} Hz, "
                f"channels {self.channels}, {self.encoding}. Begin another stream."
            )

    def _mixed(self, block: NDArray[np.float32], bits: int) -> Iterator[NDArray[np.float32]]:
        if not np.isfinite(block).all():
            place = self.frames + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise AudioError(f"The stream has a value that is not finite at the sample {place:,}. Repair the source.")
        self.frames += len(block)
        highest = np.float32(1 - 2.0 ** (1 - bits) if bits else 1)
        self.clipped += int(np.count_nonzero((block >= highest) | (block <= -1)))
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if self._resampler is None:
            yield np.ascontiguousarray(mono)
        else:
            yield np.asarray(self._resampler.resample_chunk(np.ascontiguousarray(mono), last=False), np.float32)


class Taken(NamedTuple):
    """What the waiting room gave: samples that were lost before, and samples; neither, at the end."""

    lost: int
    samples: NDArray[np.float32]


class WaitingRoom:
    """Samples between who brings them and who hears them, at most `most`; safe for one thread on either side.

    Where there is no room who brings them waits, or the oldest are dropped (`behind`), which the other side is told.
    """

    def __init__(self, most: int, behind: Behind) -> None:
        self._most = most
        self._drop = behind == "drop"
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._changed = threading.Condition()
        self._waiting = self._lost = self._came = self._gone = 0
        self._arrived: deque[tuple[int, float]] = deque()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Samples that are here."""
        return self._waiting

    @property
    def wanted(self) -> bool:
        """Whether more samples are."""
        return not (self._ended or self._closed)

    def put(self, samples: NDArray[np.float32]) -> bool:
        """Bring samples, waiting for room if there is none; False where nobody wants them any more."""
        moment = time.perf_counter()
        for first in range(0, len(samples), max(1, self._most // 4)):
            if not self._put(samples[first : first + max(1, self._most // 4)], moment):
                return False
        return self.wanted

    def _put(self, samples: NDArray[np.float32], moment: float) -> bool:
        with self._changed:
            while not (self._drop or self._ended or self._closed) and self._waiting + len(samples) > self._most:
                self._changed.wait()
            if self._ended or self._closed:
                return False
            self._came += len(samples)
            if self._arrived and self._came - self._arrived[-1][0] < _CLOSE:
                self._arrived.pop()
            self._arrived.append((self._came, moment))
            self._blocks.append(samples)
            self._waiting += len(samples)
            if self._waiting > self._most:  # half of it goes, so that not every chunk to come leaves a gap
                while self._blocks and self._waiting > self._most // 2:
                    gone = len(self._blocks.popleft())
                    self._waiting -= gone
                    self._lost += gone
            self._changed.notify_all()
            return True

    def take(self, count: int, cancellation: Cancellation) -> Taken:
        """The next `count` samples, fewer before a gap and at the end, waiting for them; see Taken."""
        with self._changed:
            while self._waiting < count and not (self._lost or self._ended or self._closed):
                self._changed.wait(_LOOK)
                cancellation.check()
            if self._closed:
                return Taken(0, np.zeros(0, np.float32))
            if self._lost:
                lost, self._lost = self._lost, 0
                self._gone += lost
                return Taken(lost, np.zeros(0, np.float32))
            found, have = list[NDArray[np.float32]](), 0
            while self._blocks and have < count:
                block = self._blocks.popleft()
                if have + len(block) > count:
                    self._blocks.appendleft(block[count - have :])
                    block = block[: count - have]
                found.append(block)
                have += len(block)
            self._waiting -= have
            self._gone += have
            self._changed.notify_all()
            return Taken(0, np.concatenate(found) if found else np.zeros(0, np.float32))

    def end(self, error: BaseException | None = None) -> None:
        """No more samples come, because of an `error` if there is one; those here may still be taken."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody wants samples any more."""
        with self._changed:
            self._ended = self._closed = True
            self._blocks.clear()
            self._waiting = 0
            self._changed.notify_all()

    @property
    def error(self) -> BaseException | None:
        """Why no more samples come, where that is an error."""
        return self._error

    def arrived(self, place: int) -> float:
        """When the sample `place` of the stream came, by `time.perf_counter`."""
        with self._changed:
            for last, moment in self._arrived:
                if last >= place:
                    return moment
            return self._arrived[-1][1] if self._arrived else time.perf_counter()

    def forget(self, place: int) -> None:
        """When samples before `place` came is not asked for any more."""
        with self._changed:
            while len(self._arrived) > 1 and self._arrived[0][0] < place:
                self._arrived.popleft()
