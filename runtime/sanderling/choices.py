"""What a load chooses where it is not told: plan, variant, provider, threads, and how pictures and sounds are read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from msgspec.structs import replace

from sanderling import components as parts
from sanderling import cores, verdicts
from sanderling.bundle import Bundle
from sanderling.counts import whole_number
from sanderling.errors import BundleError, InputError, StalePlanWarning
from sanderling.plan import MAX_THREADS, Plan, default_form, default_plan, tuned_plan
from sanderling.providers import CPU, RUNTIME_VERSION, available
from sanderling.schema.basics import Decode, Window

# The provider of the tuned plan, or the default where there is none.
AUTO = "auto"


def choose_plan(
    bundle: Bundle,
    variant: str | None,
    provider: str | None,
    threads: int | None,
    batch_invariant: bool,
    names: Sequence[str] | None = None,
) -> Plan:
    """What was asked for; where nothing was, the plan tuned on this device; else a plan that is good without tuning.

    It is for all components, or for those named.
    """
    if variant is None and threads is None and provider in (None, AUTO):
        # Of components that answer by themselves each has a plan of its own.
        own = names[0] if names is not None and len(names) == 1 < len(bundle.manifest.components) else ""
        tuned = tuned_plan(bundle.digest, RUNTIME_VERSION, own)
        usable = (
            tuned is not None
            and tuned.variant in bundle.manifest.variants
            and tuned.form in parts.forms(bundle, tuned.variant, names)
        )
        if tuned is not None and usable and (tuned.batch_invariant or not batch_invariant):
            if tuned.provider == CPU or tuned.provider in available():
                return tuned
            warnings.warn(
                f"The plan tuned for {bundle.path} is for the provider {tuned.provider!r}, which is no longer usable "
                f"here; the default plan is used. Tune again with: sanderling tune {bundle.path}",
                StalePlanWarning,
                stacklevel=3,
            )
    chosen = choose_provider(None if provider == AUTO else provider)
    name = choose_variant(bundle, variant)
    form = default_form(parts.forms(bundle, name, names), chosen)
    return default_plan(name, chosen, choose_threads(threads), form=form, batch_invariant=batch_invariant)


def tuned_towers(bundle: Bundle, names: Sequence[str], batch_invariant: bool, decode: Decode | None) -> dict[str, Plan]:
    """Of two towers that are loaded together, the plans that were tuned for them."""
    found: dict[str, Plan] = {}
    for name in names if len(names) > 1 and parts.joins(bundle.manifest) else ():
        if tuned_plan(bundle.digest, RUNTIME_VERSION, name) is None:
            continue
        plan = choose_plan(bundle, None, None, None, batch_invariant, (name,))
        permitted = verdicts.permitted(bundle, plan, variant_asked=False, provider_asked=False)
        if permitted != plan:
            form = default_form(parts.forms(bundle, permitted.variant, (name,)), permitted.provider)
            permitted = replace(permitted, form=form)
        found[name] = replace(permitted, decode=choose_decode(bundle, permitted.variant, decode))
    return found


def choose_variant(bundle: Bundle, variant: str | None) -> str:
    """The variant asked for, or the manifest's default. Raises BundleError if the bundle has no such variant."""
    manifest = bundle.manifest
    if variant is None:
        return manifest.default_variant
    if variant not in manifest.variants:
        raise BundleError(f"{bundle.path} has no variant {variant!r}; it has {', '.join(manifest.variants)}.")
    return variant


def choose_provider(provider: str | None) -> str:
    """The provider asked for, or "cpu"."""
    return "cpu" if provider is None else provider


def choose_decode(bundle: Bundle, variant: str, decode: str | None) -> Decode:
    """How a variant decodes large JPEG files: as asked for, or as its manifest says. Raises BundleError, InputError."""
    found = [bundle.manifest.components[name].variants[variant] for name in parts.seeing(bundle.manifest)]
    if decode is None:
        return "fast" if all(part.decode == "fast" for part in found) else "exact"
    if decode == "exact":
        return "exact"
    if decode != "fast":
        raise InputError(f"decode is {decode!r}; 'exact' or 'fast' was expected.")
    if any(part.fast_decode is None for part in found):
        raise BundleError(
            f"{bundle.path}: how far {variant} drifts if JPEG files are decoded at reduced scale was not measured, so "
            "that decode='fast' is refused. Leave it out, or export the bundle again with this Sanderling."
        )
    return "fast"


def choose_window(bundle: Bundle, plan: Plan, window: str | None) -> Window:
    """How long the windows are that a model hears: as asked for, or as planned. Raises BundleError, InputError."""
    if window is None:
        window = plan.window
    if window == "full":
        return "full"
    if window != "short":
        raise InputError(f"window is {window!r}; 'full' or 'short' was expected.")
    if all(component.variants[plan.variant].short_window is None for component in bundle.manifest.components.values()):
        raise BundleError(
            f"{bundle.path}: how far {plan.variant} drifts if sounds are heard in short windows was not measured, so "
            "that window='short' is refused. Leave it out, or export the bundle of a model that hears again with this "
            "Sanderling."
        )
    return "short"


def choose_threads(threads: int | None) -> int:
    """The threads asked for, or as many as the process was granted cores. Raises InputError."""
    if threads is None:
        return cores.granted()
    return whole_number("threads", threads, MAX_THREADS)
