"""Which recipes `make models` builds: those whose checkpoints can be had without a hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"
sys.path.insert(0, str(MODELS))
try:
    import build
finally:
    sys.path.remove(str(MODELS))

ON_THE_HUB = {
    "answerai-colbert-small-v1",
    "ast-audioset",
    "bge-reranker-base",
    "colbertv2",
    "moonshine-tiny",
    "ms-marco-minilm-l6-v2",
    "opensearch-sparse-v1",
    "splade-cocondenser",
    "wav2vec2-base-960h",
}


@pytest.mark.parametrize("hub", [False, True])
def test_the_hub_is_asked_for(hub: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    built: list[str] = []

    def run(program: str, shown: str, arguments: list[str]) -> bool:
        del program, shown
        built.append(Path(arguments[-1]).stem)
        return True

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(build, "_npm", lambda recipe: True)
    build.main(["--hub"] if hub else [])
    assert {"all-minilm-l6-v2", "efficientnet-lite0", "faces"} <= set(built)
    assert ON_THE_HUB & set(built) == (ON_THE_HUB if hub else set())
    left_out = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "is on the hub" in line}
    assert left_out == (set() if hub else ON_THE_HUB)


def test_every_recipe_from_the_hub_is_in_a_table() -> None:
    named = {path.stem: path for path in MODELS.glob("*.toml") if build.on_hub(path)}
    assert set(named) == ON_THE_HUB
    text = "".join((MODELS.parent / "docs" / name).read_text("utf-8") for name in ("embeddings.md", "sounds.md"))
    for name, path in named.items():
        checkpoint = build.tomllib.loads(path.read_text("utf-8"))["checkpoint"]
        assert f"| `{name}` |" in text
        assert f"`{checkpoint}`" in text


def test_what_is_missing_of_the_world_is_trained_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MODELS", tmp_path)
    recipe = tmp_path / "world-answers.toml"
    recipe.write_text('checkpoint = "world/checkpoints/answerer"\n', "utf-8")
    assert not build.on_hub(recipe)
    assert build.untrained(recipe) == "answerer"
    (tmp_path / "world" / "checkpoints" / "answerer").mkdir(parents=True)
    (tmp_path / "world" / "checkpoints" / "answerer" / "config.json").write_text("{}", "utf-8")
    assert build.untrained(recipe) == ""
    recipe.write_text('checkpoint = "checkpoints/sentiment"\n', "utf-8")
    assert build.untrained(recipe) == ""
