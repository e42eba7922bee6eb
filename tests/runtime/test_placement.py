"""Where nodes run, and how long: as ONNX Runtime says, and as its profiler measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import tiny_bundles
from typer.testing import CliRunner

import sanderling
from sanderling import providers
from sanderling.cli import build_app
from sanderling.errors import InputError, ModelClosedError, PartialPlacementWarning, ProviderError
from sanderling.placement import Placement, node_seconds, run_count, together
from sanderling.session import Session

CPU, OTHER = "CPUExecutionProvider", "OpenVINOExecutionProvider"


def run(begin: int, duration: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": begin, "dur": duration, "args": {}}


def node(begin: int, duration: int, provider: str) -> dict[str, Any]:
    return {"cat": "Node", "name": "x_kernel_time", "ts": begin, "dur": duration, "args": {"provider": provider}}


def test_seconds_are_added_up_by_provider() -> None:
    events = [run(0, 1000), node(10, 600, CPU), node(620, 200, OTHER), node(830, 100, CPU)]
    events += [{"cat": "Node", "name": "x_fence_before", "ts": 5, "dur": 3, "args": {}}, {"cat": "Api", "ts": 1}]
    assert node_seconds(events) == {CPU: 700e-6, OTHER: 200e-6}


def test_the_first_runs_can_be_left_out() -> None:
    events = [run(0, 100), node(1, 90, CPU), run(200, 100), node(201, 50, CPU), run(400, 100), node(401, 40, OTHER)]
    assert node_seconds(events, skip=1) == {CPU: 50e-6, OTHER: 40e-6}
    assert node_seconds(events, skip=2) == {OTHER: 40e-6}


def test_a_node_with_a_graph_of_its_own_counts_without_it() -> None:
    """A loop of 100 microseconds around two nodes on another provider, and a node after it."""
    events = [run(0, 300), node(10, 100, CPU), node(20, 30, OTHER), node(60, 40, OTHER), node(120, 5, CPU)]
    assert node_seconds(events) == {CPU: 35e-6, OTHER: 70e-6}
    assert node_seconds([]) == {}


def test_several_graphs_are_one_and_each() -> None:
    encoder = Placement("openvino", {"openvino": {"Conv": 3}}, {"openvino": 0.5})
    decoder = Placement("openvino", {"openvino": {"Conv": 1}, "cpu": {"Clip": 1}}, {"cpu": 0.25, "openvino": 0.25})
    found = together("openvino", {"encoder": encoder, "decoder": decoder})
    assert found.operators == {"openvino": {"Conv": 4}, "cpu": {"Clip": 1}}
    assert found.seconds == {"openvino": 0.75, "cpu": 0.25}
    assert found.graphs == {"encoder": encoder, "decoder": decoder}
    assert together("openvino", [encoder, decoder]).graphs == {}
    assert run_count([run(0, 3), node(1, 1, CPU), run(5, 3)]) == 2


def test_shares_and_words() -> None:
    placement = Placement("openvino", {"openvino": {"Conv": 3}, "cpu": {"Clip": 1}})
    assert placement.time_shares == {}
    assert str(placement) == "3 of 4 nodes are on openvino, 1 on cpu (Clip x 1)"
    measured = Placement("openvino", placement.operators, {"openvino": 0.25, "cpu": 0.75})
    assert measured.time_shares == {"openvino": 0.25, "cpu": 0.75}
    assert str(measured) == "3 of 4 nodes are on openvino and take 25% of the time, 1 on cpu (Clip x 1)"
    assert (measured.share, measured.complete) == (0.75, False)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_model_measures_its_placement_on_demand(kind: str, text_bundle: Path, image_bundle: Path) -> None:
    bundle, given = (text_bundle, ["the sea", "a bird"]) if kind == "text" else (image_bundle, [tiny_bundles.PICTURE])
    with sanderling.load(bundle) as model:
        assert model.placement.seconds == {}
        nodes = model.placement.nodes
        for inputs in (None, given):
            measured = model.measure_placement(inputs, runs=2)
            assert measured.nodes == nodes
            assert measured.seconds["cpu"] > 0
            assert measured.time_shares == {"cpu": 1.0}
        assert model.placement == measured
        with pytest.raises(InputError, match="runs is 0"):
            model.measure_placement(given, runs=0)
    with pytest.raises(ModelClosedError):
        model.measure_placement(given)


def test_the_profile_is_not_left_behind(text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with sanderling.load(text_bundle) as model:
        model.measure_placement()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime whose build carries OpenVINO, which takes none of the nodes but the first."""
    made = onnxruntime.InferenceSession

    def build(path: str, options: Any, providers: list[str], **_: Any) -> Any:
        session = made(path, options, providers=[CPU])
        monkeypatch.setattr(session, "get_providers", lambda: providers)
        return session

    def placed(provider: str, session: Any) -> Placement:
        del session
        other = {} if provider == "cpu" else {provider: {"Gather": 1}}
        return Placement(provider, {**other, "cpu": {"Gemm": 2}})

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OTHER, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", build)
    monkeypatch.setattr("sanderling.session._placement", placed)


