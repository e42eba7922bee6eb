"""timm checkpoints: their own transforms to the last bit, their labels, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the extra [export] is not installed")

import sanderling  # noqa: E402
from sanderling.errors import CheckpointError, MissingExtraError  # noqa: E402
from sanderling.preprocess.image import ImagePipeline  # noqa: E402
from sanderling.schema.answers import ClassificationOutput  # noqa: E402
from sanderling.schema.preprocessing import CenterCrop, ResizeFit  # noqa: E402
from sanderling_export import images, original, timm_models  # noqa: E402
from sanderling_export.checkpoint import resolve  # noqa: E402
from sanderling_export.description import Options  # noqa: E402
from sanderling_export.pipeline import export  # noqa: E402

needs_timm = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("timm", "torchvision")),
    reason="the extra [timm] is not installed",
)

CONFIGS: dict[str, dict[str, Any]] = {
    "center": {"input_size": [3, 64, 64], "crop_pct": 0.875},
    "center, whole": {"input_size": [3, 64, 64], "crop_pct": 1.0, "interpolation": "bilinear"},
    "center, not square": {"input_size": [3, 64, 48], "crop_pct": 0.9, "interpolation": "bicubic"},
    "squash": {"input_size": [3, 64, 80], "crop_pct": 0.95, "crop_mode": "squash"},
    "border": {"input_size": [3, 64, 64], "crop_pct": 0.9, "crop_mode": "border", "mean": [0.5, 0.4, 0.3]},
    "border, not square, lanczos": {
        "input_size": [3, 40, 64],
        "crop_pct": 1.0,
        "crop_mode": "border",
        "interpolation": "lanczos",
        "std": [0.2, 0.3, 0.4],
    },
    "box": {"input_size": [3, 33, 33], "crop_pct": 0.7, "interpolation": "box", "test_input_size": [3, 96, 96]},
}


@needs_timm
@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_tensors(name: str) -> None:
    timm_models.load_timm()
    from timm.data import create_transform, resolve_data_config

    config = CONFIGS[name]
    transform = create_transform(**resolve_data_config(pretrained_cfg=config), is_training=False)
    pipeline = ImagePipeline(timm_models.steps(config))
    draw = np.random.default_rng(6)
    noise = [(90, 134), (133, 61), (29, 31), (20, 260), (64, 64), (65, 64)]
    made = [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in noise]
    for image in (*made, *images.noise()):
        expected = transform(image).numpy()
        values, _ = pipeline(image)
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() <= 1e-6, image.size


def test_a_border_has_the_colour_of_the_mean() -> None:
    first, crop, *_ = timm_models.steps(CONFIGS["border"]).steps
    assert isinstance(first, ResizeFit)
    assert isinstance(crop, CenterCrop)
    assert (first.fit, first.height, crop.fill) == ("contain", 71, (128, 102, 76))


REFUSED = {
    "a setting": ({"sharpness": 2}, "pretrained_cfg sets sharpness, which Sanderling does not know"),
    "a crop mode": ({"crop_mode": "corner"}, "pretrained_cfg.crop_mode is 'corner'; one of center, squash, border"),
    "a filter": ({"interpolation": "random"}, "pretrained_cfg.interpolation is 'random'"),
    "channels": ({"input_size": [1, 28, 28]}, "input_size has 1 channels"),
    "a size": ({"input_size": [224]}, "input_size is .*; channels, height and width"),
    "a share": ({"crop_pct": 1.5}, "crop_pct is 1.5; a share above 0"),
    "a mean": ({"mean": [0.5]}, "pretrained_cfg.mean is .*; three numbers"),
    "a word": ({"std": [0.5, "a", 0.5]}, "pretrained_cfg.std is 'a'; a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unknown_is_refused_by_its_name(name: str) -> None:
    config, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=message):
        timm_models.steps(config)


def test_without_timm_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": {}}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "timm" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingExtraError, match=r"'timm'.* pip install \"sanderling\[timm\]\""):
        original.load(resolve(str(tmp_path)), Options())


def saved(folder: Path, architecture: str, config: dict[str, Any], **more: Any) -> Path:
    timm = timm_models.load_timm()
    torch.manual_seed(5)
    model = timm.create_model(architecture, pretrained=False, num_classes=4, **more).eval()
    from timm.models import save_for_hf

    told = {"pretrained_cfg": config, "label_names": ["n1", "n2", "n3", "n4"], "model_args": more}
    told["label_descriptions"] = {"n1": "sea", "n2": "sand", "n3": "sky", "n4": "bird"}
    save_for_hf(model, folder, model_config=told, safe_serialization=True)
    return folder


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "config"),
    [("resnet10t", CONFIGS["center, not square"]), ("test_vit", {"input_size": [3, 160, 160], "crop_mode": "border"})],
)
def test_a_checkpoint_is_exported(
    architecture: str, config: dict[str, Any], photographs: Path, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    folder = saved(tmp_path / "checkpoint", architecture, config)
    export(folder, tmp_path / "bundle", data=photographs, variants=["fp32"])
    source = original.load(resolve(str(folder)), Options())
    pictures = sorted(photographs.iterdir())[:4]
    with sanderling.load(tmp_path / "bundle") as model:
        found = model(pictures)
        assert found[0].labels[0] in ("sea", "sand", "sky", "bird")
        np.testing.assert_allclose(
            found.logits, source.answers([Image.open(path).convert("RGB") for path in pictures]), atol=1e-3
        )
    head = sanderling.open_bundle(tmp_path / "bundle").manifest.postprocessing
    assert head == ClassificationOutput("logits", "softmax", ("sea", "sand", "sky", "bird"))


@needs_timm
def test_checkpoints_that_say_too_little(tmp_path: Path) -> None:
    folder = saved(tmp_path / "checkpoint", "resnet10t", CONFIGS["center"])
    config = json.loads((folder / "config.json").read_text())

    def changed(**more: Any) -> None:
        (folder / "config.json").write_text(json.dumps({**config, **more}))

    changed(architecture="resnet_of_tomorrow")
    with pytest.raises(CheckpointError, match=r"'resnet_of_tomorrow', which timm .* does not have"):
        original.load(resolve(str(folder)), Options())
    changed(label_names=["a", "b"])
    with pytest.raises(CheckpointError, match="4 outputs, but 2 labels"):
        original.load(resolve(str(folder)), Options())
    changed(label_names=None, label_descriptions=None)
    with pytest.raises(CheckpointError, match=r"config\.json names none"):
        original.load(resolve(str(folder)), Options())
