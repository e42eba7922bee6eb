"""Recipes: what is accepted, and what is refused with a word on what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanderling.errors import CheckpointError, RecipeError
from sanderling.schema.preprocessing import CenterCrop, Rescale, ResizeShortest
from sanderling_export import references
from sanderling_export.recipe import Wanted, find_recipe, read_recipe

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
name = "gull"
checkpoint = "weights"
license = "MIT"
[variants.fp32]
[variants.int8-dynamic]
mean_cosine = 0.97
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "gull.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_a_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert recipe.name == "gull"
    assert recipe.variants["int8-dynamic"] == Wanted(mean_cosine=0.97)
    assert list(recipe.variants) == ["fp32", "int8-dynamic"]


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_repository_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.license != "unknown"
    assert recipe.labels is None or (path.parent / recipe.labels).is_file()
    text = recipe.license_file
    assert text is None or references.is_package(text) or (path.parent / text).is_file()


def test_image_steps_become_the_manifests(tmp_path: Path) -> None:
    del tmp_path
    image = read_recipe(ROOT / "models" / "efficientnet-lite0.toml").image
    assert image is not None
    assert image.steps[:3] == (
        ResizeShortest(256, "bicubic"),
        CenterCrop(224, 224, "half_even"),
        Rescale(divisor=255.0),
    )


def test_imagenet_has_a_thousand_different_names() -> None:
    names = (ROOT / "models" / "labels" / "imagenet-1k.txt").read_text(encoding="utf-8").splitlines()
    assert len(names) == 1000
    assert len({name.casefold() for name in names}) == 1000
    assert (names[0], names[281], names[517], names[967], names[999]) == (
        "tench",
        "tabby",
        "crane (machine)",
        "espresso",
        "toilet tissue",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "no valid recipe"),
        ("\xff\xfe", "no valid recipe"),
        ('checkpoint = "x"', "name"),
        ('name = "a"', "checkpoint"),
        (GOOD + "\n[surprise]\nx = 1", "surprise"),
        (GOOD.replace("mean_cosine", "mean_cosin"), "mean_cosin"),
        (GOOD.replace("0.97", "1.97"), "mean_cosine"),
        (GOOD.replace("int8-dynamic", "int3"), "int3"),
        (GOOD.replace('"gull"', '"../gull"'), "name"),
        (GOOD.replace('license = "MIT"', 'pooling = "middle"'), "middle"),
        (GOOD.replace('license = "MIT"', "max_tokens = 0"), "max_tokens"),
        (GOOD.replace('license = "MIT"', 'default_variant = "int8-static"'), "int8-static"),
        (GOOD + '[data]\ncalibration = ["a.png"]\ncheck = ["a.png"]', "a.png"),
        (GOOD + '[module]\nfactory = "os:system"', "image.steps"),
        (GOOD + '[module]\nfactory = "os.system"', "factory"),
    ],
)
def test_refuses_what_is_wrong_and_names_it(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=told) as caught:
        read_recipe(path)
    assert "bad.toml" in str(caught.value)


def test_finds_a_recipe_by_path_or_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    recipe = write(tmp_path / "models", GOOD)
    monkeypatch.chdir(tmp_path)
    assert find_recipe(str(recipe)) == recipe
    assert find_recipe("gull") == Path("models/gull.toml")
    assert find_recipe("heron") is None
    assert find_recipe("some/folder") is None
    with pytest.raises(RecipeError, match=r"tern\.toml is not there"):
        find_recipe("tern.toml")


def test_a_missing_package_gives_its_pip_line(tmp_path: Path) -> None:
    from sanderling_export.description import Options
    from sanderling_export.plan import make_plan

    text = GOOD.replace('"weights"', '"package:no_such_package_here/model"')
    path = write(tmp_path, text.replace("license =", 'distributions = ["no-such-one"]\nlicense ='))
    with pytest.raises(CheckpointError, match="pip install no-such-one"):
        make_plan(str(path), tmp_path / "out", Options(), None, False)
