"""Threads that work through the batches of one call side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from operator import length_hint
from typing import Generic, TypeVar

T = TypeVar("T")


class Workers:
    """A fixed number of threads, started when first needed and asleep while there is nothing to do.

    The caller is one of them, so that a single worker needs no thread at all. Many callers may share them.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def each(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Call `work` with each item, several at a time, in about the items' order; return when all are done.

        The first error stops what has not begun, and is raised here.
        """
        job = _Job(items, work)
        for _ in range(self._helpers(length_hint(items, self.count) - 1)):
            self._jobs.put(job.help)
        job.take()
        job.finish()

    def close(self) -> None:
        """Let the threads end once the calls under way are done; a later `each` does all in its caller's thread."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)

    def _helpers(self, wanted: int) -> int:
        """Threads that help the caller, at most as many as are `wanted`; started here, but none once it was closed."""
        wanted = min(wanted, self.count - 1)
        with self._lock:
            while not self._closed and len(self._threads) < wanted:
                thread = threading.Thread(target=self._loop, name="sanderling-worker", daemon=True)
                thread.start()
                self._threads.append(thread)
            return max(0, min(wanted, len(self._threads)))

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class _Job(Generic[T]):
    """The items of one call, taken one by one by whoever is free."""

    def __init__(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        self._items = iter(items)
        self._work = work
        self._error: BaseException | None = None
        self._helping = 0
        self._done = threading.Condition()
        self._open = True

    def help(self) -> None:
        """What a helping thread does: take items until there are none; nothing if the caller has finished."""
        with self._done:
            if not self._open:
                return
            self._helping += 1
        try:
            self.take()
        finally:
            with self._done:
                self._helping -= 1
                self._done.notify_all()

    def take(self) -> None:
        """Work through items until none are left or one failed."""
        while True:
            with self._done:
                if self._error is not None:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    return
                except BaseException as error:  # raised again by finish(), in the caller's thread
                    self._error = error
                    return
            try:
                self._work(item)
            except BaseException as error:  # raised again by finish(), in the caller's thread
                with self._done:
                    self._error = self._error or error
                return

    def finish(self) -> None:
        """Wait for the helpers that are at work; raise the first error."""
        with self._done:
            self._open = False
            while self._helping:
                self._done.wait()
        if self._error is not None:
            raise self._error
