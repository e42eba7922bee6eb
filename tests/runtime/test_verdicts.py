"""Verdicts: what failed on this machine is not used there, and that is never silent."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st

import sanderling
from sanderling import cache, providers, verdicts
from sanderling.bundle import Bundle
from sanderling.errors import BundleError, ProviderError, VerdictError, VerdictWarning
from sanderling.plan import Plan, remember_plan
from sanderling.processor import Processor, processor
from sanderling.providers import RUNTIME_VERSION

CopyBundle = Callable[[Path], Path]
VARIANTS = ("fp32", "int8-dynamic")


@pytest.fixture
def spoiled(copy_bundle: CopyBundle, embedding_bundle: Path) -> Path:
    """A bundle whose default variant, fp32, answers wrongly though every hash fits."""
    bundle = copy_bundle(embedding_bundle)
    spoil(bundle, "fp32")
    return bundle


@pytest.fixture
def silence() -> Iterator[None]:
    """Any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def spoil(bundle: Path, variant: str) -> None:
    path = tiny_bundles.find(bundle, f"{variant}/weights.bin")
    data = path.read_bytes()
    path.write_bytes(data[32:] + data[:32])
    tiny_bundles.reseal(bundle)


@pytest.mark.usefixtures("silence")
def test_before_anything_was_verified_every_variant_loads(spoiled: Path) -> None:
    for variant in (None, *VARIANTS):
        with sanderling.load(spoiled, variant=variant) as model:
            assert model.variant == variant or variant is None


@pytest.mark.usefixtures("silence")
def test_what_held_loads_without_a_word(embedding_bundle: Path) -> None:
    assert sanderling.verify(embedding_bundle).held
    digest = sanderling.open_bundle(embedding_bundle).digest
    for variant in VARIANTS:
        verdict = verdicts.read(digest, variant, "cpu")
        assert verdict is not None
        assert (verdict.held, verdict.reason) == (True, "")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", verdict.when)
        sanderling.load(embedding_bundle, variant=variant).close()
    sanderling.load(embedding_bundle).close()


@pytest.mark.parametrize("provider", [None, "auto", "cpu"])
def test_a_default_that_failed_gives_way_to_the_next_with_a_warning(spoiled: Path, provider: str | None) -> None:
    sanderling.verify(spoiled)
    with pytest.warns(VerdictWarning) as caught:
        loaded = sanderling.load(spoiled, provider=provider)
    with loaded as model:
        assert (model.variant, model.provider) == ("int8-dynamic", "cpu")
        assert model("sea").variant == "int8-dynamic"
    (warning,) = caught
    assert warning.filename == __file__
    message = str(warning.message)
    for part in (
        f"{spoiled}: the variant 'fp32' is not to be used with the provider 'cpu' on this machine (",
        f"ONNX Runtime {RUNTIME_VERSION}): verifying it failed on 20",
        "of 12 golden answers beyond tolerance, ",
        "Using int8-dynamic on cpu instead; check again with: sanderling verify ",
    ):
        assert part in message


@pytest.mark.parametrize("provider", [None, "auto", "cpu"])
def test_what_failed_is_refused_by_name(spoiled: Path, provider: str | None) -> None:
    sanderling.verify(spoiled)
    with pytest.raises(VerdictError) as raised:
        sanderling.load(spoiled, variant="fp32", provider=provider)
    assert isinstance(raised.value, BundleError)
    assert str(raised.value).endswith(
        "Load another variant (int8-dynamic), or check again with: "
        f"sanderling verify {spoiled} --variant fp32 --provider cpu"
    )
    with sanderling.load(spoiled, variant="int8-dynamic") as model:
        assert model.variant == "int8-dynamic"


def test_where_every_variant_failed_nothing_loads(spoiled: Path) -> None:
    spoil(spoiled, "int8-dynamic")
    assert not any(combination.held for combination in sanderling.verify(spoiled).combinations)
    with pytest.raises(VerdictError, match="No other variant of the bundle is left"):
        sanderling.load(spoiled)
    with pytest.raises(VerdictError, match="To have it cleared, check again with"):
        sanderling.load(spoiled, variant="int8-dynamic")


@pytest.mark.usefixtures("silence")
def test_verifying_again_clears_it(spoiled: Path) -> None:
    bundle = sanderling.open_bundle(spoiled)
    verdicts.record(bundle.digest, "int8-dynamic", "cpu", held=False, reason="it was a bad day")
    with pytest.raises(VerdictError, match="it was a bad day"):
        sanderling.load(spoiled, variant="int8-dynamic")
    sanderling.verify(spoiled, variants=["int8-dynamic"])
    sanderling.load(spoiled, variant="int8-dynamic").close()


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sanderling.verdicts.RUNTIME_VERSION", "1.99.0"),
        ("sanderling.processor.processor", lambda: Processor("arm64", "another", ("i8mm",))),
    ],
)
def test_another_runtime_or_processor_has_no_verdict(
    spoiled: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    sanderling.verify(spoiled)
    monkeypatch.setattr(name, value)
    sanderling.load(spoiled, variant="fp32").close()


@pytest.mark.usefixtures("silence")
def test_another_bundle_has_no_verdict_and_a_copy_has_the_same(spoiled: Path, tmp_path: Path) -> None:
    sanderling.verify(spoiled)
    copy = spoiled.rename(tmp_path / "elsewhere")
    with pytest.raises(VerdictError):
        sanderling.load(copy, variant="fp32")
    tiny_bundles.reseal(copy, lambda manifest: type(manifest)(**{**as_dict(manifest), "name": "other"}))
    sanderling.load(copy, variant="fp32").close()


def as_dict(manifest: object) -> dict[str, object]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}  # type: ignore[attr-defined]


