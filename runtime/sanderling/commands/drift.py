"""`sanderling inspect --drift`: what the bundle states of each variant's quality, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from sanderling.bundle import Bundle
from sanderling.commands.console import plain, print_json, stdout, table
from sanderling.schema.basics import Decode
from sanderling.schema.variants import Drift, Invariance, Tolerance, Variant, VectorLoss

if TYPE_CHECKING:
    from rich.table import Table

# A way of running is batch-invariant if no answer moved further than this from the same input answered alone.
INVARIANT_WITHIN = 1e-5
# Columns of a table for what a manifest can have any number of; JSON has them all.
_MOST_COLUMNS = 8


class VariantDrift(Struct, frozen=True):
    """One variant of one component: `size` in bytes, `speed` relative to fp32's, what was measured of it or None, and
    the ways of running in which it is batch-invariant. `fast_decode` is its drift with JPEG files decoded at reduced
    scale, `decode` what it does unless it is told."""

    variant: str
    component: str
    default: bool
    size: int
    speed: float | None
    drift: Drift | None
    invariance: Invariance | None
    batch_invariant: tuple[str, ...]
    tolerance: Tolerance
    fast_decode: Drift | None = None
    decode: Decode = "exact"
    losses: dict[str, VectorLoss] = {}


def show_drift(bundle: Bundle, *, as_json: bool) -> None:
    """Print the drift of every variant."""
    found = variant_drifts(bundle)
    if as_json:
        facts = {"path": str(bundle.path), "digest": bundle.digest, "invariant_within": INVARIANT_WITHIN}
        print_json({**facts, "variants": msgspec.to_builtins(found)}, indent=1)
        return
    console = stdout()
    console.print(_quality(found))
    if any(one.fast_decode is not None for one in found):
        console.print(_decoding(found))
    console.print(_invariance(found))
    console.print(
        f"[dim]Batch-invariant: 1 - cosine to the same input answered alone is below {INVARIANT_WITHIN:g}.[/]"
    )
    if any(one.losses for one in found):
        console.print(_losses(found))
    for one in found:
        if one.drift is not None and one.drift.worst:
            console.print(f"\n[bold]{_titled(one, found)}[/], farthest from the original:")
            for worst in one.drift.worst:
                console.print(f"  {worst.cosine:.5f}  {plain(worst.name)}")


def variant_drifts(bundle: Bundle) -> list[VariantDrift]:
    """What the manifest states of each variant that every component has, in its order."""
    manifest = bundle.manifest
    return [
        VariantDrift(
            name,
            component_name,
            name == manifest.default_variant,
            variant_size(bundle, name, component_name),
            variant.speed,
            variant.drift,
            variant.invariance,
            batch_invariant(variant),
            variant.tolerance,
            variant.fast_decode,
            variant.decode,
            variant.losses,
        )
        for name in manifest.variants
        for component_name, component in manifest.components.items()
        for variant in (component.variants[name],)
    ]


def batch_invariant(variant: Variant) -> tuple[str, ...]:
    """The ways of running a variant in which an answer does not depend on its batch mates, as measured at export.

    "alone", one input a run, always is. "batch": among mates of other lengths. "padding": padded by any count that was
    tried.
    """
    measured = variant.invariance
    ways = ["alone"]
    if measured is not None and 1 - measured.batch < INVARIANT_WITHIN:
        ways.append("batch")
    if measured is not None and measured.padding and 1 - min(measured.padding.values()) < INVARIANT_WITHIN:
        ways.append("padding")
    return tuple(ways)


def variant_size(bundle: Bundle, variant: str, component: str | None = None) -> int:
    """Bytes of a variant's graphs and weights, each file counted once; of all components, or of one."""
    files = {
        path
        for name, part in bundle.manifest.components.items()
        if component in (None, name)
        for form in part.variants[variant].forms.values()
        for path in (form.graph, *form.data)
    }
    return sum(bundle.manifest.files[path].size for path in files)


def _quality(found: list[VariantDrift]) -> Table:
    metrics = sorted({name for one in found if one.drift for name in one.drift.metrics})[:_MOST_COLUMNS]
    columns = ("variant", "MB", "speed", "n", "mean", "p01", "min", "same label", "at least")
    made = table(
        "Cosine to the original, and speed beside fp32's", *columns, *(f"{plain(name)} (original)" for name in metrics)
    )
    for one in found:
        drift = one.drift
        cosine = drift.cosine if drift else None
        measured = [drift.metrics.get(name) if drift else None for name in metrics]
        made.add_row(
            _titled(one, found) + ("\n(default)" if one.default else ""),
            f"{one.size / 1e6:.1f}",
            f"{one.speed:.2f} x" if one.speed is not None else "",
            f"{cosine.samples:,}" if cosine else "",
            f"{cosine.mean:.5f}" if cosine else "not measured",
            f"{cosine.p01:.5f}" if cosine and cosine.p01 is not None else "",
            f"{cosine.min:.5f}" if cosine else "",
            f"{drift.agreement:.1%}" if drift and drift.agreement is not None else "",
            f"{one.tolerance.min_cosine:.5f}",
            *(f"{metric.value:.4f} ({metric.reference:.4f})" if metric else "" for metric in measured),
        )
    return made


def _decoding(found: list[VariantDrift]) -> Table:
    title = "Large JPEG files decoded at reduced scale: cosine to the original, which decodes them in full"
    made = table(title, "variant", "n", "mean", "p01", "min", "same label", "unless told")
    for one in found:
        drift = one.fast_decode
        made.add_row(
            one.variant,
            f"{drift.cosine.samples:,}" if drift else "",
            f"{drift.cosine.mean:.5f}" if drift else "not measured",
            f"{drift.cosine.p01:.5f}" if drift and drift.cosine.p01 is not None else "",
            f"{drift.cosine.min:.5f}" if drift else "",
            f"{drift.agreement:.1%}" if drift and drift.agreement is not None else "",
            one.decode,
        )
    return made


def _invariance(found: list[VariantDrift]) -> Table:
    counts = {count for one in found if one.invariance for count in one.invariance.padding}
    paddings = sorted(counts, key=_as_number)[:_MOST_COLUMNS]
    padded_by = (f"padded by {plain(count)}" for count in paddings)
    title = "Lowest cosine to the same input answered alone"
    made = table(title, "variant", "batch mates", *padded_by, "invariant")
    for one in found:
        moved = one.invariance
        padded = [moved.padding.get(count) if moved else None for count in paddings]
        made.add_row(
            _titled(one, found),
            f"{moved.batch:.7f}" if moved else "not measured",
            *("" if value is None else f"{value:.7f}" for value in padded),
            ", ".join(one.batch_invariant),
        )
    return made


def _titled(one: VariantDrift, found: list[VariantDrift]) -> str:
    """The variant, and of a model of several graphs the graph."""
    return f"{one.variant}: {one.component}" if len({other.component for other in found}) > 1 else one.variant


def _losses(found: list[VariantDrift]) -> Table:
    title = "Smaller and shorter vectors, against the original's float32"
    made = table(title, "variant", "vectors", "n", "recall of the 10 nearest", "mean cosine", "min")
    for one in found:
        for name, loss in one.losses.items():
            made.add_row(
                one.variant,
                plain(name),
                f"{loss.samples:,}",
                f"{loss.recall:.4f}",
                f"{loss.cosine:.5f}" if loss.cosine is not None else "",
                f"{loss.min_cosine:.5f}" if loss.min_cosine is not None else "",
            )
    return made


def _as_number(count: str) -> tuple[int, str]:
    return (int(count) if count.isascii() and count.isdigit() and len(count) < 20 else 0, count)
