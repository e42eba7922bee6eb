"""What models of one bundle may share: sessions of plans that differ in batching alone, and the tokenizer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from sanderling.plan import Plan
from sanderling.session import Arrays, Engine

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.placement import Placement
    from sanderling.session import Chain, Held, Start

T = TypeVar("T")


def graph_of(plan: Plan) -> tuple[Hashable, ...]:
    """What of a plan decides which graph is loaded, and how it is optimized: plans that agree in it share sessions."""
    return (plan.variant, plan.provider, plan.form, plan.disabled_fusions)


class Lent:
    """A session that belongs to a Shared: a model that is closed leaves it open for the others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.provider = engine.provider
        self.threads = engine.threads

    @property
    def placement(self) -> Placement:
        return self._engine.placement

    def run(self, feeds: Arrays, cancellation: Cancellation | None = None) -> dict[str, NDArray[Any]]:
        return self._engine.run(feeds, cancellation)

    def measure_placement(self, feeds: Sequence[Arrays], runs: int) -> Placement:
        return self._engine.measure_placement(feeds, runs)

    def profiled(self, passes: int) -> AbstractContextManager[Engine]:
        return self._engine.profiled(passes)

    def chain(self, links: Mapping[str, str], start: Mapping[str, Start], fixed: Held | None = None) -> Chain:
        return self._engine.chain(links, start, fixed)

    def hold(self, feeds: Arrays, cancellation: Cancellation | None = None, fixed: Held | None = None) -> Held:
        return self._engine.hold(feeds, cancellation, fixed)

    def close(self) -> None:
        """Nothing: the session is closed by whoever lent it."""


class Shared:
    """Keeps what `loading.assemble` made for one plan, for the next; `close` frees all of it."""

    def __init__(self) -> None:
        self._engines: dict[tuple[Hashable, ...], Engine] = {}
        self._things: dict[str, Any] = {}
        self._lock = threading.Lock()

    def engine(self, plan: Plan, threads: int, build: Callable[[], Engine], component: str = "") -> Engine:
        """The session of the plan's graph with so many threads, built if there is none yet; of a model of several
        graphs that answer together, of one of them."""
        key = (*graph_of(plan), component, threads)
        with self._lock:
            if key not in self._engines:
                self._engines[key] = build()
            return Lent(self._engines[key])

    def thing(self, name: str, make: Callable[[], T]) -> T:
        """What is the same for all plans, by name."""
        with self._lock:
            if name not in self._things:
                self._things[name] = make()
            found: T = self._things[name]
            return found

    def keep(self, plans: list[Plan]) -> None:
        """Close the sessions that none of these plans needs."""
        needed = {graph_of(plan) for plan in plans}
        with self._lock:
            for key in [key for key in self._engines if key[:-2] not in needed]:
                self._engines.pop(key).close()

    def close(self) -> None:
        """Close all sessions."""
        self.keep([])
