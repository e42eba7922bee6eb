"""Vision checkpoints of random weights to vectors: every pooling, and classifiers without their last layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import sanderling
from sanderling.errors import ExportError
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.verification import verify
from sanderling_export.features import headless
from sanderling_export.pipeline import export

HIDDEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def _vit(folder: Path) -> None:
    config = transformers.ViTConfig(image_size=64, patch_size=16, intermediate_size=64, initializer_range=0.2, **HIDDEN)
    transformers.ViTModel(config).eval().save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def _dinov2(folder: Path) -> None:
    config = transformers.Dinov2Config(image_size=56, patch_size=14, mlp_ratio=2, initializer_range=0.2, **HIDDEN)
    transformers.Dinov2Model(config).eval().save_pretrained(folder)
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, do_convert_rgb=True
    )
    processor.save_pretrained(folder)


def _resnet(folder: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", downsample_in_first_stage=True
    )
    transformers.ResNetModel(config).eval().save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {"vit": _vit, "dinov2": _dinov2, "resnet": _resnet}


def theirs(folder: Path, pictures: list[Path], pooling: str, classifies: bool) -> Any:
    """The vectors by transformers alone, one image at a time."""
    kind = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    model = kind.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    rows = []
    with torch.inference_mode():
        for picture in pictures:
            pixels = processor(images=Image.open(picture).convert("RGB"), return_tensors="pt")["pixel_values"]
            if pooling == "penultimate":
                rows.append(model.vit(pixels).last_hidden_state[:, 0])
                continue
            found = model(pixels)
            hidden = found.last_hidden_state
            pooled = {
                "cls": lambda h=hidden: h[:, 0],
                "mean": lambda h=hidden: h.mean(dim=1) if h.ndim == 3 else h.mean(dim=(2, 3)),
                "pooler": lambda f=found: f.pooler_output.flatten(1),
            }[pooling]()
            rows.append(pooled)
    return torch.cat(rows).numpy()


@pytest.mark.parametrize(
    ("name", "asked", "pooling", "output"),
    [
        ("vit", None, "cls", "cls_token"),
        ("vit", "mean", "mean", "mean_token"),
        ("dinov2", "pooler", "pooler", "pooler_output"),
        ("dinov2", "mean", "mean", "mean_token"),
        ("resnet", None, "pooler", "pooler_output"),
    ],
)
def test_each_pooling(name: str, asked: Any, pooling: str, output: str, photographs: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    MAKERS[name](tmp_path / "checkpoint")
    bundle = export(tmp_path / "checkpoint", tmp_path / "bundle", pooling=asked, variants=["fp32"], data=photographs)
    assert verify(bundle).held
    manifest = sanderling.open_bundle(bundle).manifest
    assert (manifest.task, manifest.family) == ("image-feature-extraction", "embedding")
    head = manifest.postprocessing
    assert isinstance(head, EmbeddingOutput)
    assert (head.output, head.pooling) == (output, "none")
    pictures = sorted(photographs.iterdir())[:4]
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        found = model(pictures)
        np.testing.assert_array_equal(model(pictures[0], precision="int8").embedding.shape, (head.dimension,))
    expected = theirs(tmp_path / "checkpoint", pictures, pooling, False)
    np.testing.assert_allclose(found.embeddings, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_a_classifier_gives_what_its_last_layer_reads(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path
) -> None:
    folder = checkpoint("vit")
    bundle = export(
        folder,
        tmp_path / "bundle",
        task="image-feature-extraction",
        normalize=True,
        variants=["fp32"],
        data=photographs,
    )
    assert verify(bundle).held
    pictures = sorted(photographs.iterdir())[:4]
    expected = theirs(folder, pictures, "penultimate", True)
    with sanderling.load(bundle) as model:
        found = model(pictures).embeddings  # type: ignore[union-attr]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ExportError, match="--pooling last is none of an image model; choose cls, mean, pooler"):
        export(folder, tmp_path / "other", task="image-feature-extraction", pooling="last", data=photographs)


def test_the_last_layer_is_the_one_that_gives_the_logits() -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).eval()
    probe = torch.rand(2, 6)
    cut = headless(model, lambda found: found(probe))
    assert torch.equal(cut(probe), model[1](model[0](probe)))
    assert model(probe).shape == (2, 3)
    with pytest.raises(Exception, match="what 0 of its linear layers give"):
        headless(torch.nn.Sequential(model, torch.nn.Softmax(dim=1)), lambda found: found(probe))
