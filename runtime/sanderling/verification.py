"""`verify`: the golden samples replayed on this machine, for every variant on every provider."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling import components, providers, verdicts
from sanderling.bundle import Bundle, open_bundle
from sanderling.choices import choose_threads, choose_variant
from sanderling.errors import GraphError, InferenceError, InputError, ProviderError
from sanderling.golden import Golden, GoldenSample, inputs_of, read_golden, samples_of
from sanderling.loading import assemble
from sanderling.model import Model
from sanderling.plan import EXACT, PADDED, default_plan
from sanderling.schema.answers import FaceOutput
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.variants import Tolerance
from sanderling.schema.voices import SpeechOutput

# Preprocessed tensors: whole numbers are equal, floats within the last digits of float32.
MAX_INPUT_DIFFERENCE = 1e-6
# Spectrograms go through a logarithm, which makes more of the last digits of quiet bands.
MAX_AUDIO_DIFFERENCE = 5e-5
# Every provider that can be used on this machine.
ALL = "all"

# The input that says where a text has tokens.
_MASK = "attention_mask"

# Golden samples that share a call in mixed batches, drawn by this seed: the same everywhere.
_MATES = 3
_SEED = 20261122


@dataclass(frozen=True, slots=True)
class Check:
    """One golden sample through one variant on one provider.

    `batching` is "alone", "mixed" (in a call with some others, drawn at random) or "batch" (in one call with all of
    them). `input_difference` is the largest absolute difference of any preprocessed tensor from the original's
    (infinite where the shapes differ), `cosine` and `max_abs` compare the answers. `form` is the graph that ran.
    `tolerance` is what the answer was held against, where it is not that of all answers of the variant, `input_limit`
    what the preprocessed tensors were. `agreement`, of the steps of a model that writes, is the share of the original's
    tokens that it would have taken as well, each behind those before it: 1 says that the whole answer is the same.
    """

    variant: str
    provider: str
    sample: str
    batching: str
    input_difference: float
    cosine: float
    max_abs: float
    held: bool
    form: str = PADDED
    tolerance: Tolerance | None = None
    input_limit: float = MAX_INPUT_DIFFERENCE
    agreement: float | None = None

    @property
    def way(self) -> str:
        """How it was answered, in a few words: the batching, and the form if it is not the usual one."""
        return self.batching if self.form == PADDED else f"{self.batching}, form {self.form}"


@dataclass(frozen=True, slots=True)
class Combination:
    """One variant on one provider: whether it held, and in words what failed, empty if nothing did."""

    variant: str
    provider: str
    held: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found: every combination, every check, and the tolerance of each variant."""

    name: str
    digest: str
    threads: int
    tolerances: dict[str, Tolerance]
    combinations: tuple[Combination, ...]
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        """Whether every combination held."""
        return all(combination.held for combination in self.combinations)

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

    `provider` is one of them, or "all" (the default): every provider that can be used on this machine. What is found
    is kept in the user's cache: `load` does not use a variant on a provider where it failed, until it was verified
    again and held.

    Raises BundleError for a damaged bundle, ProviderError for a provider that is not there, InputError for no variants
    at all or a wrong count of threads. Answers that drifted, and graphs that do not run on a provider, are in the
    report, not raised.
    """
    bundle = open_bundle(path, integrity="full")
    bundle.verify_all()
    golden = read_golden(bundle)
    where = providers.available() if provider in (None, ALL) else (providers.resolve(str(provider)).name,)
    threads = choose_threads(threads)
    chosen = [choose_variant(bundle, v) for v in (variants if variants is not None else bundle.manifest.variants)]
    if not chosen:
        raise InputError("No variant to verify was given; leave out `variants` for all of them.")
    tolerances = {variant: tolerance(bundle, variant) for variant in chosen}
    combinations: list[Combination] = []
    checks: list[Check] = []
    for name in where:
        for variant, limits in tolerances.items():
            combination, found = _combination(bundle, golden, variant, name, threads, limits)
            # Only answers make a verdict: what did not run for want of memory today may run tomorrow.
            if found:
                verdicts.record(bundle.digest, variant, name, held=combination.held, reason=combination.reason)
            combinations.append(combination)
            checks += found
    return Report(bundle.manifest.name, bundle.digest, threads, tolerances, tuple(combinations), tuple(checks))


def _combination(
    bundle: Bundle, golden: Golden, variant: str, provider: str, threads: int, limits: Tolerance
) -> tuple[Combination, list[Check]]:
    checks: list[Check] = []
    try:
        for names in components.apart(bundle):
            stated = tolerance(bundle, variant, names) if len(components.apart(bundle)) > 1 else limits
            for form in components.forms(bundle, variant, names):
                plan = default_plan(variant, provider, threads, form=form)
                with assemble(bundle, plan, components=names) as model:
                    checks += [_of_its_own(check, stated, limits) for check in replay(model, golden, stated)]
    except (GraphError, InferenceError, ProviderError) as error:
        return Combination(variant, provider, False, f"it does not run: {str(error).rstrip('.')}"), checks
    failed = [check for check in checks if not check.held]
    reason = _reason(failed, len(checks), limits) if failed else ""
    return Combination(variant, provider, not failed, reason), checks


def _of_its_own(check: Check, stated: Tolerance, strictest: Tolerance) -> Check:
    """The check with what it was held against, where that is not what all answers of the variant are."""
    return check if check.tolerance is not None or stated == strictest else replace(check, tolerance=stated)


def _reason(failed: Sequence[Check], count: int, limits: Tolerance) -> str:
    """What failed, in a few words, with the worst of it."""
    lowest = worst(failed)
    limits = lowest.tolerance or limits
    words = f"{len(failed)} of {count} golden answers beyond tolerance, {lowest.sample} ({lowest.way}) "
    if lowest.input_difference > lowest.input_limit:
        return f"{words}preprocessed otherwise than by the original: {lowest.input_difference:.3g} apart"
    if lowest.cosine < limits.min_cosine:
        return f"{words}has the cosine {lowest.cosine:.6f}, at least {limits.min_cosine:.6f} was expected"
    farthest = max(failed, key=lambda check: check.max_abs)
    limits = farthest.tolerance or limits
    return f"{words}differs by {farthest.max_abs:.3g}, at most {limits.max_abs:.3g} was expected"


def tolerance(bundle: Bundle, variant: str, names: Sequence[str] | None = None) -> Tolerance:
    """The strictest tolerance that the bundle's components, or those named, state for a variant."""
    parts = bundle.manifest.components
    stated = [parts[name].variants[variant].tolerance for name in names or parts]
    limits = [t.max_abs for t in stated if t.max_abs is not None]
    return Tolerance(max(t.min_cosine for t in stated), min(limits) if limits else None)


