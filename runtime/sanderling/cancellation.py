"""Ending a call early: from another thread, or when its time is up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sanderling.errors import CancelledError, DeadlineError, InputError


class Cancellation:
    """Handed to a call as `cancellation=`; `cancel()` from any thread ends the call, also in the middle of a run.

    With `timeout`, in seconds from its making, it ends the call by itself. One may serve several calls.
    """

    def __init__(self, timeout: float | None = None) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InputError(f"timeout is {timeout!r}; a number of seconds above 0 was expected.")
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False
        self._lock = threading.Lock()
        self._stops: dict[int, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def cancel(self) -> None:
        """End the calls this was handed to, as soon as they can."""
        with self._lock:
            self._cancelled = True
            stops = list(self._stops.values())
        for stop in stops:
            stop()

    def check(self) -> None:
        """Raise CancelledError or DeadlineError if the call is to end."""
        if self._cancelled:
            raise CancelledError("The call was cancelled before it had its answer.")
        if self.expired:
            raise DeadlineError(
                f"The call had {self._timeout:g} seconds, and they are over. "
                "Give it more time, fewer inputs, or a faster plan."
            )

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `stop` is called when the call is to end; then the reason is raised."""
        self.check()
        timer = None
        if self._deadline is not None:
            # No system waits for centuries; what is beyond its longest wait is as good as no deadline.
            left = min(max(0.0, self._deadline - time.monotonic()), threading.TIMEOUT_MAX)
            timer = threading.Timer(left, stop)
            timer.daemon = True
            timer.start()
        with self._lock:
            self._stops[id(stop)] = stop
            late = self._cancelled
        if late:
            stop()
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._stops.pop(id(stop), None)
            if timer is not None:
                timer.cancel()
