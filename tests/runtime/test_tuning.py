"""Tuning: the fastest plan that still answers right, kept for `load`, and never one that does not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
import tiny_bundles
from typer.testing import CliRunner

import sanderling
from sanderling import sessions
from sanderling.cli import build_app
from sanderling.errors import InputError, TuneError
from sanderling.footprint import Footprint, footprint
from sanderling.manifest import Manifest
from sanderling.placement import Placement
from sanderling.plan import DISABLED_FUSIONS, Plan, default_plan
from sanderling.shared import graph_of
from sanderling.tuning import halving

CopyBundle = Callable[[Path], Path]


def test_the_plan_that_won_is_used_by_load(embedding_bundle: Path) -> None:
    tuned = sanderling.tune(embedding_bundle, "throughput", time_limit=5)
    with sanderling.load(embedding_bundle) as model:
        assert model.plan == tuned.plan
    with sanderling.load(embedding_bundle, provider="auto") as model:
        assert model.plan == tuned.plan
    assert tuned.trials[0].plan == tuned.plan
    assert tuned.trials[0].seconds is not None


def test_what_is_asked_for_goes_before_the_tuned_plan(embedding_bundle: Path) -> None:
    sanderling.tune(embedding_bundle, "latency", time_limit=5)
    with sanderling.load(embedding_bundle, variant="fp32", threads=1) as model:
        assert model.plan == default_plan("fp32", "cpu", 1)


def test_a_variant_that_is_faster_but_wrong_never_wins(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other variant is made to take its time, so that it would lose every race on speed alone."""
    bad = sanderling.open_bundle(embedding_bundle).manifest.variants[-1]
    answer, replay = sanderling.Model.answer, halving.replay

    def slower(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.variant != bad:
            time.sleep(0.002)
        return answer(self, *args, **kwargs)

    def failing(model: Any, golden: Any, limits: Any) -> Any:
        checks = replay(model, golden, limits)
        if model.variant == bad:
            return [replace(check, cosine=0.5, held=False) for check in checks]
        return checks

    monkeypatch.setattr(sanderling.Model, "answer", slower)
    monkeypatch.setattr(halving, "replay", failing)
    tuned = sanderling.tune(embedding_bundle, "latency", time_limit=20)
    assert tuned.plan.variant != bad
    out = [trial for trial in tuned.trials if trial.plan.variant == bad]
    assert out
    assert all(trial.seconds is None and "below its floor: cosine 0.5" in trial.reason for trial in out)


def test_a_floor_that_nothing_reaches_says_the_best_reached(
    embedding_bundle: Path, copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = halving.replay

    def failing(model: Any, golden: Any, limits: Any) -> Any:
        checks = replay(model, golden, limits)
        return [replace(check, cosine=0.875, held=False) for check in checks]

    monkeypatch.setattr(halving, "replay", failing)
    bundle = copy_bundle(embedding_bundle)
    with pytest.raises(TuneError, match=r"a cosine of 0\.99 on every golden sample; the best lowest cosine was 0\.875"):
        sanderling.tune(bundle, min_cosine=0.99, time_limit=5)
    with sanderling.load(bundle) as model:
        assert model.plan == default_plan(model.variant, "cpu", model.threads)


def test_a_partial_placement_loses(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halved = Placement("cpu", {"cpu": {"Gather": 1}, "other": {"MatMul": 1}})
    monkeypatch.setattr(sanderling.Model, "placement", property(lambda _: halved))
    with pytest.raises(TuneError, match="partial placement: 1 of 2 nodes are on cpu, 1 on other"):
        sanderling.tune(embedding_bundle, time_limit=5)


@pytest.mark.parametrize("bundle", ["embedding_bundle", "image_bundle"])
def test_batch_invariant_plans_answer_every_input_alone(request: pytest.FixtureRequest, bundle: str) -> None:
    path = request.getfixturevalue(bundle)
    tuned = sanderling.tune(path, batch_invariant=True, time_limit=5)
    assert tuned.plan.batch_invariant
    assert all(trial.plan.batch_invariant for trial in tuned.trials)


def test_a_tuned_plan_that_is_not_invariant_is_not_used_where_that_is_demanded(embedding_bundle: Path) -> None:
    tuned = sanderling.tune(embedding_bundle, "throughput", time_limit=5)
    with sanderling.load(embedding_bundle, batch_invariant=True) as model:
        assert model.plan.batch_invariant
        fed: list[tuple[int, ...]] = []
        run = type(model._engines.single).run

        def noting(self: Any, feeds: Any, cancellation: Any = None) -> Any:
            fed.append(feeds["input_ids"].shape)
            return run(self, feeds, cancellation)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(model._engines.single), "run", noting)
            model(["a bird", "the edge of the sea", "a bird", "sand"])
        assert [shape[0] for shape in fed] == [1, 1, 1, 1]
    assert tuned.plan.variant


def test_interrupted_it_keeps_what_it_has(embedding_bundle: Path) -> None:
    stages: list[str] = []

    def interrupt(stage: str) -> None:
        stages.append(stage)
        if len(stages) == 3:
            raise KeyboardInterrupt

    tuned = sanderling.tune(embedding_bundle, time_limit=60, progress=interrupt)
    assert not tuned.complete
    with sanderling.load(embedding_bundle) as model:
        assert model.plan == tuned.plan


def test_interrupted_before_anything_was_measured_it_ends(embedding_bundle: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sanderling.tune(embedding_bundle, progress=interrupt)


def test_a_short_time_still_gives_a_plan(embedding_bundle: Path) -> None:
    tuned = sanderling.tune(embedding_bundle, time_limit=1e-6)
    assert not tuned.complete
    assert tuned.plan.variant == sanderling.open_bundle(embedding_bundle).manifest.default_variant


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"purpose": "speed"}, "purpose is 'speed'"),
        ({"time_limit": 0}, "time_limit is 0"),
        ({"time_limit": float("nan")}, "time_limit is nan"),
        ({"min_cosine": 2}, "min_cosine is 2"),
        ({"max_memory": 0}, "max_memory is 0"),
    ],
)
def test_wrong_arguments(embedding_bundle: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sanderling.tune(embedding_bundle, **options)


def test_a_plan_of_a_variant_that_was_trimmed_away_is_not_used(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanderling.choices.tuned_plan", lambda *_: Plan("gone", "cpu", 1, 1))
    with sanderling.load(embedding_bundle) as model:
        assert model.variant == sanderling.open_bundle(embedding_bundle).manifest.default_variant


def test_the_command_explains(image_bundle: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(build_app(), ["tune", str(image_bundle), "--for", "latency", "--time", "3s", "--explain"])
    assert shown.exit_code == 0, shown.output
    assert "it is used from now on" in shown.output
    assert "lowest cosine" in shown.output
    printed = runner.invoke(build_app(), ["tune", str(image_bundle), "--time", "0.05m", "--json"])
    assert json.loads(printed.stdout)["plan"]["provider"] == "cpu"
    wrong = runner.invoke(build_app(), ["tune", str(image_bundle), "--time", "soon"])
    assert isinstance(wrong.exception, InputError)


def test_a_plan_whose_provider_is_gone_is_said_to_be_stale(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanderling.choices.tuned_plan", lambda *_: Plan("fp32", "openvino", 1, 1))
    monkeypatch.setattr("sanderling.choices.available", lambda: ("cpu",))
    with pytest.warns(sanderling.StalePlanWarning, match="'openvino', which is no longer usable here"):
        model = sanderling.load(embedding_bundle)
    with model:
        assert model.provider == "cpu"


def test_a_stream_answers_soon_and_then_in_full_batches(embedding_bundle: Path) -> None:
    taken: list[int] = []

    def source() -> Any:
        for number in range(3000):
            taken.append(number)
            yield f"bird {number}"

    with sanderling.load(embedding_bundle) as model:
        answers = model.stream(source())
        next(answers)
        assert len(taken) == 16
        assert 1 + sum(1 for _ in answers) == 3000


@pytest.fixture
def made_of_forms(copy_bundle: CopyBundle, embedding_bundle: Path) -> Path:
    """The tiny embedding bundle, whose fp32 has an `exact` form as well: its lookup does not read the mask."""
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "fp32/model.onnx")
    model = onnx.load(str(path), load_external_data=False)
    del model.graph.input[1]
    onnx.save(model, str(path.with_name("exact.onnx")))

    def with_form(manifest: Manifest) -> Manifest:
        component = manifest.components["model"]
        variant = component.variants["fp32"]
        padded = variant.forms["padded"]
        exact = msgspec.structs.replace(
            padded, graph=padded.graph.replace("model.onnx", "exact.onnx"), inputs=component.inputs[:1]
        )
        variants = component.variants | {
            "fp32": msgspec.structs.replace(variant, forms=variant.forms | {"exact": exact})
        }
        changed = msgspec.structs.replace(component, variants=variants)
        return msgspec.structs.replace(manifest, components={"model": changed})

    tiny_bundles.reseal(bundle, with_form)
    return bundle


def test_every_form_and_fusion_is_tried(made_of_forms: Path) -> None:
    tuned = sanderling.tune(made_of_forms, time_limit=30)
    assert tuned.complete
    tried = {(trial.plan.variant, trial.plan.form) for trial in tuned.trials}
    assert tried == {("fp32", "exact"), ("fp32", "padded"), ("int8-dynamic", "padded")}
    assert {trial.plan.disabled_fusions for trial in tuned.trials} > {DISABLED_FUSIONS, ()}
    assert {trial.plan.token_budget for trial in tuned.trials} == {1, 128, 256, 512, 1024}
    with sanderling.load(made_of_forms) as model:
        assert model.plan == tuned.plan


def test_texts_of_one_length_run_without_a_mask_where_nothing_was_tuned(made_of_forms: Path) -> None:
    with sanderling.load(made_of_forms) as model:
        assert model.plan.form == "exact"
        feeds, _ = model.front.feeds(model.front.prepare(["a bird", "the sea"], None))
        assert set(feeds) == {"input_ids"}
    with sanderling.load(made_of_forms, variant="int8-dynamic") as model:
        assert model.plan.form == "padded"


def test_plans_that_differ_in_batching_share_sessions(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, int]] = []
    session = sessions.Session

    def counting(graph: Path, component: Any, **options: Any) -> Any:
        built.append((f"{graph} {options['disabled_fusions']}", options["threads"]))
        return session(graph, component, **options)

    monkeypatch.setattr(sessions, "Session", counting)
    tuned = sanderling.tune(embedding_bundle, time_limit=30)
    assert tuned.complete
    assert len(tuned.trials) > len({graph_of(trial.plan) for trial in tuned.trials})
    # Not even plans that were let go while others of their graph were still to come cost a session twice.
    assert len(built) == len(set(built))


def test_an_old_plan_is_still_one() -> None:
    """A plan kept before forms were: it reads as the padded graph that it was tuned on."""
    old = b'{"variant":"fp32","provider":"cpu","threads":2,"workers":2,"token_budget":256,"image_budget":4}'
    plan = msgspec.json.decode(old, type=Plan)
    assert (plan.form, plan.rounding, plan.disabled_fusions) == ("padded", 1, DISABLED_FUSIONS)


def test_a_plan_of_a_form_that_is_not_there_is_not_used(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanderling.choices.tuned_plan", lambda *_: Plan("fp32", "cpu", 1, 1, form="packed"))
    with sanderling.load(embedding_bundle) as model:
        assert model.plan.form == "padded"


def test_for_memory_each_plan_is_measured_in_a_process_of_its_own(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Plan] = []

    def measured(path: Path, plan: Plan, timeout: float, component: str | None) -> Footprint:
        asked.append(plan)
        return Footprint(200_000_000 - 1_000_000 * len(asked), 0.001)

    monkeypatch.setattr(halving.footprint, "footprint", measured)
    tuned = sanderling.tune(embedding_bundle, "memory", time_limit=20)
    assert tuned.plan == asked[-1]
    assert [trial.memory for trial in tuned.trials] == sorted(trial.memory or 0 for trial in tuned.trials)
    assert tuned.plan.threads == tuned.plan.workers == 1


def test_a_real_process_is_measured(embedding_bundle: Path) -> None:
    found = footprint(embedding_bundle, Plan("fp32", "cpu", 1, 1), 120)
    assert 10e6 < found.memory < 1e9
    assert found.seconds > 0


def test_more_memory_than_allowed_never_wins(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(path: Path, plan: Plan, timeout: float, component: str | None) -> Footprint:
        return Footprint(400_000_000 if plan.variant == "fp32" else 200_000_000, 0.001)

    monkeypatch.setattr(halving.footprint, "footprint", measured)
    tuned = sanderling.tune(embedding_bundle, time_limit=20, max_memory=300_000_000)
    assert tuned.plan.variant == "int8-dynamic"
    out = [trial for trial in tuned.trials if trial.plan.variant == "fp32"]
    assert all(trial.reason == "it takes 400 MB, 300 MB was asked for" for trial in out)
    with pytest.raises(TuneError, match="stays within 100 MB; the smallest that was tried took 200 MB"):
        sanderling.tune(embedding_bundle, time_limit=20, max_memory=100_000_000)


def test_sizes_in_words(embedding_bundle: Path) -> None:
    runner = CliRunner()
    wrong = runner.invoke(build_app(), ["tune", str(embedding_bundle), "--max-memory", "much"])
    assert isinstance(wrong.exception, InputError)
    assert "--max-memory is 'much'" in str(wrong.exception)