@pytest.mark.usefixtures("half")
def test_a_partial_placement_is_a_warning_or_refused(text_bundle: Path) -> None:
    with pytest.warns(PartialPlacementWarning, match=r"1 of 3 nodes are on openvino, 2 on cpu \(Gemm x 2\)\."):
        sanderling.load(text_bundle, provider="openvino").close()
    with pytest.raises(ProviderError, match="strict=True refuses that"):
        sanderling.load(text_bundle, provider="openvino", strict=True)
    sanderling.load(text_bundle, provider="cpu", strict=True).close()


@pytest.mark.usefixtures("half")
def test_a_partial_placement_loses_in_tune(text_bundle: Path) -> None:
    tuned = sanderling.tune(text_bundle, "latency", time_limit=30)
    assert tuned.plan.provider == "cpu"
    reasons = [trial.reason for trial in tuned.trials if trial.plan.provider == "openvino"]
    assert reasons
    assert all(reason.startswith("partial placement: 1 of 3 nodes") for reason in reasons)


@pytest.mark.usefixtures("half")
def test_a_provider_of_the_build_needs_no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    asked.append(providers.configure(onnxruntime.SessionOptions(), providers.resolve("openvino")))
    assert asked == [[OTHER, CPU]]
    assert "openvino" in providers.available()
    described = [device.description for device in providers.devices() if device.provider == "openvino"]
    assert described == ["part of this build of ONNX Runtime"]


def test_a_plugin_without_a_device_names_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(providers, "_ep_devices", lambda provider: [])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ProviderError) as raised:
        providers.resolve("openvino")
    assert str(raised.value) == (
        "The provider 'openvino' is installed, but found no device on this machine that it can use; usable here: cpu. "
        "For processors of other makers than Intel: pip uninstall onnxruntime && pip install onnxruntime-openvino"
    )


def test_an_engine_measures_on_feeds(text_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each feed is run once more than asked for, in a session of its own."""
    counted: list[int] = []
    with sanderling.load(text_bundle) as model:
        session = model._engines.single
        assert isinstance(session, Session)
        prepared = model.front.prepare(["the sea"], None)
        feeds, _ = model.front.feeds(prepared)
        made = onnxruntime.InferenceSession.run

        def run(self: Any, names: Any, given: Any, options: Any = None) -> Any:
            counted.append(1)
            return made(self, names, given, options)

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
        session.measure_placement([feeds, feeds], runs=3)
    assert len(counted) == 8


def test_inspect_shows_each_variant_on_each_provider(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "available", lambda: ("cpu", "webgpu"))
    runner = CliRunner()
    shown = runner.invoke(build_app(), ["inspect", str(embedding_bundle), "--placement"])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"fp32 +cpu +1 of 1 +100%", shown.output)
    assert re.search(r"int8-dynamic +webgpu +cannot run", shown.output)
    assert "fp32 on webgpu: The provider 'webgpu' is not installed" in shown.output
    rows = json.loads(runner.invoke(build_app(), ["inspect", str(embedding_bundle), "--placement", "--json"]).stdout)
    assert [(row["variant"], row["provider"], row["nodes"]) for row in rows if not row["error"]] == [
        ("fp32", "cpu", {"cpu": 1}),
        ("int8-dynamic", "cpu", {"cpu": 2}),
    ]