def replay(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    """Each golden sample alone, then in mixed batches, then all in one call, batched as the model's plan does it.

    A model that takes texts alone, or images, is given those. Of a model of faces each graph's answers are replayed, by
    the tolerance of its own.
    """
    if isinstance(model.bundle.manifest.postprocessing, FaceOutput):
        from sanderling.faces.verification import replay_faces

        return replay_faces(model, golden)
    if isinstance(model.bundle.manifest.postprocessing, SpeechOutput):
        from sanderling.voices.verification import replay_speech

        return replay_speech(model, golden, limits)
    found = _replay_inputs(model, golden, limits)
    if isinstance(model.bundle.manifest.postprocessing, GenerationOutput):
        from sanderling.generation.verification import replay_steps

        found += replay_steps(model, golden, limits)
    return found


def _replay_inputs(model: Model, golden: Golden, limits: Tolerance) -> list[Check]:
    samples = samples_of(golden, model.takes)
    items = inputs_of(model.bundle, golden, model.takes)
    differences = [_input_difference(model, item, golden, s) for item, s in zip(items, samples, strict=True)]
    asked: dict[str | None, list[int]] = {}
    for index, sample in enumerate(samples):
        asked.setdefault(sample.prompt, []).append(index)
    return [
        _check(model, golden, samples[index], batching, differences[index], row, limits)
        for batching in ("alone", "mixed", "batch")
        for prompt, members in asked.items()
        for group in _groups(batching, members)
        for index, row in zip(group, model.answer([items[i] for i in group], prompt).rows, strict=True)
    ]


def _groups(batching: str, members: list[int]) -> list[list[int]]:
    """The samples of each call, of those that have one prompt."""
    if batching == "mixed":
        return [[members[place] for place in group] for group in _mixed(len(members))]
    return [[index] for index in members] if batching == "alone" else [members]


def _mixed(count: int) -> list[list[int]]:
    """Each index once, in groups of a few drawn at random; none where all would be one group."""
    order = list(range(count))
    random.Random(_SEED).shuffle(order)
    return [order[start : start + _MATES] for start in range(0, count, _MATES)] if count > _MATES else []


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine similarity of the rows of two arrays (n, d), float64; 1 if both are zero, -1 if not finite.

    Rows that are arrays of several vectors, (n,) of (vectors, d), are compared number by number, which of vectors of
    length 1 is their mean cosine; -1 where two have another count.
    """
    if a.dtype == object:
        pairs = [(x.reshape(1, -1), y.reshape(1, -1)) for x, y in zip(a, b, strict=True)]
        return np.array([cosines(x, y)[0] if x.shape == y.shape else -1.0 for x, y in pairs], np.float64)
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    norms = np.where(np.isfinite(norms), norms, np.nan)
    similarity = np.where(norms != 0, (x * y).sum(axis=1) / np.where(norms != 0, norms, 1), 0.0)
    similarity[(~x.any(axis=1)) & (~y.any(axis=1))] = 1.0
    return np.where(np.isfinite(similarity), np.clip(similarity, -1, 1), -1.0)


def _input_difference(model: Model, item: object, golden: Golden, sample: GoldenSample) -> float:
    feeds, _ = model.front.feeds(model.front.prepare([item], sample.prompt))
    worst = 0.0
    for name, expected in golden.inputs(sample).items():
        found = feeds.get(name)
        if found is None and name == _MASK and model.plan.form == EXACT:
            # A graph without a mask takes every token, as this mask must say of a text alone.
            found = np.ones((1, *expected.shape), expected.dtype)
        worst = max(worst, apart(found[0], expected) if found is not None else float("inf"))
    return worst


def apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference of any number of a preprocessed tensor; infinite for another shape or what is none."""
    if found.shape != expected.shape:
        return float("inf")
    here, there = found.astype(np.float64), expected.astype(np.float64)
    # A missing number is a NaN on both sides.
    difference = np.where(np.isnan(here) & np.isnan(there), 0.0, np.abs(here - there))
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")


def _check(
    model: Model,
    golden: Golden,
    sample: GoldenSample,
    batching: str,
    difference: float,
    row: NDArray[np.float32],
    limits: Tolerance,
) -> Check:
    expected = golden.output(sample)
    where = (model.variant, model.provider, sample.id, batching, difference)
    if row.shape != expected.shape:
        return Check(*where, -1.0, float("inf"), False, model.plan.form)
    cosine = float(cosines(row.reshape(1, -1), expected.reshape(1, -1))[0])
    max_abs = float(np.abs(row.astype(np.float64) - expected).max(initial=0.0))
    most = MAX_AUDIO_DIFFERENCE if model.modality == "audio" else MAX_INPUT_DIFFERENCE
    held = within(limits, difference, cosine, max_abs, most)
    return Check(*where, cosine, max_abs, held, model.plan.form, input_limit=most)


def within(
    limits: Tolerance, difference: float, cosine: float, max_abs: float, most: float = MAX_INPUT_DIFFERENCE
) -> bool:
    """Whether an answer holds: its input as the original preprocesses it, and itself as near as `limits` say."""
    return difference <= most and cosine >= limits.min_cosine and (limits.max_abs is None or max_abs <= limits.max_abs)


def worst(checks: Sequence[Check]) -> Check:
    """The check of the lowest cosine."""
    return min(checks, key=lambda check: check.cosine)
