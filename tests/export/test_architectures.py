"""Checkpoints that nothing here was built for: exported without a recipe, verified, equal to the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sanderling
from sanderling.manifest import Manifest
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.verification import cosines, verify
from sanderling_export import original
from sanderling_export.checkpoint import resolve
from sanderling_export.description import Options
from sanderling_export.pipeline import export

TEXTS = ["low tide", "", "the small bird runs along the edge of the sea and " * 30, "ünïcode 三趾鹬 🐦"]


def exported(folder: Path, target: Path, data: Path) -> Manifest:
    export(folder, target, data=data)
    report = verify(target)
    assert report.held, (report.combinations, report.failed[:3])
    return sanderling.open_bundle(target).manifest


@pytest.mark.parametrize(("name", "tokens"), [("bert", 130), ("distilbert", 130), ("mpnet", 128), ("xlm-roberta", 128)])
def test_encoders(name: str, tokens: int, checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    folder = checkpoint(name)
    manifest = exported(folder, tmp_path / name, lines)
    assert (manifest.task, manifest.family) == ("feature-extraction", "embedding")
    assert manifest.postprocessing == EmbeddingOutput("last_hidden_state", "mean", False, 32)
    assert manifest.preprocessing.text is not None
    # RoBERTa and its kin count positions from behind the padding id.
    assert manifest.preprocessing.text.max_tokens == tokens
    assert any("mean pooling" in note for note in manifest.provenance.notes)
    assert manifest.variants == ("fp32", "int8-dynamic")
    source = original.load(resolve(str(folder)), Options())
    with sanderling.load(tmp_path / name, variant="fp32") as model:
        rows = model(TEXTS).embeddings
    assert cosines(rows, source.answers(TEXTS)).min() > 0.99999


def test_a_sequence_classifier(checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    folder = checkpoint("bert-classifier")
    manifest = exported(folder, tmp_path / "mood", lines)
    assert manifest.task == "text-classification"
    assert manifest.postprocessing == ClassificationOutput("logits", "softmax", ("calm", "rough", "stormy"))
    source = original.load(resolve(str(folder)), Options())
    with sanderling.load(tmp_path / "mood", variant="fp32") as model:
        np.testing.assert_allclose(model(TEXTS).logits, source.answers(TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "quantized"),
    [
        ("vit", "int8-dynamic"),
        ("convnext", "int8-dynamic"),
        ("resnet", "int8-static"),
    ],
)
def test_image_classifiers(
    name: str, quantized: str, checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path
) -> None:
    manifest = exported(checkpoint(name), tmp_path / name, photographs)
    assert manifest.task == "image-classification"
    assert manifest.variants == ("fp32", quantized)
    assert manifest.components["model"].inputs[0].shape[1:] == (3, 64, 64)
    assert isinstance(manifest.postprocessing, ClassificationOutput)
    assert manifest.postprocessing.labels == tuple(f"LABEL_{i}" for i in range(5))
    source = original.load(resolve(str(checkpoint(name))), Options())
    pictures = sorted(photographs.iterdir())[:4]
    from PIL import Image

    images = [Image.open(p).convert("RGB") for p in pictures]
    with sanderling.load(tmp_path / name, variant="fp32") as model:
        np.testing.assert_allclose(model(pictures).logits, source.answers(images), atol=1e-3)


# Optimum has no export of a focalnet: torch exports it.
@pytest.mark.parametrize("name", ["deit", "beit", "swin", "mobilenet", "mobilevit", "efficientnet", "focalnet"])
def test_more_image_classifiers(
    name: str, checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path
) -> None:
    """Preprocessing and graph as in the original; what quantizing does to random weights says nothing."""
    from PIL import Image

    folder = checkpoint(name)
    export(folder, tmp_path / name, data=photographs, variants=["fp32"])
    source = original.load(resolve(str(folder)), Options())
    pictures = sorted(photographs.iterdir())[:4]
    expected = source.answers([Image.open(picture).convert("RGB") for picture in pictures])
    assert np.ptp(expected) > 1e-3  # there is something to compare
    with sanderling.load(tmp_path / name) as model:
        np.testing.assert_allclose(model(pictures).logits, expected, atol=1e-3 * np.abs(expected).max())
