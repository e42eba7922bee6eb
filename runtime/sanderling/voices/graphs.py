"""The loaded graphs of one voice, and what its three or four parts have in common when they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import GraphError, InferenceError
from sanderling.voices.rules import SPEAKER

if TYPE_CHECKING:
    from sanderling.bundle import Bundle
    from sanderling.cancellation import Cancellation
    from sanderling.engines import Engines
    from sanderling.plan import Plan
    from sanderling.schema.variants import Component
    from sanderling.schema.voices import VoiceSettings
    from sanderling.session import Arrays, Engine

# Who speaks: nobody in particular, the number of a speaker, or its vector (1, size).
Who: TypeAlias = int | NDArray[np.float32] | None


class Manner(Struct, frozen=True, eq=False):
    """How a sentence is said, and by whom."""

    settings: VoiceSettings
    speaker: Who


class Frames(Struct, frozen=True, eq=False):
    """The frames of one sentence, float32 (1, channels, frames); `finished` is false where they end at the most that a
    voice makes of it, and not where the voice ended it."""

    spectrum: NDArray[np.float32]
    finished: bool = True


class VoiceGraphs:
    """The graphs of one voice by the names of their components."""

    def __init__(self, bundle: Bundle, plan: Plan, parts: Mapping[str, Engines]) -> None:
        self.parts = dict(parts)
        self._bundle = bundle
        self._plan = plan
        self._told = {
            name
            for name, component in bundle.manifest.components.items()
            if any(spec.name == SPEAKER for spec in component.inputs)
        }

    def component(self, name: str) -> Component:
        """What the manifest says of one."""
        return self._bundle.manifest.components[name]

    def single(self) -> dict[str, Engine]:
        """What runs each graph with all threads."""
        return {name: part.single for name, part in self.parts.items()}

    def told(self, feeds: Arrays, name: str, speaker: Who) -> Arrays:
        """The feeds of a graph, with the number of who speaks where it asks for one."""
        if name not in self._told:
            return feeds
        return {**feeds, SPEAKER: np.array([speaker if isinstance(speaker, int) else 0], np.int64)}

    def frames(
        self, engine: Engine, name: str, feeds: Arrays, made: str, cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        """The frames that a graph makes of others, its first input. Raises GraphError, InferenceError."""
        given = next(iter(feeds.values()))
        if not given.shape[2]:
            return given
        found = engine.run(feeds, cancellation)[made]
        if found.shape != given.shape:
            raise GraphError(f"The {name} answers {given.shape} with {found.shape}; the same shape was expected.")
        return self.finite(found, name)

    def finite(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """The values that the graph `name` made, float32. Raises InferenceError where one is not finite."""
        if np.isfinite(values).all():
            return values
        raise InferenceError(
            f"The {name} of {self._bundle.manifest.name} {self._plan.variant} on {self._plan.provider} made values "
            f"that are not finite. Run: sanderling verify {self._bundle.path}"
        )
