"""The command line on a bundle of two towers: run, index, search, inspect, trim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_towers
from PIL import Image
from tiny_bundles import PICTURE
from typer.testing import CliRunner

from sanderling.cli import build_app


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.dual_bundle(tmp_path_factory.mktemp("bundles") / "tiny-clip")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(5):
        Image.fromarray(np.roll(PICTURE, index * 3, axis=1)).save(folder / f"p{index}.png")
    (folder / "notes.txt").write_text("a small bird", encoding="utf-8")
    return folder


def called(*arguments: Any, code: int = 0) -> str:
    done = CliRunner().invoke(build_app(), [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.stdout


def test_run_decides_among_labels_and_embeds_without(bundle: Path, pictures: Path) -> None:
    line = called("run", bundle, pictures / "p0.png", "--labels", "sea, bird, small bird", "--json")
    texts = np.stack([tiny_towers.reference_text(f"the {label}") for label in ("sea", "bird", "small bird")])
    best = int((texts @ tiny_towers.reference_image(PICTURE)).argmax())
    assert json.loads(line)["labels"][0] == ("sea", "bird", "small bird")[best]
    bare = json.loads(called("run", bundle, pictures / "p0.png", "--labels", "sea,bird", "--template", "{}", "--json"))
    assert set(bare["labels"]) == {"sea", "bird"}
    image = json.loads(called("run", bundle, pictures / "p0.png", "--json"))
    np.testing.assert_allclose(image["embedding"], tiny_towers.reference_image(PICTURE), atol=1e-5)
    text = json.loads(called("run", bundle, "--text", "sea", "--json"))
    np.testing.assert_allclose(text["embedding"], tiny_towers.reference_text("sea"), atol=1e-5)
    short = json.loads(called("run", bundle, "--text", "sea", "--dimensions", 4, "--json"))
    assert len(short["embedding"]) == 4
    called("run", bundle, pictures / "p0.png", "--labels", "a,b", "--multi-label", code=1)
    called("run", bundle, pictures / "p0.png", "--labels", "a,a", code=1)


def test_an_index_of_images_is_searched_by_text_and_by_image(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    target = tmp_path / "index"
    made = json.loads(called("index", pictures, "-m", bundle, "-o", target, "--json"))
    assert (made["embedded"], made["other"]) == (5, 1)
    vectors = {f"p{i}.png": tiny_towers.reference_image(np.roll(PICTURE, i * 3, axis=1)) for i in range(5)}
    query = tiny_towers.reference_text("a small bird")
    best = max(vectors, key=lambda name: float(vectors[name] @ query))
    assert json.loads(called("search", target, "a small bird", "-k", 1, "--json"))["path"] == best
    assert json.loads(called("search", target, pictures / "p3.png", "-k", 1, "--json"))["path"] == "p3.png"
    taken = json.loads(called("search", target, pictures / "p3.png", "--as", "text", "-k", 1, "--json"))
    literal = tiny_towers.reference_text(str(pictures / "p3.png"))
    assert taken["path"] == max(vectors, key=lambda name: float(vectors[name] @ literal))
    called("search", target, "a small bird", "--as", "sound", code=1)


def test_inspect_shows_both_towers(bundle: Path, tmp_path: Path) -> None:
    shown = called("inspect", bundle)
    for word in ("text_encoder", "vision_encoder", "softmax", "the {}", "multimodal"):
        assert word in shown
    called("inspect", bundle, "--drift")
    called("inspect", bundle, "--placement")
    called("verify", bundle)
    called("trim", bundle, "--keep", "fp32", "--component", "text_encoder", "-o", tmp_path / "texts")
    assert not list((tmp_path / "texts").rglob("vision_encoder"))
