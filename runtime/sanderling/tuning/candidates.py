"""The plans that `tune` chooses from, in the order in which it tries them: the likeliest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

from msgspec.structs import replace

from sanderling import cores
from sanderling.bundle import Bundle
from sanderling.components import apart, forms, modality
from sanderling.plan import DISABLED_FUSIONS, FORMS, IMAGE_BUDGET, PADDED, ROW_BUDGET, TOKEN_BUDGET, Plan
from sanderling.providers import CPU, available
from sanderling.schema.sounds import Filterbank, Waveform
from sanderling.tuning.whole_answers import writes

Purpose = Literal["latency", "throughput", "memory"]

_TOKEN_BUDGETS = (TOKEN_BUDGET, 512, 1024, 128, 1)
_IMAGE_BUDGETS = (IMAGE_BUDGET, 16, 1)
_ROW_BUDGETS = (ROW_BUDGET, 64, 1)
# Pictures whose answers are written side by side.
_SEEN_BUDGETS = (IMAGE_BUDGET, 8, 1)
# By what they are of. What is written side by side is as many answers as there are, or one.
_BUDGETS: dict[str, Sequence[int]] = {
    "text": _TOKEN_BUDGETS,
    "image": _IMAGE_BUDGETS,
    "rows": _ROW_BUDGETS,
    "seen": _SEEN_BUDGETS,
    "written": (TOKEN_BUDGET, 1),
    "nothing": (ROW_BUDGET,),
}
# Providers that compile for each shape are given few of them.
_ROUNDINGS = (16, 32, 1)
# Fusions of ONNX Runtime to leave out, beside the default: none, and one more that is slower on some processors.
_FUSIONS = ((), (*DISABLED_FUSIONS, "BiasGeluFusion"))


def graphs(bundle: Bundle, purpose: Purpose, batch_invariant: bool, component: str | None = None) -> list[Plan]:
    """One plan for each variant, form and provider, batched as is likely to be good; of a bundle whose components
    answer by themselves, for one of them."""
    manifest = bundle.manifest
    # Small weights are read fastest, and a form that is good for one variant is likely to be for others.
    variants = sorted(
        manifest.variants, key=lambda name: (name != manifest.default_variant, _size(bundle, name, component))
    )
    budget = 1 if batch_invariant or _apart(bundle) else _budgets(bundle, purpose, component)[0]
    found = []
    for provider, place in product(available(), range(len(FORMS))):
        for variant in variants:
            known = _known_forms(bundle, variant, component)
            if place < len(known):
                threads, workers = _shapes(bundle, purpose, provider)[0]
                plan = Plan(variant, provider, threads, workers, form=known[place])
                found.append(
                    _with_budget(bundle, replace(plan, rounding=_roundings(bundle, plan)[0]), budget, component)
                )
    return found


def _known_forms(bundle: Bundle, variant: str, component: str | None) -> list[str]:
    """The forms that this runtime knows, the likeliest first; of a bundle without any, its first."""
    there = forms(bundle, variant, (component,) if component else None)
    return [form for form in FORMS if form in there] or list(there[:1])


def _size(bundle: Bundle, variant: str, component: str | None) -> int:
    """Bytes of the weights, which all forms share."""
    files = bundle.manifest.files
    parts = [part for name, part in bundle.manifest.components.items() if component in (None, name)]
    every = [form for part in parts for form in part.variants[variant].forms.values()]
    return sum(files[name].size for name in {name for form in every for name in form.data})


def fusions(bundle: Bundle, plan: Plan, component: str | None = None) -> list[Plan]:
    """The same plan with other fusions left out, where ONNX Runtime optimizes a transformer's graph for the CPU."""
    names = (component,) if component is not None else tuple(bundle.manifest.components)
    parts = [bundle.manifest.components[name].variants[plan.variant].forms[plan.form] for name in names]
    optimized = all(form.optimized for form in parts)
    transformer = component is not None or bundle.manifest.preprocessing.text is not None  # towers are all of them
    if not transformer or plan.provider != CPU or optimized:
        return []
    return [replace(plan, disabled_fusions=names) for names in _FUSIONS]


def batchings(
    bundle: Bundle, purpose: Purpose, plan: Plan, batch_invariant: bool, component: str | None = None
) -> list[Plan]:
    """The same graph in all ways of threads, workers, budget and rounding."""
    budgets = (1,) if batch_invariant or _apart(bundle) else _budgets(bundle, purpose, component)
    return [
        _with_budget(bundle, replace(plan, threads=threads, workers=workers, rounding=rounding), budget, component)
        for budget, (threads, workers), rounding in product(
            budgets, _shapes(bundle, purpose, plan.provider), _roundings(bundle, plan)
        )
    ]


