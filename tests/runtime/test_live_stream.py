"""Streams of words: sources of every kind, what waits, what is dropped, and how both sides end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scripted_speech import BORDERS, GATE, RATE, STEP, Scripted, Voiced, final, numbered, sound_of

from sanderling.audio import Audio
from sanderling.cancellation import Cancellation
from sanderling.errors import AudioError, CancelledError, InputError
from sanderling.hearing.gate import SpeechGate
from sanderling.hearing.live_sound import Behind, ChunkSamples, Incoming, WaitingRoom
from sanderling.hearing.live_transcript import LiveTranscript
from sanderling.hearing.live_windows import LiveWindows

# The scripted model hears 1,000 samples a second; recordings have at least 8,000, so rates here are of other streams.
SPOKEN = numbered([1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1] * 3)


class Plain(Incoming):
    """Takes arrays of the scripted model's rate as they are."""

    def blocks(self, chunk: Any) -> Iterator[NDArray[np.float32]]:
        self.rate = self.wanted
        yield np.asarray(chunk, np.float32)


def stream(
    chunks: Any, *, behind: Behind = "wait", waiting: int = 5000, cancellation: Cancellation | None = None,
    hears: Scripted | None = None,
) -> LiveTranscript:  # fmt: skip
    windows = LiveWindows(hears or Scripted(), SpeechGate(Voiced, GATE, RATE), BORDERS)
    own = Cancellation() if cancellation is None else cancellation
    incoming = Plain(RATE, None, 1, "int16")
    return LiveTranscript(
        chunks, incoming, WaitingRoom(waiting, behind), windows, STEP, True, own, cancellation is not None
    )  # fmt: skip


def cut(sound: NDArray[np.float32], lengths: Iterable[int]) -> Iterator[NDArray[np.float32]]:
    first = 0
    for length in lengths:
        yield sound[first : first + length]
        first += length
    yield sound[first:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=30), st.integers(200, 9000))
def test_updates_are_the_same_however_the_sound_is_cut_into_chunks(lengths: list[int], waiting: int) -> None:
    sound = sound_of(SPOKEN)
    whole = list(stream([sound]))
    assert final(whole) == [one for one in SPOKEN if one]
    found = list(stream(cut(sound, lengths), waiting=waiting))
    assert [(one.until, one.text, one.partial_text) for one in found] == [
        (one.until, one.text, one.partial_text) for one in whole
    ]


def test_a_report_counts_what_became_of_the_stream() -> None:
    live = stream([sound_of(SPOKEN)])
    updates = list(live)
    report = live.report
    assert report.seconds == len(SPOKEN) * 0.1
    assert (report.words, report.updates) == (len(final(updates)), len(updates))
    assert report.silent == pytest.approx(sum(last - first for one in updates for first, last in one.silent))
    assert report.complete
    assert report.delay_p50 is not None
    assert report.delay_p90 is not None
    assert 0 <= report.delay_p50 <= report.delay_p90
    assert next(live, None) is None


