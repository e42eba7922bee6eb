"""Each tower of a model of two has a plan of its own, which loading uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_language
import tiny_towers
import typer
from typer.testing import CliRunner

import sanderling
from sanderling.bundle import open_bundle
from sanderling.commands import tune as commands
from sanderling.errors import BundleError, TuneError
from sanderling.plan import remember_plan, tuned_plan
from sanderling.providers import RUNTIME_VERSION
from sanderling.tuning.halving import tune

PICTURE = tiny_towers.PICTURE


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.dual_bundle(tmp_path_factory.mktemp("bundles") / "towers")


def test_each_tower_is_tuned_by_itself(towers: Path) -> None:
    with pytest.raises(TuneError, match="has text_encoder, vision_encoder, each with a plan of its own"):
        tune(towers, time_limit=1.0)
    seen = tune(towers, "latency", time_limit=1.0, component="vision_encoder")
    digest = open_bundle(towers).digest
    assert tuned_plan(digest, RUNTIME_VERSION, "vision_encoder") == seen.plan
    assert tuned_plan(digest, RUNTIME_VERSION, "text_encoder") is None
    assert tuned_plan(digest, RUNTIME_VERSION) is None
    assert {trial.cosine is not None for trial in seen.trials if not trial.reason and trial.seconds} == {True}
    with sanderling.load(towers, components="vision_encoder") as alone:
        assert (alone.plan.variant, alone.plan.threads) == (seen.plan.variant, seen.plan.threads)


def test_both_towers_are_loaded_as_they_were_tuned(towers: Path) -> None:
    digest = open_bundle(towers).digest
    with sanderling.load(towers) as model:
        plan = model.plan
        expected = model.answer(["the sea", PICTURE]).rows
    from msgspec.structs import replace

    remember_plan(digest, RUNTIME_VERSION, replace(plan, variant="fp32", token_budget=64), "text_encoder")
    remember_plan(digest, RUNTIME_VERSION, replace(plan, variant="int8-dynamic", image_budget=1), "vision_encoder")
    with sanderling.load(towers) as model:
        assert isinstance(model, sanderling.DualEncoder)
        assert model.text_encoder.plan.token_budget == 64
        assert (model.text_encoder.variant, model.vision_encoder.variant) == ("fp32", "int8-dynamic")
        assert model.variant == "int8-dynamic"
        assert model.vision_encoder.plan.image_budget == 1
        found = model.answer(["the sea", PICTURE]).rows
        assert abs(found - expected).max() < 0.05
    # What is asked for goes before what was tuned.
    with sanderling.load(towers, variant="fp32") as model:
        assert isinstance(model, sanderling.DualEncoder)
        assert model.vision_encoder.variant == "fp32"
        assert model.text_encoder.plan.token_budget != 64
    with sanderling.load(towers, components="text_encoder") as alone:
        assert alone.plan.token_budget == 64


def test_memory_is_measured_of_one_tower(towers: Path) -> None:
    found = tune(towers, "memory", time_limit=2.0, component="text_encoder")
    assert found.trials[0].memory is not None


def test_a_component_that_does_not_answer_by_itself_has_no_plan(towers: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="answer only together"):
        tune(tiny_language.captioner_bundle(tmp_path / "captioner"), component="decoder")
    with pytest.raises(BundleError, match="no component 'decoder'"):
        tune(towers, component="decoder")


def test_the_command_tunes_one_after_the_other(towers: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    done: Any = CliRunner().invoke(app, ["tune", str(towers), "--time", "1s", "--for", "latency"])
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "text_encoder: " in words
    assert "vision_encoder: " in words
