"""Which provider really has which nodes of a graph: the truth, not what was asked for."""

from __future__ import annotations

from msgspec import Struct


class Placement(Struct, frozen=True):
    """Where the nodes of a loaded graph run. `operators` counts them by provider and operator type."""

    asked: str
    operators: dict[str, dict[str, int]]

    @property
    def nodes(self) -> dict[str, int]:
        """Nodes by provider."""
        return {provider: sum(found.values()) for provider, found in self.operators.items()}

    @property
    def complete(self) -> bool:
        """Whether every node is on the provider that was asked for."""
        return set(self.operators) <= {self.asked}

    @property
    def share(self) -> float:
        """The share of the nodes that is on the provider that was asked for."""
        return self.nodes.get(self.asked, 0) / max(1, sum(self.nodes.values()))

    def __str__(self) -> str:
        total = sum(self.nodes.values())
        here = f"{self.nodes.get(self.asked, 0)} of {total} nodes are on {self.asked}"
        others = [
            f"{sum(found.values())} on {provider} ({', '.join(f'{op} x {n}' for op, n in _most(found))})"
            for provider, found in self.operators.items()
            if provider != self.asked
        ]
        return ", ".join([here, *others])


def _most(operators: dict[str, int], count: int = 6) -> list[tuple[str, int]]:
    return sorted(operators.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
