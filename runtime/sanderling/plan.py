"""How a model runs on this device: variant, provider, threads, workers and batching."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MAX_THREADS = 1024

# Tokens a run, padding included. 256 to 512 fit the second-level cache and were fastest on CPUs; 2,048 lost 25%.
TOKEN_BUDGET = 512

Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]


class Plan(Struct, frozen=True):
    """A single run uses `threads`; several batches of one call are run by `workers` side by side, one thread each.

    `token_budget` bounds the tokens of a batch, padding included; an input longer than that goes alone.
    """

    variant: str
    provider: str
    threads: Threads
    workers: Threads
    token_budget: Annotated[int, Meta(ge=1)] = TOKEN_BUDGET


def default_plan(variant: str, provider: str, threads: int) -> Plan:
    """A plan that is good without tuning: on a CPU as many workers as threads, elsewhere one run at a time."""
    return Plan(variant, provider, threads, workers=threads if provider == "cpu" else 1)
