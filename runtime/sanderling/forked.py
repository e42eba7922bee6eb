"""What a forked child inherits of ONNX Runtime without its threads: it lets go of it, but never destroys it."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from sanderling import cores


class Abandoned(Protocol):
    """What holds a session of ONNX Runtime."""

    def abandon(self) -> None:
        """In a forked child: never destroy the session, since that would wait for threads that are not there."""


_alive: weakref.WeakSet[Abandoned] = weakref.WeakSet()
_kept: list[Any] = []


def watch(holder: Abandoned) -> None:
    """Have `holder` abandon its session in each forked child."""
    _alive.add(holder)


def keep(session: Any) -> None:
    """Keep what is never to be destroyed."""
    _kept.append(session)


def _after_fork() -> None:
    import ctypes

    cores.budget.cache_clear()
    for holder in list(_alive):
        holder.abandon()
    # Nor may they be destroyed when the interpreter ends and lets its modules go.
    for session in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
