"""Models of several graphs that answer together have one plan: measured by whole answers, judged by every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_bundles
import tiny_faces
import tiny_language
import tiny_voices
from msgspec.structs import replace
from onnx import numpy_helper
from typer.testing import CliRunner

import sanderling
from sanderling.cli import build_app
from sanderling.errors import InputError, TuneError
from sanderling.footprint import footprint
from sanderling.manifest import Manifest
from sanderling.plan import Plan
from sanderling.tuning import candidates, whole_answers
from sanderling.tuning.halving import tune

# Answers of a few tokens, so that a tuning is over soon.
MAKERS: dict[str, Callable[[Path], Path]] = {
    "captioner": lambda target: tiny_language.captioner_bundle(target, max_new_tokens=4),
    "answerer": lambda target: tiny_language.answerer_bundle(target, max_new_tokens=4),
    "language": lambda target: tiny_language.language_bundle(target, max_new_tokens=4),
}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS["captioner"](tmp_path_factory.mktemp("bundles") / "captioner")


def with_another(bundle: Path, *, spoil: float) -> Path:
    """The bundle with a variant beside its own whose decoder's weights are moved at random, which it prefers."""
    good = tiny_bundles.find(bundle, "model.onnx")
    model = onnx.load(str(good))
    draw = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            moved = (values + spoil * draw.standard_normal(values.shape)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    onnx.save(model, str(good.with_name("other.onnx")))

    def changed(manifest: Manifest) -> Manifest:
        made = {}
        for name, component in manifest.components.items():
            variant = component.variants["fp32"]
            form = variant.forms["padded"]
            if name == "decoder":
                form = replace(form, graph=form.graph.replace("model.onnx", "other.onnx"))
            other = replace(variant, forms={"padded": form})
            made[name] = replace(component, variants=component.variants | {"other": other})
        return replace(manifest, components=made, default_variant="other")

    tiny_bundles.reseal(bundle, changed)
    return bundle


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_the_plan_of_a_model_that_writes_is_used_by_load(kind: str, purpose: Any, tmp_path: Path) -> None:
    bundle = MAKERS[kind](tmp_path / kind)
    tuned = tune(bundle, purpose, time_limit=3)
    best = tuned.trials[0]
    assert best.plan == tuned.plan
    assert best.tokens is not None
    assert best.tokens > 0
    assert best.agreement == best.equal == 1.0
    with sanderling.load(bundle) as model:
        assert model.plan == tuned.plan


def test_many_pictures_are_tried_side_by_side_and_one_by_one(captioner: Path) -> None:
    bundle = sanderling.open_bundle(captioner)
    every = candidates.everything(bundle, "throughput", batch_invariant=False)
    assert {plan.image_budget for plan in every} == {1, 4, 8}
    assert {plan.workers for plan in every} == {1}
    alone = tune(captioner, batch_invariant=True, time_limit=3)
    assert all(trial.plan.batch_invariant for trial in alone.trials)


def test_a_decoder_that_drifts_never_wins(captioner: Path, tmp_path: Path) -> None:
    bundle = with_another(MAKERS["captioner"](tmp_path / "spoiled"), spoil=1.0)
    tuned = tune(bundle, "latency", time_limit=3)
    assert tuned.plan.variant == "fp32"
    out = [trial for trial in tuned.trials if trial.plan.variant == "other"]
    assert out
    assert all(trial.seconds is None and trial.reason.startswith("below its floor: cosine") for trial in out)
    assert all(trial.agreement is not None and trial.agreement < 1 for trial in out)


def test_a_share_of_the_originals_tokens_is_a_floor(tmp_path: Path) -> None:
    """Its scores may be anything, but what it writes has to be the original's."""
    bundle = with_another(MAKERS["captioner"](tmp_path / "spoiled"), spoil=1.0)
    tuned = tune(bundle, "latency", min_cosine=-1.0, min_agreement=1.0, time_limit=3)
    assert tuned.plan.variant == "fp32"
    out = [trial for trial in tuned.trials if trial.plan.variant == "other"]
    assert all("of the original's tokens, 100.0% asked for" in trial.reason for trial in out)
    only = tiny_bundles.read_manifest(bundle)
    parts = {name: replace(part, variants={"other": part.variants["other"]}) for name, part in only.components.items()}
    tiny_bundles.reseal(bundle, lambda manifest: replace(manifest, components=parts))
    with pytest.raises(TuneError, match=r"takes 100\.0% of the original's tokens; the best took \d+\.\d%"):
        tune(bundle, "latency", min_cosine=-1.0, min_agreement=1.0, time_limit=3)


def test_a_floor_of_tokens_is_for_models_that_write(embedding_bundle: Path, captioner: Path) -> None:
    with pytest.raises(InputError, match="min_agreement is of the tokens that a model writes"):
        tune(embedding_bundle, min_agreement=0.9)
    with pytest.raises(InputError, match="min_agreement is 2"):
        tune(captioner, min_agreement=2)


def test_answers_have_a_bounded_length(tmp_path: Path) -> None:
    bundle = tiny_language.language_bundle(tmp_path / "endless", ends=(), max_new_tokens=10**6)
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.TextGenerator)
        written = whole_answers.ask(model, ["sea", "bird"])
    assert written <= 2 * 48


def test_memory_is_that_of_whole_answers(captioner: Path) -> None:
    found = footprint(captioner, Plan("fp32", "cpu", 1, 1), 120)
    assert 10e6 < found.memory < 1e9
    assert found.seconds > 0


@pytest.mark.parametrize("make", [tiny_voices.voice_bundle, tiny_faces.faces_bundle])
def test_voices_and_faces_have_a_plan_too(make: Callable[[Path], Path], tmp_path: Path) -> None:
    bundle = make(tmp_path / "bundle")
    tuned = tune(bundle, "latency", time_limit=3)
    assert tuned.trials[0].tokens is None
    with sanderling.load(bundle) as model:
        assert model.plan == tuned.plan


def test_the_command_shows_what_was_written(captioner: Path) -> None:
    shown = CliRunner().invoke(
        build_app(), ["tune", str(captioner), "--for", "latency", "--time", "2s", "--explain"], env={"COLUMNS": "250"}
    )
    assert shown.exit_code == 0, shown.output
    assert "tokens/s" in shown.output
    assert "100.0%" in shown.output
    wrong = CliRunner().invoke(build_app(), ["tune", str(captioner), "--min-agreement", "3"])
    assert isinstance(wrong.exception, InputError)
