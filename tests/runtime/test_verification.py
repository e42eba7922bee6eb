"""`verify`: holds for what was sealed, and fails for a weight, a tokenizer or a picture that is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

import sanderling
from sanderling import providers, verification
from sanderling.errors import BundleError, InputError, IntegrityError
from sanderling.session import Session
from sanderling.verification import cosines

CopyBundle = Callable[[Path], Path]


def change_tensors(bundle: Path, **changed: Any) -> None:
    path = tiny_bundles.find(bundle, "tensors.safetensors")
    tensors = load(path.read_bytes()) | {name.replace("__", "."): value for name, value in changed.items()}
    path.write_bytes(save(tensors))
    tiny_bundles.reseal(bundle)


@pytest.mark.parametrize(
    ("name", "variants", "samples"),
    [("embedding_bundle", 2, 4), ("text_bundle", 1, 4), ("image_bundle", 1, 1)],
)
def test_what_was_sealed_holds(request: pytest.FixtureRequest, name: str, variants: int, samples: int) -> None:
    report = sanderling.verify(request.getfixturevalue(name))
    assert report.held
    assert report.failed == ()
    batchings = ["alone", "mixed", "batch"] if samples > 1 else ["alone", "batch"]
    for provider in providers.available():
        for batching in batchings:
            found = [check for check in report.checks if (check.provider, check.batching) == (provider, batching)]
            assert len(found) == variants * samples
            assert len({(check.variant, check.sample) for check in found}) == variants * samples
    assert {check.batching for check in report.checks} == set(batchings)
    assert [c.provider for c in report.combinations] == [p for p in providers.available() for _ in range(variants)]
    assert {(c.held, c.reason) for c in report.combinations} == {(True, "")}
    assert all(check.input_difference == 0 for check in report.checks)
    assert all(check.cosine > 0.999 for check in report.checks)


def test_the_report_says_where_and_how(embedding_bundle: Path) -> None:
    report = sanderling.verify(embedding_bundle, variants=["int8-dynamic"], provider="cpu", threads=1)
    assert (report.name, report.threads) == ("tiny-embedding", 1)
    assert [(c.variant, c.provider) for c in report.combinations] == [("int8-dynamic", "cpu")]
    assert report.digest == sanderling.open_bundle(embedding_bundle).digest
    assert list(report.tolerances) == ["int8-dynamic"]
    assert report.tolerances["int8-dynamic"].min_cosine == 0.999
    assert {check.sample for check in report.checks} == set(tiny_bundles.TEXTS)


def test_a_changed_weight_fails_though_every_hash_fits(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "fp32/weights.bin")
    weights = np.frombuffer(path.read_bytes(), np.float32).copy()
    weights[: weights.size // 2] *= -1
    path.write_bytes(weights.tobytes())
    with pytest.raises(IntegrityError, match=r"weights\.bin is not the file that was sealed"):
        sanderling.verify(bundle)
    tiny_bundles.reseal(bundle)
    report = sanderling.verify(bundle)
    assert not report.held
    assert {check.variant for check in report.failed} == {"fp32"}
    assert {check.sample for check in report.failed} >= {"plain", "long"}
    assert all(check.input_difference == 0 for check in report.checks)


def test_a_changed_tokenizer_shows_as_another_input(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "tokenizer.json")
    tokenizer = msgspec.json.decode(path.read_bytes())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["word"], vocabulary["sea"] = vocabulary["sea"], vocabulary["word"]
    path.write_bytes(msgspec.json.encode(tokenizer))
    tiny_bundles.reseal(bundle)
    differences = {check.sample: check.input_difference for check in sanderling.verify(bundle).failed}
    apart = abs(vocabulary["word"] - vocabulary["sea"])
    assert differences == {"plain": apart, "long": apart}


def test_another_preprocessing_shows_as_another_input(copy_bundle: CopyBundle, image_bundle: Path) -> None:
    bundle = copy_bundle(image_bundle)

    def shifted(manifest: Any) -> Any:
        *steps, normalize = manifest.preprocessing.image.steps
        other = msgspec.structs.replace(normalize, mean=(0.5, 0.5, 0.4))
        image = msgspec.structs.replace(manifest.preprocessing.image, steps=(*steps, other))
        return msgspec.structs.replace(
            manifest, preprocessing=msgspec.structs.replace(manifest.preprocessing, image=image)
        )

    tiny_bundles.reseal(bundle, shifted)
    report = sanderling.verify(bundle)
    assert not report.held
    assert {round(check.input_difference, 5) for check in report.checks} == {0.2}


def test_an_input_of_another_length_is_infinitely_far(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    change_tensors(bundle, plain__input__input_ids=np.arange(3))
    assert {check.input_difference for check in sanderling.verify(bundle).failed} == {float("inf")}


def test_an_input_that_the_graph_does_not_have_is_infinitely_far(
    copy_bundle: CopyBundle, embedding_bundle: Path
) -> None:
    bundle = copy_bundle(embedding_bundle)
    change_tensors(bundle, plain__input__other=np.arange(3))
    assert {check.input_difference for check in sanderling.verify(bundle).failed} == {float("inf")}


@pytest.mark.parametrize("name", ["shore__output", "shore__input__pixel_values"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_never_hold(
    copy_bundle: CopyBundle, image_bundle: Path, name: str, value: float
) -> None:
    bundle = copy_bundle(image_bundle)
    tensors = load(tiny_bundles.find(bundle, "tensors.safetensors").read_bytes())
    values = tensors[name.replace("__", ".")].copy()
    values.flat[0] = value
    change_tensors(bundle, **{name: values})
    assert {check.held for check in sanderling.verify(bundle).checks} == {False}


def test_an_answer_of_another_width_does_not_hold(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    change_tensors(bundle, plain__output=np.zeros(7, np.float32))
    (found,) = {(check.sample, check.cosine, check.max_abs) for check in sanderling.verify(bundle).failed}
    assert found == ("plain", -1.0, float("inf"))


def test_the_largest_difference_is_a_limit_of_its_own(copy_bundle: CopyBundle, text_bundle: Path) -> None:
    bundle = copy_bundle(text_bundle)
    change_tensors(bundle, plain__output=tiny_bundles.reference_logits(tiny_bundles.TEXTS["plain"]) * np.float32(1.001))
    failed = sanderling.verify(bundle).failed
    assert {check.sample for check in failed} == {"plain"}
    assert all(check.cosine > 0.999999 and 1e-4 < check.max_abs < 1e-2 for check in failed)


def test_every_listed_file_is_hashed_also_those_no_variant_needs(
    copy_bundle: CopyBundle, embedding_bundle: Path
) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "int8-dynamic/weights.bin")
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError):
        sanderling.verify(bundle, variants=["fp32"])


def test_variants_that_are_not_there_or_none_at_all_are_refused(embedding_bundle: Path) -> None:
    with pytest.raises(BundleError, match="has no variant 'int4'"):
        sanderling.verify(embedding_bundle, variants=["int4"])
    with pytest.raises(InputError, match="No variant to verify was given"):
        sanderling.verify(embedding_bundle, variants=[])


def test_cosines_by_hand() -> None:
    a = np.array([[1, 0], [1, 1], [0, 0], [0, 0], [np.nan, 1], [3e38, 3e38], [1e-30, 0]], np.float32)
    b = np.array([[0, 1], [-1, -1], [0, 0], [1, 0], [1, 1], [3e38, 3e38], [1e-30, 0]], np.float32)
    np.testing.assert_allclose(cosines(a, b), [0, -1, 1, 0, -1, 1, 1], atol=1e-12)


@given(st.integers(1, 40))
def test_mixed_batches_have_each_sample_once_and_are_none_of_the_others(count: int) -> None:
    groups = verification._mixed(count)
    drawn = [index for group in groups for index in group]
    assert sorted(drawn) == (list(range(count)) if count > 3 else [])
    assert all(len(group) <= 3 for group in groups)
    assert groups == verification._mixed(count)
    assert count < 10 or drawn != sorted(drawn)


def test_a_sample_that_only_fails_among_others_is_found(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that answers wrongly as soon as a run has more than one row, as a broken kernel may."""
    run = Session.run

    def confused(self: Session, feeds: Any, cancellation: Any = None) -> Any:
        outputs = run(self, feeds, cancellation)
        return outputs if len(feeds["input_ids"]) == 1 else {name: -value for name, value in outputs.items()}

    monkeypatch.setattr(Session, "run", confused)
    report = sanderling.verify(embedding_bundle, provider="cpu")
    assert not report.held
    assert {check.batching for check in report.failed} == {"mixed", "batch"}
    assert all(check.held for check in report.checks if check.batching == "alone")
