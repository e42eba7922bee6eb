"""The doctor: each thing it looks for, made ill on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sanderling import doctor, providers
from sanderling.cli import build_app
from sanderling.errors import ProviderError, StorageError


def finding(what: str) -> doctor.Finding:
    return next(found for found in doctor.examine() if found.what == what)


def test_every_finding_that_is_not_well_says_what_to_do() -> None:
    for found in doctor.examine():
        assert found.met
        assert found.well or found.advice


def test_two_builds_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding("builds of ONNX Runtime").well
    monkeypatch.setattr(doctor, "_installed", lambda name: name in ("onnxruntime", "onnxruntime-gpu"))
    monkeypatch.setattr(doctor, "version", lambda _: "1.31.1")
    found = finding("builds of ONNX Runtime")
    assert not found.well
    assert found.met.startswith("onnxruntime 1.31.1, onnxruntime-gpu 1.31.1: they overwrite each other")
    assert found.advice.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && ")


def test_a_plugin_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str) -> providers.Provider:
        raise ProviderError(f"The provider {name!r} is installed, but found no device.")

    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if name == "onnxruntime_ep_openvino" else None)
    monkeypatch.setattr(providers, "resolve", resolve)
    assert not finding("provider openvino").well
    assert "pip uninstall onnxruntime-ep-openvino" in finding("provider openvino").advice
    assert finding("provider webgpu").met == "not installed"


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    assert not finding("cores").well
    assert "asks for 999" in finding("cores").met


def test_a_slow_governor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    governor = tmp_path / "cpu0" / "cpufreq" / "scaling_governor"
    governor.parent.mkdir(parents=True)
    monkeypatch.setattr(doctor, "_GOVERNORS", tmp_path)
    governor.write_text("schedutil\n")
    assert finding("power").well
    governor.write_text("powersave\n")
    assert not finding("power").well


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SANDERLING_CACHE", str(tmp_path / "deep" / "cache"))
    assert finding("cache").well
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written" in finding("cache").met
    monkeypatch.setattr("sanderling.cache.folder", _no_home)
    assert finding("cache").met == "No folder for a cache."


def _no_home() -> Path:
    raise StorageError("No folder for a cache.")


def test_telemetry_that_was_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert not finding("telemetry").well


def test_the_command_exits_with_1_if_anything_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    well = (doctor.Finding("a", True, "fine"),)
    ill = (*well, doctor.Finding("b", False, "broken [red]", "mend it"))
    monkeypatch.setattr("sanderling.commands.doctor.examine", lambda: well)
    assert runner.invoke(build_app(), ["doctor"]).exit_code == 0
    monkeypatch.setattr("sanderling.commands.doctor.examine", lambda: ill)
    shown = runner.invoke(build_app(), ["doctor"])
    assert shown.exit_code == 1
    assert "broken [red]" in shown.output
    assert "mend it" in shown.output
    assert json.loads(runner.invoke(build_app(), ["doctor", "--json"]).stdout)[1]["advice"] == "mend it"
