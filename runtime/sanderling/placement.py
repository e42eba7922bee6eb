"""Which provider really has which nodes of a graph: the truth, not what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct


class Placement(Struct, frozen=True):
    """Where the nodes of a loaded graph run. `operators` counts them by provider and operator type.

    `seconds` is the time that each provider's nodes took in the runs that were measured; empty until
    `Model.measure_placement`. Of a model of several graphs that answer together `graphs` has each one's placement, by
    the component's name.
    """

    asked: str
    operators: dict[str, dict[str, int]]
    seconds: dict[str, float] = {}
    graphs: dict[str, Placement] = {}

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

    @property
    def time_shares(self) -> dict[str, float]:
        """Each provider's share of the time that the nodes took; empty until it was measured."""
        total = sum(self.seconds.values())
        return {provider: spent / total for provider, spent in self.seconds.items()} if total else {}

    def __str__(self) -> str:
        total = sum(self.nodes.values())
        here = f"{self.nodes.get(self.asked, 0)} of {total} nodes are on {self.asked}"
        if self.seconds:
            here += f" and take {self.time_shares.get(self.asked, 0.0):.0%} of the time"
        others = [
            f"{sum(found.values())} on {provider} ({', '.join(f'{op} x {n}' for op, n in _most(found))})"
            for provider, found in self.operators.items()
            if provider != self.asked
        ]
        return ", ".join([here, *others])


def together(asked: str, placements: Iterable[Placement] | Mapping[str, Placement]) -> Placement:
    """The placement of several graphs of one model as if they were one; their measured seconds add up. Those given by
    name are in `graphs`."""
    named = dict(placements) if isinstance(placements, Mapping) else {}
    operators: dict[str, dict[str, int]] = {}
    seconds: dict[str, float] = {}
    for part in named.values() if isinstance(placements, Mapping) else placements:
        for provider, found in part.operators.items():
            there = operators.setdefault(provider, {})
            for name, count in found.items():
                there[name] = there.get(name, 0) + count
        for provider, spent in part.seconds.items():
            seconds[provider] = seconds.get(provider, 0.0) + spent
    return Placement(asked, operators, seconds, named)


def run_count(events: Iterable[dict[str, Any]]) -> int:
    """How many runs the events of ONNX Runtime's profiler are of."""
    return sum(event.get("cat") == "Session" and event.get("name") == "model_run" for event in events)


def node_seconds(events: Iterable[dict[str, Any]], skip: int = 0) -> dict[str, float]:
    """Seconds that nodes took by provider (ONNX Runtime's names), from the events of its profiler.

    The first `skip` runs are left out. A node that runs a graph of its own counts without that graph's nodes. The
    profiler gives `ts` and `dur` in microseconds (Chrome's trace event format).
    """
    listed = list(events)
    ends = sorted(e["ts"] + e["dur"] for e in listed if e.get("cat") == "Session" and e.get("name") == "model_run")
    begin = ends[skip - 1] if 0 < skip <= len(ends) else 0
    nodes = [e for e in listed if e.get("cat") == "Node" and "provider" in e.get("args", {}) and e["ts"] >= begin]
    spent: Counter[str] = Counter()
    around: list[dict[str, Any]] = []
    for event in sorted(nodes, key=lambda e: (e["ts"], -e["dur"])):
        while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
            around.pop()
        if around and event["ts"] + event["dur"] <= around[-1]["ts"] + around[-1]["dur"] and event["dur"]:
            spent[around[-1]["args"]["provider"]] -= event["dur"]
        spent[event["args"]["provider"]] += event["dur"]
        if event["dur"]:
            around.append(event)
    return {provider: count / 1e6 for provider, count in spent.items()}


def _most(operators: dict[str, int], count: int = 6) -> list[tuple[str, int]]:
    return sorted(operators.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
