"""The sessions of one model: one for a single run with all threads, one for many runs side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sanderling.errors import ModelClosedError
from sanderling.session import Engine
from sanderling.workers import Workers


class Engines:
    """`single` has all threads of the plan. `many()` has one thread a run and is built when it is first needed, since
    an application that asks one thing at a time never does."""

    def __init__(self, single: Engine, workers: int, build: Callable[[], Engine]) -> None:
        self.single = single
        self.workers = Workers(workers)
        self._build = build
        self._many: Engine | None = single if single.threads == 1 else None
        self._lock = threading.Lock()
        self._closed = False

    def many(self) -> Engine:
        """The session for runs side by side."""
        with self._lock:
            self.check()
            if self._many is None:
                self._many = self._build()
            return self._many

    def check(self) -> None:
        """Raise ModelClosedError after `close`, also where there is nothing to run."""
        if self._closed:
            raise ModelClosedError("This model was closed; load it again.")

    def close(self) -> None:
        """Free the sessions and let the workers end."""
        with self._lock:
            self._closed = True
            many, self._many = self._many, None
        self.single.close()
        if many is not None:
            many.close()
        self.workers.close()