def test_a_tuned_plan_whose_variant_failed_since_is_not_used(spoiled: Path) -> None:
    digest = sanderling.open_bundle(spoiled).digest
    remember_plan(digest, RUNTIME_VERSION, Plan("fp32", "cpu", 1, 1, token_budget=7))
    sanderling.verify(spoiled, provider="cpu")
    with pytest.warns(VerdictWarning):
        loaded = sanderling.load(spoiled)
    with loaded as model:
        assert (model.variant, model.plan.token_budget) == ("int8-dynamic", 7)


def test_a_graph_that_does_not_run_is_reported_but_no_verdict(
    copy_bundle: CopyBundle, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(embedding_bundle)

    def refuse(opened: Bundle, plan: Plan, components: Sequence[str] | None = None) -> object:
        if plan.variant == "fp32":
            raise ProviderError("No more memory on the device.")
        return assemble(opened, plan, components=components)

    from sanderling.verification import assemble

    monkeypatch.setattr("sanderling.verification.assemble", refuse)
    report = sanderling.verify(bundle, provider="cpu")
    assert not report.held
    assert [(c.held, c.reason) for c in report.combinations] == [
        (False, "it does not run: No more memory on the device"),
        (True, ""),
    ]
    assert {check.variant for check in report.checks} == {"int8-dynamic"}
    sanderling.load(bundle, variant="fp32").close()


def test_every_provider_of_this_machine_has_a_verdict_of_its_own(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that turns out not to run leaves the others as they are."""
    missing = next(p.name for p in providers.known() if p.name not in providers.available())
    usable = providers.available()
    monkeypatch.setattr(providers, "available", lambda: (*usable, missing))
    for asked in (None, "all"):
        report = sanderling.verify(embedding_bundle, provider=asked)
        assert [(c.variant, c.provider) for c in report.combinations] == [
            (variant, provider) for provider in (*usable, missing) for variant in VARIANTS
        ]
        assert {c.provider for c in report.combinations if not c.held} == {missing}
    for variant in (None, *VARIANTS):
        with pytest.raises(sanderling.ProviderError, match=f"provider '{missing}'"):
            sanderling.load(embedding_bundle, variant=variant, provider=missing)
        sanderling.load(embedding_bundle, variant=variant, provider="cpu").close()


@given(
    failed=st.sets(st.tuples(st.sampled_from(VARIANTS), st.sampled_from(["cpu", "openvino"]))),
    held=st.sets(st.tuples(st.sampled_from(VARIANTS), st.sampled_from(["cpu", "openvino"]))),
    plan=st.builds(
        Plan,
        variant=st.sampled_from(VARIANTS),
        provider=st.sampled_from(["cpu", "openvino"]),
        threads=st.just(1),
        workers=st.just(1),
    ),
    variant_asked=st.booleans(),
    provider_asked=st.booleans(),
)
def test_nothing_that_failed_is_ever_chosen(
    tmp_path_factory: pytest.TempPathFactory,
    embedding_bundle: Path,
    failed: set[tuple[str, str]],
    held: set[tuple[str, str]],
    plan: Plan,
    variant_asked: bool,
    provider_asked: bool,
) -> None:
    bundle = sanderling.open_bundle(embedding_bundle)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setenv("SANDERLING_CACHE", str(tmp_path_factory.mktemp("verdicts")))
        for pairs, verdict in ((held, True), (failed, False)):
            for pair in pairs:
                verdicts.record(bundle.digest, *pair, held=verdict)
        asked = {"variant_asked": variant_asked, "provider_asked": provider_asked}
        sound = (plan.variant, plan.provider) not in failed
        try:
            found = verdicts.permitted(bundle, plan, **asked)
        except VerdictError:
            places = {plan.provider} if provider_asked else {plan.provider, "cpu"}
            assert not sound
            assert variant_asked or {(v, p) for v in VARIANTS for p in places} <= failed
            return
        assert (found.variant, found.provider) not in failed
        assert (found == plan) == sound == (not caught)
        assert found.variant == plan.variant or not variant_asked
        assert found.provider == plan.provider or not provider_asked


def test_a_load_looks_once_into_the_cache_for_a_verdict(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanderling.verify(embedding_bundle)
    looked: list[str] = []
    read = cache.read

    def counted(kind: str, *rest: object) -> object:
        looked.append(kind)
        return read(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "read", counted)
    sanderling.load(embedding_bundle).close()
    assert looked.count("verdict") == 1


def test_heeding_verdicts_imports_nothing_heavy(embedding_bundle: Path) -> None:
    sanderling.load(embedding_bundle).close()  # what is verified the first time is written down
    code = "import sys, sanderling\nwith sanderling.load(sys.argv[1]) as model: model('the sea')\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(embedding_bundle)], capture_output=True, text=True, check=True, timeout=120
    )
    modules = set(done.stdout.split())
    assert "sanderling.verdicts" in modules
    assert modules & {"sanderling.verification", "sanderling.golden", "sanderling.storage", "asyncio"} == set()


def test_a_damaged_record_is_as_if_never_made(spoiled: Path, cache_folder: Path) -> None:
    sanderling.verify(spoiled)
    for path in (cache_folder / "verdict").iterdir():
        path.write_bytes(b'{"held": "maybe"')
    with sanderling.load(spoiled, variant="fp32") as model:
        assert model.variant == "fp32"


def test_the_processor_of_this_machine_has_an_identity() -> None:
    found = processor()
    assert found.machine
    assert found.features == tuple(sorted(set(found.features)))
    assert found.identity.startswith(found.machine)
