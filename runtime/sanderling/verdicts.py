"""Verdicts: what `verify` found on this machine, kept in the user's cache, and heeded by `load`.

One record for each variant on each provider, keyed by everything that an answer depends on: the bundle's digest, the
version of ONNX Runtime, and the processor. Another processor, or another ONNX Runtime, starts without verdicts.
"""

from __future__ import annotations

import warnings

from msgspec import Struct
from msgspec.structs import replace

from sanderling import cache
from sanderling.bundle import Bundle
from sanderling.errors import VerdictError, VerdictWarning
from sanderling.plan import Plan
from sanderling.providers import CPU, RUNTIME_VERSION

_KIND = "verdict"


class Verdict(Struct, frozen=True, omit_defaults=True):
    """Whether a variant on a provider answered as it did at export; `when` in UTC, `reason` what failed."""

    held: bool
    when: str
    reason: str = ""


def read(digest: str, variant: str, provider: str) -> Verdict | None:
    """The verdict on a variant of the bundle of this digest, on a provider, here; None where there is none yet."""
    if not cache.has(_KIND):
        return None
    return cache.read(_KIND, _key(digest, variant, provider), Verdict)


def record(digest: str, variant: str, provider: str, *, held: bool, reason: str = "") -> Verdict:
    """Keep what `verify` found, in the place of an older verdict."""
    from datetime import UTC, datetime  # reading, on every start, does without

    verdict = Verdict(held, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), reason)
    cache.write(_KIND, _key(digest, variant, provider), verdict)
    return verdict


def permitted(bundle: Bundle, plan: Plan, *, variant_asked: bool, provider_asked: bool) -> Plan:
    """`plan`, if `verify` has not failed its variant on its provider here; that costs one look into the cache.

    If it has, and the variant was not asked for by name, the plan with the next of the bundle's variants that has not
    failed (and on the CPU, where the provider was not asked for either), with a VerdictWarning. Raises VerdictError
    for what was asked for by name, or where nothing is left.
    """
    found = read(bundle.digest, plan.variant, plan.provider)
    if found is None or found.held:
        return plan
    failed = _describe(bundle, plan.variant, plan.provider, found)
    again = f"check again with: sanderling verify {bundle.path}"
    others = _others(bundle, plan, provider_asked)
    if variant_asked:
        names = ", ".join(dict.fromkeys(name for name, _ in others if name != plan.variant))
        instead = f"Load another variant ({names}), or " if names else "To have it cleared, "
        raise VerdictError(f"{failed} {instead}{again} --variant {plan.variant} --provider {plan.provider}")
    if not others:
        raise VerdictError(f"{failed} No other variant of the bundle is left. Export it again, or {again}")
    variant, provider = others[0]
    warnings.warn(f"{failed} Using {variant} on {provider} instead; {again}", VerdictWarning, stacklevel=3)
    return replace(plan, variant=variant, provider=provider)


def _others(bundle: Bundle, plan: Plan, provider_asked: bool) -> list[tuple[str, str]]:
    """Variants and providers to use in the plan's place, those first that hold, then those never verified."""
    manifest = bundle.manifest
    names = dict.fromkeys((plan.variant, manifest.default_variant, *manifest.variants))
    where = [plan.provider] if provider_asked else dict.fromkeys((plan.provider, CPU))
    known = {(name, provider): read(bundle.digest, name, provider) for provider in where for name in names}
    usable = [pair for pair, verdict in known.items() if verdict is None or verdict.held]
    return sorted(usable, key=lambda pair: known[pair] is None)


def _describe(bundle: Bundle, variant: str, provider: str, verdict: Verdict) -> str:
    from sanderling.processor import processor

    return (
        f"{bundle.path}: the variant {variant!r} is not to be used with the provider {provider!r} on this machine "
        f"({processor().model or processor().machine}, ONNX Runtime {RUNTIME_VERSION}): verifying it failed on "
        f"{verdict.when}, {verdict.reason}."
    )


def _key(digest: str, variant: str, provider: str) -> str:
    from sanderling.processor import processor  # not needed where nothing was ever verified

    return cache.key(_KIND, digest, variant, provider, RUNTIME_VERSION, processor().identity)
