"""From a component of a bundle to its sessions, as a plan says."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from sanderling.bundle import Bundle
from sanderling.engines import Engines
from sanderling.errors import BundleError
from sanderling.plan import Plan
from sanderling.providers import CPU
from sanderling.schema.variants import Component, Form
from sanderling.session import Session


def as_planned(bundle: Bundle, plan: Plan, name: str) -> tuple[Component, Form]:
    """A component with the inputs of the form that the plan runs, and that form. Raises BundleError: it has none."""
    component = bundle.manifest.components[name]
    forms = component.variants[plan.variant].forms
    if plan.form not in forms:
        raise BundleError(
            f"{bundle.path}: {name} of the variant {plan.variant!r} has no form {plan.form!r}; it has "
            f"{', '.join(forms)}."
        )
    form = forms[plan.form]
    return (replace(component, inputs=form.inputs) if form.inputs else component), form


def builder(bundle: Bundle, plan: Plan, name: str) -> Callable[[int], Session]:
    """What builds a component's session with so many threads; its files are verified now. Raises BundleError."""
    component, form = as_planned(bundle, plan, name)
    graph, *_ = bundle.require([form.graph, *form.data])

    def build(threads: int) -> Session:
        return Session(
            graph,
            component,
            provider=plan.provider,
            threads=threads,
            optimized=form.optimized and plan.provider == CPU,
            disabled_fusions=plan.disabled_fusions,
        )

    return build


def of_each(bundle: Bundle, engines: Callable[[str], Engines]) -> dict[str, Engines]:
    """The engines of every component, by name, one after the other; where one fails, those before are closed."""
    found: dict[str, Engines] = {}
    try:
        for name in bundle.manifest.components:
            found[name] = engines(name)
    except BaseException:
        for built in found.values():
            built.close()
        raise
    return found
