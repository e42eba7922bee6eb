"""How a model runs on this device: variant, provider, threads, workers and batching."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from sanderling import cache, cores

MAX_THREADS = 1024

# Tokens a run, padding included. 256 to 512 fit the second-level cache and were fastest on CPUs; 2,048 lost 25%.
TOKEN_BUDGET = 512
# Images a run: enough to keep the cores busy, few enough to stay in the caches.
IMAGE_BUDGET = 4

# Rows of a table a run: the graphs are small, and what a run costs by itself is spread over many.
ROW_BUDGET = 1024

Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]


class Plan(Struct, frozen=True):
    """A single run uses `threads`; several batches of one call are run by `workers` side by side, one thread each.

    `token_budget` bounds the tokens of a batch, padding included; an input longer than that goes alone.
    `image_budget` bounds the images of a batch, `row_budget` its rows of a table (or series).
    """

    variant: str
    provider: str
    threads: Threads
    workers: Threads
    token_budget: Annotated[int, Meta(ge=1)] = TOKEN_BUDGET
    image_budget: Annotated[int, Meta(ge=1)] = IMAGE_BUDGET
    row_budget: Annotated[int, Meta(ge=1)] = ROW_BUDGET

    @property
    def batch_invariant(self) -> bool:
        """Whether every input is answered alone, so that no answer can depend on its batch mates."""
        return self.token_budget == 1 and self.image_budget == 1 and self.row_budget == 1


def default_plan(variant: str, provider: str, threads: int, *, batch_invariant: bool = False) -> Plan:
    """A plan that is good without tuning: on a CPU as many workers as threads, elsewhere one run at a time."""
    workers = threads if provider == "cpu" else 1
    if batch_invariant:
        return Plan(variant, provider, threads, workers, token_budget=1, image_budget=1, row_budget=1)
    return Plan(variant, provider, threads, workers)


def tuned_plan(digest: str, runtime_version: str) -> Plan | None:
    """The plan that `tune` found for the bundle of this digest on this device, if it has."""
    if not cache.has("plan"):
        return None
    return cache.read("plan", _key(digest, runtime_version), Plan)


def remember_plan(digest: str, runtime_version: str, plan: Plan) -> None:
    """Keep a plan in the user's cache, for `load` on this device."""
    cache.write("plan", _key(digest, runtime_version), plan)


def _key(digest: str, runtime_version: str) -> str:
    from sanderling.processor import processor

    return cache.key("plan", digest, runtime_version, processor().identity, str(cores.granted()))
