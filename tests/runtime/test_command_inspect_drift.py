"""`sanderling inspect --drift`: what the manifest states, shown to people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st

from sanderling.codec import decode, encode
from sanderling.commands.drift import INVARIANT_WITHIN, batch_invariant
from sanderling.manifest import Manifest
from sanderling.schema.variants import Distances, Drift, Form, Invariance, Metric, Tolerance, Variant, WorstInput

testing = pytest.importorskip("typer.testing")

CopyBundle = Callable[[Path], Path]
COSINES = st.floats(-1, 1)


def inspect(bundle: Path, *options: str) -> str:
    from sanderling.cli import build_app

    done = testing.CliRunner().invoke(build_app(), ["inspect", str(bundle), "--drift", *options])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def with_quality(manifest: Manifest, quality: dict[str, dict[str, Any]]) -> Manifest:
    component = manifest.components["model"]
    variants = {
        name: msgspec.structs.replace(variant, **quality.get(name, {})) for name, variant in component.variants.items()
    }
    return msgspec.structs.replace(
        manifest, components={"model": msgspec.structs.replace(component, variants=variants)}
    )


@pytest.fixture
def measured(copy_bundle: CopyBundle, embedding_bundle: Path) -> Path:
    """A bundle that states all there is of its int8 variant, with names that are no orders to a terminal."""
    bundle = copy_bundle(embedding_bundle)
    worst = (WorstInput("text 7: [red]low \x1b[2Jtide", 0.91234), WorstInput("text 3: ebb", 0.95))
    drift = Drift(Distances(500, 0.9987, 0.91234, 0.9456), 0.25, 0.985, worst, {"f1": Metric(0.875, 0.8825, 200)})
    quality = {
        "fp32": {"invariance": Invariance(1 - 9e-6, {"1": 1.0, "16": 1 - 2e-5, "100": 1.0})},
        "int8-dynamic": {"drift": drift, "speed": 2.5, "invariance": Invariance(0.97, {"16": 0.98, "100": 0.96})},
    }
    tiny_bundles.reseal(bundle, lambda manifest: with_quality(manifest, quality))
    return bundle


def row(out: str, *begins: str) -> str:
    """The first line of a table that begins with these cells."""
    words = " ".join(begins).split()
    return next(line for line in out.splitlines() if line.split()[: len(words)] == words)


def test_all_that_is_stated_is_shown(measured: Path) -> None:
    out = inspect(measured)
    quality = row(out, "int8-dynamic")
    for fact in ("2.50 x", "500", "0.99870", "0.94560", "0.91234", "98.5%", "0.99900", "0.8750 (0.8825)"):
        assert fact in quality
    assert "f1 (original)" in out
    assert "not measured" in row(out, "fp32")
    header = next(line for line in out.splitlines() if "padded by" in line)
    assert header.index("padded by 1 ") < header.index("padded by 16") < header.index("padded by 100")
    assert row(out, "fp32", "0.9999910", "1.0000000", "0.9999800", "1.0000000", "alone, batch")
    assert row(out, "int8-dynamic", "0.9700000", "", "0.9800000", "0.9600000", "alone")
    assert r"0.91234  text 7: [red]low \x1b[2Jtide" in out
    assert out.index("text 7") < out.index("text 3: ebb")
    assert "\x1b" not in out


def test_the_same_is_there_as_json(measured: Path) -> None:
    found = json.loads(inspect(measured, "--json"))
    manifest = json.loads((measured / "bundle.json").read_bytes())
    assert found["invariant_within"] == 1e-5
    assert [one["variant"] for one in found["variants"]] == ["fp32", "int8-dynamic"]
    for one in found["variants"]:
        stated = manifest["components"]["model"]["variants"][one["variant"]]
        for field in ("drift", "invariance", "speed", "tolerance"):
            assert one[field] == stated[field]
        files = [path for form in stated["forms"].values() for path in (form["graph"], *form["data"])]
        assert one["size"] == sum(manifest["files"][path]["size"] for path in files)
    assert [one["batch_invariant"] for one in found["variants"]] == [["alone", "batch"], ["alone"]]
    assert [one["default"] for one in found["variants"]] == [True, False]


def test_a_bundle_that_states_nothing_says_so(image_bundle: Path) -> None:
    out = inspect(image_bundle)
    assert out.count("not measured") == 2
    (one,) = json.loads(inspect(image_bundle, "--json"))["variants"]
    assert (one["drift"], one["invariance"], one["speed"]) == (None, None, None)


def test_a_table_has_an_end(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    many = Invariance(1.0, {str(count): 0.5 for count in range(1000)})
    tiny_bundles.reseal(bundle, lambda manifest: with_quality(manifest, {"fp32": {"invariance": many}}))
    assert inspect(bundle).count("padded by") == 8
    (one, _) = json.loads(inspect(bundle, "--json"))["variants"]
    assert len(one["invariance"]["padding"]) == 1000


@given(COSINES, st.dictionaries(st.sampled_from(["1", "16", "100"]), COSINES))
def test_a_way_of_running_is_invariant_within_the_bound_only(batch: float, padding: dict[str, float]) -> None:
    form = {"padded": Form("a/model.onnx")}
    ways = batch_invariant(Variant(form, Tolerance(0.9), invariance=Invariance(batch, padding)))
    assert "alone" in ways
    assert ("batch" in ways) == (1 - batch < INVARIANT_WITHIN)
    assert ("padding" in ways) == (bool(padding) and all(1 - cosine < INVARIANT_WITHIN for cosine in padding.values()))
    assert batch_invariant(Variant(form, Tolerance(0.9))) == ("alone",)


@given(
    speed=st.none() | st.floats(0.001, 1e6),
    worst=st.lists(st.builds(WorstInput, name=st.text(st.characters(codec="utf-8"), max_size=200), cosine=COSINES)),
    metrics=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.builds(Metric, value=COSINES, reference=COSINES, samples=st.integers(0, 10**6)),
        max_size=5,
    ),
)
def test_a_manifest_keeps_what_is_stated(
    embedding_bundle: Path, speed: float | None, worst: list[WorstInput], metrics: dict[str, Metric]
) -> None:
    drift = Drift(Distances(9, 0.99, 0.9), 0.1, None, tuple(worst), metrics)
    manifest = with_quality(tiny_bundles.read_manifest(embedding_bundle), {"fp32": {"drift": drift, "speed": speed}})
    assert decode(encode(manifest), "here") == manifest
