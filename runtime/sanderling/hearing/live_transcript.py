"""A stream of words from a stream of sound: who reads the source, who hears, and how both end."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from sanderling.cancellation import Cancellation
from sanderling.errors import InputError
from sanderling.hearing.live_sound import Incoming, WaitingRoom
from sanderling.hearing.live_windows import LiveWindows
from sanderling.hearing.live_words import Delays, LiveReport, LiveUpdate, Shown

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

# How long, in seconds, closing waits for a source that is being read; one that stays blocked ends with its next chunk.
_PATIENCE = 1.0


class LiveTranscript:
    """What is said in a sound that still comes: an iterator of LiveUpdate, with `for` or `async for`, made by `live`.

    `end()` takes no more sound and lets the words of what came be read; `close()` ends all at once, as leaving a `with`
    block does. A source that is a generator is closed with it. `report` says what became of the stream so far.
    """

    def __init__(
        self,
        chunks: Iterable[Any] | AsyncIterable[Any],
        incoming: Incoming,
        room: WaitingRoom,
        windows: LiveWindows,
        step: int,
        steady: bool,
        cancellation: Cancellation,
        shared: bool,
    ) -> None:
        self._chunks = chunks
        self._incoming = incoming
        self._room = room
        self._windows = windows
        self._step = step
        self._steady = steady
        self._cancellation = cancellation
        self._shared = shared  # the cancellation is the caller's: other calls may have it too
        self._rate = incoming.wanted
        self._ready: deque[LiveUpdate] = deque()
        self._over = self._closed = False
        self._error: BaseException | None = None
        self._turn = threading.Lock()
        self._reader: threading.Thread | None = None
        self._pump: asyncio.Task[None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._delays, self._shown, self._updates = Delays(), Shown(), 0
        # Who forgets the stream without closing it lets its reader go all the same.
        weakref.finalize(self, room.close)

    def __iter__(self) -> Iterator[LiveUpdate]:
        return self

    def __next__(self) -> LiveUpdate:
        if not isinstance(self._chunks, Iterable):
            raise InputError("The chunks come asynchronously; read the words with `async for`.")
        self._read()
        found = self._next()
        if found is None:
            raise StopIteration
        return found

    def __aiter__(self) -> AsyncIterator[LiveUpdate]:
        return self

    async def __anext__(self) -> LiveUpdate:
        import asyncio  # only for those who use it
        from concurrent.futures import ThreadPoolExecutor

        if self._closed:
            raise StopAsyncIteration
        if self._threads is None:
            # Of its own: many streams at once would fill the event loop's, each waiting for sound.
            self._threads = ThreadPoolExecutor(2, "sanderling-live")
            if isinstance(self._chunks, AsyncIterable):
                self._pump = asyncio.ensure_future(self._pumped(self._chunks))
            else:
                self._read()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._next)
        except asyncio.CancelledError:
            if not self._shared:
                self._cancellation.cancel()
            await self.aclose()
            raise
        except BaseException:
            await self.aclose()
            raise
        if found is None:
            await self.aclose()
            raise StopAsyncIteration
        return found

    def end(self) -> None:
        """Take no more sound; the words of what came are still to be read."""
        self._room.end()

    def close(self) -> None:
        """Hear no more. The source is closed, at once or with the chunk that it is waiting for."""
        self._leave()
        if self._pump is not None and not self._pump.get_loop().is_closed():
            self._pump.get_loop().call_soon_threadsafe(self._pump.cancel)
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(_PATIENCE)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop; an asynchronous source is closed when it returns."""
        import asyncio

        self._leave()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def report(self) -> LiveReport:
        """What became of the stream so far."""
        incoming, totals, rate = self._incoming, self._windows.totals, self._rate
        return LiveReport(
            incoming.rate, incoming.channels, incoming.encoding, incoming.resampled, self._windows.until / rate,
            incoming.clipped, incoming.missing, totals.words, self._updates, totals.silent / rate,
            totals.unfinished / rate, totals.dropped / rate, totals.cuts,
            self._delays.quantile(0.5), self._delays.quantile(0.9),
        )  # fmt: skip

    def _leave(self) -> None:
        self._closed = self._over = True
        self._room.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _read(self) -> None:
        """Begin to read a plain source."""
        if self._reader is None and not self._over:
            self._reader = threading.Thread(
                target=_brought, args=(self._chunks, self._incoming, self._room), name="sanderling-live", daemon=True
            )
            self._reader.start()

    async def _pumped(self, chunks: AsyncIterable[Any]) -> None:
        """Bring the chunks of an asynchronous source; they are read and resampled in a thread."""
        import asyncio

        loop, error = asyncio.get_running_loop(), None
        try:
            async for chunk in chunks:
                if not await loop.run_in_executor(self._threads, _put, chunk, self._incoming, self._room):
                    break
            else:
                await loop.run_in_executor(self._threads, _put_rest, self._incoming, self._room)
        except Exception as met:
            error = met
        finally:
            self._room.end(error)
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _next(self) -> LiveUpdate | None:
        """The next update; None at the end, or the error that ended the source, once."""
        with self._turn:
            while not self._ready and not self._over:
                try:
                    self._advance()
                except BaseException:
                    self._over = True
                    self._room.close()
                    raise
            if self._closed:
                return None
            if self._ready:
                return self._ready.popleft()
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None

    def _advance(self) -> None:
        """Hear one more step of the sound, or what is left at its end."""
        self._cancellation.check()
        lost, samples = self._room.take(self._step, self._cancellation)
        if lost:
            found = self._windows.gap(lost)
        elif len(samples):
            hurry = not self._steady and self._room.waiting >= self._step
            found = self._windows.push(samples, hurry=hurry)
        else:
            self._over = True
            if self._closed:
                return
            found = self._windows.end()
            # What ended the source is raised behind the words of what came before it.
            self._error = self._room.error
        self._ready.extend(self._stated(update) for update in found)
        self._room.forget(self._windows.earliest)

    def _stated(self, update: LiveUpdate) -> LiveUpdate:
        """The update with the delay of each word."""
        now = time.perf_counter()
        found = []
        for place, word in enumerate((*update.final, *update.partial)):
            known = self._shown.known(place, word)
            late = now - self._room.arrived(round(word.end * self._rate)) if known is None else known
            found.append(replace(word, delay=max(0.0, late)))
        final, partial = tuple(found[: len(update.final)]), tuple(found[len(update.final) :])
        self._shown.keep(partial)
        self._delays.add(final)
        self._updates += 1
        return replace(update, final=final, partial=partial)


def _brought(chunks: Iterable[Any], incoming: Incoming, room: WaitingRoom) -> None:
    """Bring all chunks of a source, in a thread of its own."""
    error: BaseException | None = None
    try:
        for chunk in chunks:
            if not _put(chunk, incoming, room):
                break
        else:
            _put_rest(incoming, room)
    except BaseException as met:  # whatever it is: it is raised where the words are read
        error = met
    finally:
        room.end(error)
        if isinstance(chunks, Generator):
            chunks.close()


def _put(chunk: Any, incoming: Incoming, room: WaitingRoom) -> bool:
    return all(room.put(block) for block in incoming.blocks(chunk)) and room.wanted


def _put_rest(incoming: Incoming, room: WaitingRoom) -> None:
    rest = incoming.rest()
    if len(rest):
        room.put(rest)
