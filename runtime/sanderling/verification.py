"""`verify`: the golden samples replayed on this machine, for every variant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle, open_bundle
from sanderling.errors import InputError
from sanderling.golden import Golden, GoldenSample, read_golden
from sanderling.loading import assemble, choose_provider, choose_threads, choose_variant
from sanderling.manifest import Tolerance
from sanderling.model import Model
from sanderling.plan import default_plan

# Preprocessed tensors: whole numbers are equal, floats within the last digits of float32.
MAX_INPUT_DIFFERENCE = 1e-6


@dataclass(frozen=True, slots=True)
class Check:
    """One golden sample through one variant, answered alone or in one batch with all the others.

    `input_difference` is the largest absolute difference of any preprocessed tensor from the original's
    (infinite where the shapes differ), `cosine` and `max_abs` compare the answers.
    """

    variant: str
    sample: str
    batching: str
    input_difference: float
    cosine: float
    max_abs: float
    held: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found: every check, and the tolerance of each variant."""

    name: str
    digest: str
    provider: str
    threads: int
    tolerances: dict[str, Tolerance]
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        """Whether every check held."""
        return all(check.held for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not hold."""
        return tuple(check for check in self.checks if not check.held)


def verify(
    path: str | os.PathLike[str],
    *,
    variants: Iterable[str] | None = None,
    provider: str | None = None,
    threads: int | None = None,
) -> Report:
    """Hash every file of the bundle, then replay its golden samples through `variants` (default: all of them).

    Raises BundleError for a damaged bundle, InputError for no variants at all or a wrong count of threads. Answers
    that drifted are in the report, not raised.
    """
    bundle = open_bundle(path, integrity="full")
    bundle.verify_all()
    golden = read_golden(bundle)
    provider, threads = choose_provider(provider), choose_threads(threads)
    chosen = [choose_variant(bundle, v) for v in (variants if variants is not None else bundle.manifest.variants)]
    if not chosen:
        raise InputError("No variant to verify was given; leave out `variants` for all of them.")
    checks: list[Check] = []
    for variant in chosen:
        with assemble(bundle, default_plan(variant, provider, threads)) as model:
            checks += replay(model, golden, tolerance(bundle, variant))
    tolerances = {variant: tolerance(bundle, variant) for variant in chosen}
    return Report(bundle.manifest.name, bundle.digest, provider, threads, tolerances, tuple(checks))


def tolerance(bundle: Bundle, variant: str) -> Tolerance:
    """The strictest tolerance that the bundle's components state for a variant."""
    stated = [component.variants[variant].tolerance for component in bundle.manifest.components.values()]
    limits = [t.max_abs for t in stated if t.max_abs is not None]
    return Tolerance(max(t.min_cosine for t in stated), min(limits) if limits else None)


def replay(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    """Each golden sample alone, then all in one call."""
    items = [_item(model.bundle, sample) for sample in golden.samples]
    differences = [_input_difference(model, item, golden, s) for item, s in zip(items, golden.samples, strict=True)]
    alone = np.concatenate([model.answer([item]).rows for item in items])
    together = model.answer(items).rows
    return [
        _check(model.variant, sample, batching, difference, row, golden.output(sample), limits)
        for batching, rows in (("alone", alone), ("batch", together))
        for sample, difference, row in zip(golden.samples, differences, rows, strict=True)
    ]


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine similarity of the rows of two arrays (n, d), float64; 1 if both are zero, -1 if not finite."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    norms = np.where(np.isfinite(norms), norms, np.nan)
    similarity = np.where(norms != 0, (x * y).sum(axis=1) / np.where(norms != 0, norms, 1), 0.0)
    similarity[(~x.any(axis=1)) & (~y.any(axis=1))] = 1.0
    return np.where(np.isfinite(similarity), np.clip(similarity, -1, 1), -1.0)


def _item(bundle: Bundle, sample: GoldenSample) -> str | bytes:
    if sample.text is not None:
        return sample.text
    assert sample.image is not None  # read_golden() refuses a sample with neither
    return bundle.read(sample.image)


def _input_difference(model: Model, item: str | bytes, golden: Golden, sample: GoldenSample) -> float:
    feeds, _ = model.front.feeds(model.front.prepare([item], None))
    worst = 0.0
    for name, expected in golden.inputs(sample).items():
        found = feeds.get(name)
        if found is None or found.shape[1:] != expected.shape:
            return float("inf")
        difference = np.abs(found[0].astype(np.float64) - expected.astype(np.float64))
        if not np.isfinite(difference).all():
            return float("inf")
        worst = max(worst, float(difference.max(initial=0.0)))
    return worst


def _check(
    variant: str,
    sample: GoldenSample,
    batching: str,
    difference: float,
    row: NDArray[np.float32],
    expected: NDArray[np.float32],
    limits: Tolerance,
) -> Check:
    if row.shape != expected.shape:
        return Check(variant, sample.id, batching, difference, -1.0, float("inf"), False)
    cosine = float(cosines(row[None], expected[None])[0])
    max_abs = float(np.abs(row.astype(np.float64) - expected).max(initial=0.0))
    held = (
        difference <= MAX_INPUT_DIFFERENCE
        and cosine >= limits.min_cosine
        and (limits.max_abs is None or max_abs <= limits.max_abs)
    )
    return Check(variant, sample.id, batching, difference, cosine, max_abs, held)


def worst(checks: Sequence[Check]) -> Check:
    """The check of the lowest cosine."""
    return min(checks, key=lambda check: check.cosine)
