"""Work of another thread while the caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sanderling.session import Engine


class Background:
    """A session that is built in a thread of its own while the caller goes on."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._built: Engine | BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(build,), daemon=True)
        self._thread.start()

    def _run(self, build: Callable[[], Engine]) -> None:
        try:
            self._built = build()
        except BaseException as error:  # raised in the caller's thread by result()
            self._built = error

    def wait(self) -> None:
        """Until the thread has ended, well or not."""
        self._thread.join()

    def result(self) -> Engine:
        """The session, or its error raised here; after `wait`."""
        assert self._built is not None
        if isinstance(self._built, BaseException):
            raise self._built
        return self._built