class Slow(Scripted):
    """Takes its time, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.begun.set()
        assert self.go.wait(30)
        return super().__call__(*arguments, **named)


def test_what_comes_too_fast_is_dropped_and_told() -> None:
    hears, sound = Slow(), sound_of(numbered([1] * 300))
    brought = threading.Event()

    def chunks() -> Iterator[NDArray[np.float32]]:
        yield sound[:1000]
        assert hears.begun.wait(30)
        yield from (sound[first : first + 100] for first in range(1000, len(sound), 100))
        brought.set()

    live = stream(chunks(), behind="drop", waiting=2000, hears=hears)
    threading.Thread(target=lambda: (brought.wait(30), hears.go.set()), daemon=True).start()
    updates = list(live)
    dropped = [stretch for one in updates for stretch in one.dropped]
    assert dropped
    lost = sum(last - first for first, last in dropped)
    assert live.report.dropped == pytest.approx(lost)
    assert not live.report.complete
    assert live.report.seconds == pytest.approx(len(sound) / RATE)
    heard = final(updates)
    assert heard == sorted(set(heard))
    for number in range(1, 301):  # each word was heard, or is in a stretch that was dropped
        first, last = (number - 1) / 10, number / 10
        assert number in heard or any(a < last and first < b for a, b in dropped)
    # The clock goes on over what was dropped.
    for word in (word for one in updates for word in one.final):
        assert word.start == pytest.approx((int(word.text) - 1) / 10, abs=0.11)


def test_a_source_that_must_wait_waits() -> None:
    most = 0

    def chunks() -> Iterator[NDArray[np.float32]]:
        nonlocal most
        sound = sound_of(numbered([1] * 200))
        for first in range(0, len(sound), 100):
            most = max(most, live._room.waiting)
            yield sound[first : first + 100]

    live = stream(chunks(), waiting=1000)
    assert final(list(live)) == list(range(1, 201))
    assert most <= 1000


def test_closing_ends_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[NDArray[np.float32]]:
        try:
            while True:
                yield sound_of([1, 2, 3])
        finally:
            closed.set()

    with stream(endless()) as live:
        assert next(live).until > 0
    assert closed.wait(10)
    assert list(live) == []
    forgotten = stream(endless())
    closed.clear()
    next(forgotten)
    del forgotten
    gc.collect()
    assert closed.wait(10)


def test_ending_lets_what_came_be_read() -> None:
    asked = threading.Event()

    def chunks() -> Iterator[NDArray[np.float32]]:
        yield sound_of(range(1, 21))
        assert asked.wait(30)
        yield sound_of([99])

    live = stream(chunks())
    found = [next(live)]
    live.end()
    found += list(live)
    asked.set()
    assert final(found) == list(range(1, 21))


def test_what_a_source_raises_comes_behind_its_words() -> None:
    def broken() -> Iterator[NDArray[np.float32]]:
        yield sound_of([1, 2, 3])
        raise OSError("unplugged")

    live = stream(broken())
    found = [next(live)]
    assert final(found) == [1, 2, 3]
    with pytest.raises(OSError, match="unplugged"):
        next(live)
    assert list(live) == []


def test_a_cancelled_stream_ends() -> None:
    cancellation = Cancellation()

    def silent() -> Iterator[NDArray[np.float32]]:
        while True:
            time.sleep(0.01)
            yield np.zeros(10, np.float32)

    live = stream(silent(), cancellation=cancellation)
    threading.Timer(0.2, cancellation.cancel).start()
    with pytest.raises(CancelledError):
        next(live)
    assert list(live) == []


async def later(chunks: Iterable[NDArray[np.float32]], closed: list[bool]) -> AsyncIterator[NDArray[np.float32]]:
    try:
        for chunk in chunks:
            await asyncio.sleep(0.001)
            yield chunk
    finally:
        closed.append(True)


@pytest.mark.parametrize("kind", ["asynchronous", "plain"])
def test_async_for_gives_the_same_words(kind: str) -> None:
    sound, closed = sound_of(SPOKEN), list[bool]()
    parts = list(cut(sound, [300] * 9))

    async def read() -> list[Any]:
        live = stream(later(parts, closed) if kind == "asynchronous" else parts)
        return [update async for update in live]

    assert final(asyncio.run(read())) == [one for one in SPOKEN if one]
    assert closed == ([True] if kind == "asynchronous" else [])


def test_the_event_loop_goes_on_while_the_model_hears() -> None:
    hears = Slow()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while ticks < 20:
            await asyncio.sleep(0.001)
            ticks += hears.begun.is_set()
        hears.go.set()  # the model has heard nothing yet

    async def read() -> list[Any]:
        ticking = asyncio.ensure_future(tick())
        async with stream(later([sound_of([1, 2, 3, 4, 5, 6])], []), hears=hears) as live:
            found = [update async for update in live]
        await ticking
        return found

    assert final(asyncio.run(read())) == [1, 2, 3, 4, 5, 6]
    assert ticks == 20


def test_many_asynchronous_streams_go_on_side_by_side() -> None:
    async def read() -> list[list[Any]]:
        async def one() -> list[Any]:
            return [update async for update in stream(later(cut(sound_of(SPOKEN), [500] * 5), []))]

        return await asyncio.wait_for(asyncio.gather(*(one() for _ in range(40))), 60)

    assert all(final(found) == [one for one in SPOKEN if one] for found in asyncio.run(read()))


def test_cancelling_the_task_closes_the_source() -> None:
    closed = list[bool]()

    async def read() -> None:
        def endless() -> Iterator[NDArray[np.float32]]:
            while True:
                yield np.zeros(10, np.float32)

        live = stream(later(endless(), closed))
        reading = asyncio.ensure_future(anext(live))
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert closed == [True]
        assert [update async for update in live] == []

    asyncio.run(read())


def test_errors_of_an_asynchronous_source_come_behind_its_words() -> None:
    async def broken() -> AsyncIterator[NDArray[np.float32]]:
        yield sound_of([1, 2, 3])
        raise OSError("hung up")

    async def read() -> list[Any]:
        live = stream(broken())
        found = [await anext(live)]
        with pytest.raises(OSError, match="hung up"):
            await anext(live)
        return found

    assert final(asyncio.run(read())) == [1, 2, 3]


def test_an_asynchronous_source_is_not_read_by_for() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(InputError, match="async for"):
        next(stream(chunks()))


def incoming(rate: int | None = 16_000, channels: int = 1, samples: ChunkSamples = "int16") -> Incoming:
    return Incoming(16_000, rate, channels, samples)


def joined(given: Incoming, chunks: Iterable[Any]) -> NDArray[np.float32]:
    found = [block for chunk in chunks for block in given.blocks(chunk)]
    return np.concatenate([*found, given.rest()])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 97), max_size=20),
    st.sampled_from(["uint8", "int16", "int24", "int32", "float32"]),
    st.integers(1, 3),
)
def test_bytes_are_the_same_wherever_they_are_cut(lengths: list[int], samples: ChunkSamples, channels: int) -> None:
    random = np.random.default_rng(len(lengths))
    width = {"uint8": 1, "int16": 2, "int24": 3, "int32": 4, "float32": 4}[samples]
    data = random.integers(0, 256, 400 * width * channels, np.uint8).tobytes()
    if samples == "float32":
        data = random.uniform(-1, 1, 400 * channels).astype("<f4").tobytes()
    whole = joined(incoming(channels=channels, samples=samples), [data])
    assert whole.shape == (400,)
    assert np.abs(whole).max() <= 1
    places = np.cumsum([0, *lengths]).tolist()
    parts = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    np.testing.assert_array_equal(joined(incoming(channels=channels, samples=samples), parts), whole)


def test_chunks_of_every_kind_are_the_same_sound() -> None:
    values = np.random.default_rng(0).integers(-32768, 32767, 5000).astype("<i2")
    expected = values.astype(np.float32) / 32768
    for chunks in (
        [values], [values[:, None]], [values.tobytes()], [bytearray(values.tobytes())], [memoryview(values.tobytes())],
        [Audio(values, 16_000)], [values[:0], values[:77], np.zeros((0, 2), np.int16), values[77:]],
    ):  # fmt: skip
        np.testing.assert_array_equal(joined(incoming(), chunks), expected)
    stereo = joined(incoming(None), [Audio(np.stack([values, values], axis=1), 16_000)])
    np.testing.assert_array_equal(stereo, expected)


def test_what_was_met_is_counted() -> None:
    given = incoming(channels=2)
    values = np.array([[32767, 0], [-32768, 5], [1, 1]], "<i2")
    joined(given, [values.tobytes() + b"\x01"])
    assert (given.frames, given.clipped, given.missing) == (3, 2, 1)
    assert (given.rate, given.channels, given.encoding) == (16_000, 2, "int16 bytes")


def test_another_rate_is_resampled_chunk_by_chunk() -> None:
    pytest.importorskip("soxr")
    tone = np.sin(np.arange(48_000) * 0.05).astype(np.float32)
    given = incoming(48_000)
    found = joined(given, [tone[first : first + 999] for first in range(0, 48_000, 999)])
    assert abs(len(found) - 16_000) <= 1
    assert given.resampled == 16_000
    whole = joined(incoming(48_000), [tone])
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_a_chunk_of_an_hour_comes_in_blocks() -> None:
    given = incoming(8000, samples="uint8")
    pytest.importorskip("soxr")
    longest, total = 0, 0
    for block in given.blocks(bytes([128]) * 8000 * 3600):
        longest, total = max(longest, len(block)), total + len(block)
    assert longest <= 2 * 16_000
    assert total >= 3599 * 16_000


HALF = np.zeros(10, np.int16)


@pytest.mark.parametrize(
    ("given", "chunks", "reason"),
    [
        (lambda: incoming(), [Audio(HALF, 8000)], "8000; 8,000|has the rate 8000; 16,000 was said"),
        (lambda: incoming(None), [Audio(HALF, 16_000), Audio(HALF, 44_100)], "44,100 Hz.*began with 16,000 Hz"),
        (lambda: incoming(), [HALF, HALF.astype(np.float32)], "float32; the stream began with .*int16"),
        (lambda: incoming(), [HALF, np.zeros((10, 2), np.int16)], "channels 2"),
        (lambda: incoming(), [HALF.tobytes(), HALF], "Begin another stream"),
        (lambda: incoming(), [np.full(5, np.nan, np.float32)], "not finite at the sample 0"),
        (lambda: incoming(), [np.zeros(5, np.complex64)], "dtype complex64"),
        (lambda: incoming(), [np.zeros((2, 2, 2), np.int16)], "shape"),
        (lambda: incoming(), ["talk.wav"], "of type str; bytes, an array or Audio"),
        (lambda: incoming(), [None], "of type NoneType"),
        (lambda: incoming(), [7], "of type int"),
        (lambda: incoming(None), [HALF], "without a rate"),
        (lambda: incoming(None), [b"ab"], "without a rate"),
        (lambda: incoming(samples="float32"), [b"\x00\x00\xc0\x7f"], "not finite"),
    ],
)
def test_chunks_that_are_no_sound_are_refused(given: Callable[[], Incoming], chunks: list[Any], reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        joined(given(), chunks)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((1.5, 1, "int16"), "rate is 1.5"),
        ((True, 1, "int16"), "rate is True"),
        ((1, 1, "int16"), "rate of 1 Hz"),
        ((16_000, 0, "int16"), "0 channels"),
        ((16_000, 2.0, "int16"), "channels is 2.0"),
        ((16_000, 1, "int12"), "samples is 'int12'"),
    ],
)
def test_settings_of_a_stream_are_checked(arguments: tuple[Any, Any, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Incoming(16_000, *arguments)