def everything(bundle: Bundle, purpose: Purpose, batch_invariant: bool, component: str | None = None) -> list[Plan]:
    """Every plan that `tune` could come upon, for a search that leaves none out."""
    every = []
    for graph in graphs(bundle, purpose, batch_invariant, component):
        for plan in (graph, *fusions(bundle, graph, component)):
            every += batchings(bundle, purpose, plan, batch_invariant, component)
    return list(dict.fromkeys(every))


def _takes(bundle: Bundle, component: str | None) -> str:
    """What budgets are of: "text", "image", or rows of numbers; "seen" of pictures that are answered in words, and
    "nothing" of models whose inputs share no runs."""
    if component is not None:
        return modality(bundle.manifest, component)
    if _features(bundle) is not None:
        return "image"  # sounds of one length share a run as images do
    preprocessing = bundle.manifest.preprocessing
    if writes(bundle):
        return "seen" if preprocessing.image is not None else "written"
    if len(bundle.manifest.components) > 1:
        return "nothing"
    return "text" if preprocessing.text is not None else "image" if preprocessing.image is not None else "rows"


def _features(bundle: Bundle) -> Filterbank | Waveform | None:
    """What a model of one graph hears; None of any other model."""
    audio = bundle.manifest.preprocessing.audio
    heard = None if audio is None or len(bundle.manifest.components) > 1 else audio.features
    return heard if isinstance(heard, Filterbank | Waveform) else None


def _apart(bundle: Bundle) -> bool:
    """Whether each input has a run of its own, whatever the plan: sounds of any length are never padded."""
    return isinstance(_features(bundle), Waveform)


def _budgets(bundle: Bundle, purpose: Purpose, component: str | None) -> Sequence[int]:
    known = _BUDGETS[_takes(bundle, component)]
    # One input at a time is batched the same by all; little memory is taken by small batches.
    return {"throughput": known, "latency": known[:1], "memory": known[-2:]}[purpose]


def _with_budget(bundle: Bundle, plan: Plan, budget: int, component: str | None) -> Plan:
    """The plan with a budget of what the model takes; the others as by default, or 1 in a batch-invariant plan."""
    if budget == 1:
        return replace(plan, token_budget=1, image_budget=1, row_budget=1)
    taken = _takes(bundle, component)
    if taken == "text":
        return replace(plan, token_budget=budget, image_budget=IMAGE_BUDGET, row_budget=ROW_BUDGET)
    if taken in ("image", "seen"):
        return replace(plan, token_budget=TOKEN_BUDGET, image_budget=budget, row_budget=ROW_BUDGET)
    if taken in ("written", "nothing"):
        return replace(plan, token_budget=TOKEN_BUDGET, image_budget=IMAGE_BUDGET, row_budget=ROW_BUDGET)
    return replace(plan, token_budget=TOKEN_BUDGET, image_budget=IMAGE_BUDGET, row_budget=budget)


def _shapes(bundle: Bundle, purpose: Purpose, provider: str) -> list[tuple[int, int]]:
    """Threads of a single run, and workers: one run a core, all cores in one run, and what lies between.

    Of several graphs that answer together, runs follow each other, or are parts of one answer, also of a single input.
    """
    if purpose == "memory":
        return [(1, 1)]
    if provider != CPU:
        return [(1, 1), (1, 2)] if purpose == "throughput" else [(1, 1)]
    granted = cores.granted()
    counts = sorted({1, max(1, granted // 2), granted}, reverse=True)
    if writes(bundle):
        return [(threads, 1) for threads in counts]
    if len(bundle.manifest.components) > 1 and len(apart(bundle)) == 1:
        return [*dict.fromkeys([(granted, granted), *((threads, 1) for threads in counts)])]
    if purpose == "latency":
        return [(threads, 1) for threads in counts]
    return [(granted, granted), *((threads, 1) for threads in counts if threads > 1)]


def _roundings(bundle: Bundle, plan: Plan) -> Sequence[int]:
    rounds = plan.provider != CPU and plan.form == PADDED and len(apart(bundle)) == len(bundle.manifest.components)
    return _ROUNDINGS if rounds and not writes(bundle) else (1,)
