"""Vectors are compared within one space only, and mixed variants only within their stated drift."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

import sanderling
from sanderling.errors import InputError, MixedVariantsWarning, SpaceError
from sanderling.results import Embedding, Embeddings, TextReport, Timing
from sanderling.schema.variants import Distances, Drift
from sanderling.spaces import lowest_cosine

SPACE = "a" * 64
FLOATS = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
TIMING = Timing(0, 0, 0)


def vectors(
    rows: NDArray[np.float32], space: str = SPACE, variant: str = "fp32", drift: float | None = 1.0
) -> Embeddings:
    return Embeddings(rows, (TextReport(3),) * len(rows), space, variant, TIMING, drift)


def pairs(rows: int, other: int, width: int) -> Any:
    return st.tuples(
        arrays(np.float32, (rows, width), elements=FLOATS), arrays(np.float32, (other, width), elements=FLOATS)
    )


@given(array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(lambda shape: pairs(*shape)))
def test_cosines_are_those_of_plain_arithmetic(both: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    a, b = both
    found = sanderling.similarity(vectors(a), vectors(b))
    assert found.shape == (len(a), len(b))
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            lengths = math.hypot(*x) * math.hypot(*y)
            expected = math.fsum(p * q for p, q in zip(x, y, strict=True)) / lengths if lengths else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(found, sanderling.similarity(vectors(b), vectors(a)).T)


def test_what_a_model_answers_is_compared_in_any_form(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        many, one, streamed = model(["the sea", "a bird"]), model("the sea"), list(model.stream(["the sea", "a bird"]))
    whole = sanderling.similarity(many, many)
    np.testing.assert_allclose(whole, many.embeddings @ many.embeddings.T, atol=1e-6)
    np.testing.assert_allclose(sanderling.similarity(one, many), whole[:1], atol=1e-6)
    np.testing.assert_allclose(sanderling.similarity(streamed, many[:1]), whole[:, :1], atol=1e-6)
    assert sanderling.similarity(one, one).shape == (1, 1)


def test_another_space_is_refused(embedding_bundle: Path, tmp_path: Path) -> None:
    other = tiny_bundles.embedding_bundle(tmp_path / "other")
    tiny_bundles.reseal(other, lambda manifest: msgspec.structs.replace(manifest, space="7" * 64))
    with sanderling.load(embedding_bundle) as ours, sanderling.load(other) as theirs:
        a, b = ours(["sea"]), theirs("sea")
    assert issubclass(SpaceError, InputError)
    with pytest.raises(SpaceError, match=f"of 2 embedding spaces \\({'5' * 16}, {'7' * 16}\\)"):
        sanderling.similarity(a, b)
    with pytest.raises(SpaceError):
        sanderling.similarity(a, [*a, b])


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.float32), "text", None, [np.zeros(3)], 5, [], {"a": 1}])
def test_what_does_not_know_its_space_is_refused(wrong: Any) -> None:
    ours = vectors(np.ones((1, 3), np.float32))
    for a, b, name in ((ours, wrong, "b"), (wrong, ours, "a")):
        with pytest.raises(InputError, match=f"`{name}` is "):
            sanderling.similarity(a, b)


def stated(lowest: float) -> Drift:
    return Drift(Distances(500, 0.9999, lowest), 0.1)


@pytest.mark.parametrize(("lowest", "fits"), [((1.0, 0.995), True), ((0.999, 0.98), False), ((1.0, None), False)])
def test_variants_mix_within_the_drift_that_the_bundle_states(
    tmp_path: Path, lowest: tuple[float, float | None], fits: bool
) -> None:
    bundle = tiny_bundles.embedding_bundle(tmp_path / "bundle")

    def with_drift(manifest: Any) -> Any:
        component = manifest.components["model"]
        drifts = [None if cosine is None else stated(cosine) for cosine in lowest]
        variants = {
            name: msgspec.structs.replace(variant, drift=drift)
            for (name, variant), drift in zip(component.variants.items(), drifts, strict=True)
        }
        return msgspec.structs.replace(
            manifest, components={"model": msgspec.structs.replace(component, variants=variants)}
        )

    tiny_bundles.reseal(bundle, with_drift)
    with sanderling.load(bundle) as exact, sanderling.load(bundle, variant="int8-dynamic") as coarse:
        a, b = exact(["sea"]), coarse("sea")
    assert (a.drift, a[0].drift, b.drift) == (lowest[0], lowest[0], lowest[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sanderling.similarity(a, a)
        sanderling.similarity(b, b)
        sanderling.similarity(a, b, min_cosine=-1.0) if lowest[1] is not None else None
        if fits:
            sanderling.similarity(a, b)
    if not fits:
        known = "down to a cosine of 0.97" if lowest[1] is not None else "by an unknown distance"
        with pytest.warns(MixedVariantsWarning, match=f"fp32 and int8-dynamic are mixed.*{known}") as caught:
            sanderling.similarity(a, b)
        assert caught[0].filename == __file__


def test_variants_of_one_name_but_of_other_exports_are_mixed_too() -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.warns(MixedVariantsWarning):
        sanderling.similarity(vectors(rows, drift=0.97), vectors(rows, drift=0.98))


def rotated(vector: NDArray[np.float64], cosine: float, towards: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit vector with this cosine to `vector`, in the plane it spans with `towards`."""
    side = towards - (towards @ vector) * vector
    return cosine * vector + math.sqrt(1 - cosine * cosine) * side / np.linalg.norm(side)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2), st.integers(0, 2**32 - 1))
def test_no_two_variants_are_further_apart_than_the_bound(cosines: Sequence[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    original = random.normal(size=5)
    original /= np.linalg.norm(original)
    one, other = (rotated(original, cosine, random.normal(size=5)) for cosine in cosines)
    bound = lowest_cosine(cosines)
    assert bound is not None
    assert one @ other >= bound - 1e-9


def test_the_bound_is_reached_in_one_plane() -> None:
    cosines = (math.cos(0.3), math.cos(0.5))
    assert lowest_cosine(cosines) == pytest.approx(math.cos(0.8))
    assert lowest_cosine((0.99, None)) is None
    assert lowest_cosine((-1.0, -0.5)) == pytest.approx(-1)


def test_one_item_of_a_batch_keeps_what_it_is_of() -> None:
    item = vectors(np.eye(3, dtype=np.float32), variant="int8", drift=0.99)[1]
    assert isinstance(item, Embedding)
    assert (item.space, item.variant, item.drift) == (SPACE, "int8", 0.99)
