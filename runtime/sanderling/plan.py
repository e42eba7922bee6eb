"""How a model runs on this device: variant, provider, threads, workers and batching."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from msgspec import Meta, Struct

from sanderling import cache, cores
from sanderling.schema.basics import Decode, Window

MAX_THREADS = 1024
MAX_ROUNDING = 4096

# Tokens a run, padding included. 256 to 512 fit the second-level cache and were equally fast on CPUs, while 256 takes a
# seventh less memory; 2,048 lost 25%.
TOKEN_BUDGET = 256
# Images a run: enough to keep the cores busy, few enough to stay in the caches.
IMAGE_BUDGET = 4

# Rows of a table a run: the graphs are small, and what a run costs by itself is spread over many.
ROW_BUDGET = 1024
# The forms of a graph that this runtime can feed; a bundle may have others.
PADDED, EXACT, PACKED = "padded", "exact", "packed"
FORMS = (EXACT, PACKED, PADDED)
# Fusions of ONNX Runtime that are slower than the parts they fuse, by measurement on x86-64 with and without VNNI.
DISABLED_FUSIONS = ("SkipLayerNormFusion",)

Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]


class Plan(Struct, frozen=True):
    """A single run uses `threads`; several batches of one call are run by `workers` side by side, one thread each.

    `token_budget` bounds the tokens of a batch, padding included; an input longer than that goes alone.
    `image_budget` bounds the images of a batch, `row_budget` its rows of a table (or series).
    `form` is the graph that runs the variant's weights, `rounding` the
    multiple that the lengths of padded batches are rounded up to, and `disabled_fusions` names the fusions that ONNX
    Runtime is to leave out where it optimizes the graph. With `decode` "fast" large JPEG files are decoded at reduced
    scale, and only what a crop keeps of a JPEG is resized. With `window` "short" a sound is heard with little silence
    behind it, and not with as much as fills the model's window.
    """

    variant: str
    provider: str
    threads: Threads
    workers: Threads
    token_budget: Annotated[int, Meta(ge=1)] = TOKEN_BUDGET
    image_budget: Annotated[int, Meta(ge=1)] = IMAGE_BUDGET
    row_budget: Annotated[int, Meta(ge=1)] = ROW_BUDGET
    form: str = PADDED
    rounding: Annotated[int, Meta(ge=1, le=MAX_ROUNDING)] = 1
    disabled_fusions: tuple[str, ...] = DISABLED_FUSIONS
    decode: Decode = "exact"
    window: Window = "full"

    @property
    def batch_invariant(self) -> bool:
        """Whether every input is answered alone, so that no answer can depend on its batch mates."""
        return self.token_budget == 1 and self.image_budget == 1 and self.row_budget == 1


def default_plan(
    variant: str, provider: str, threads: int, *, form: str = PADDED, batch_invariant: bool = False
) -> Plan:
    """A plan that is good without tuning: on a CPU as many workers as threads, elsewhere one run at a time."""
    workers = threads if provider == "cpu" else 1
    if batch_invariant:
        return Plan(variant, provider, threads, workers, token_budget=1, image_budget=1, row_budget=1, form=form)
    return Plan(variant, provider, threads, workers, form=form)


def default_form(forms: Collection[str], provider: str) -> str:
    """The form that is good without tuning: texts of one length on a CPU, padded where each new shape costs.

    A bundle without a form that this runtime can feed is given its first one.
    """
    wanted = FORMS if provider == "cpu" else (PADDED, *FORMS)
    return next((form for form in wanted if form in forms), next(iter(forms), PADDED))


def tuned_plan(digest: str, runtime_version: str, component: str = "") -> Plan | None:
    """The plan that `tune` found for the bundle of this digest on this device, if it has; of one of several components
    that answer by themselves, its own."""
    if not cache.has("plan"):
        return None
    return cache.read("plan", _key(digest, runtime_version, component), Plan)


def remember_plan(digest: str, runtime_version: str, plan: Plan, component: str = "") -> None:
    """Keep a plan in the user's cache, for `load` on this device."""
    cache.write("plan", _key(digest, runtime_version, component), plan)


def _key(digest: str, runtime_version: str, component: str) -> str:
    from sanderling.processor import processor

    named = (component,) if component else ()
    return cache.key("plan", digest, runtime_version, processor().identity, str(cores.granted()), *named)
