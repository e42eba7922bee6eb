"""`sanderling export` as a user types it, also when they type it wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sanderling.bundle import open_bundle
from sanderling.cli import build_app
from sanderling.errors import ExportError, MissingExtraError, SanderlingError
from sanderling_export import extra


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["export", *map(str, arguments)])
    if isinstance(result.exception, SanderlingError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def specified_space(path: Path) -> str:
    """The fingerprint of the embedding space, by docs/bundle-format.md alone."""
    manifest = json.loads(path.read_bytes())
    content = {name: manifest["postprocessing"][name] for name in ("dimension", "normalize", "pooling")}
    content["prompts"] = manifest["preprocessing"]["text"]["prompts"]
    content["weights"] = manifest["provenance"]["checkpoint_sha256"]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def test_prints_json_and_nothing_else_on_standard_output(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "sanderling", "export", checkpoint("bert"), "-o", tmp_path / "b"]
    command += ["--data", lines, "--variants", "fp32", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ, check=True)
    told = json.loads(done.stdout)
    assert told["task"] == "feature-extraction"
    assert list(told["variants"]) == ["fp32"]
    assert told["variants"]["fp32"]["drift"]["cosine"]["min"] > 0.9999
    assert any("mean pooling" in note for note in told["notes"])
    assert open_bundle(tmp_path / "b").manifest.space == specified_space(tmp_path / "b" / "bundle.json")
    noisy = [line for line in done.stderr.splitlines() if line and not line.startswith("done ")]
    assert noisy == []


def test_prints_a_table_with_every_variant(checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    out = invoke(checkpoint("bert"), "-o", tmp_path / "b", "--data", lines, "--pooling", "cls", "--normalize")
    assert "fp32" in out
    assert "int8-dynamic (default)" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{bert}"], "-o FOLDER"),
        (
            ["all-minilm"],
            r"no recipe \(in models/ of this folder: all-minilm-l6-v2, .*topic.*\).*-o FOLDER",
        ),
        (["{bert}", "-o", "{tmp}/b", "--task", "singing"], "--task 'singing'"),
        (["{bert}", "-o", "{tmp}/b", "--pooling", "median"], "--pooling 'median'"),
        (["{bert}", "-o", "{tmp}/b", "--variants", "fp32,int3"], "'int3' is not known"),
        (["{bert}", "-o", "{tmp}/b", "--data", "{tmp}/none"], "is not there"),
        (["{bert}", "-o", "{tmp}/b", "--labels", "{tmp}/none"], "cannot be read as labels"),
        (["{bert}", "-o", "{tmp}/b", "--max-tokens", "100000"], "positions for 130 tokens"),
        (["{vit}", "-o", "{tmp}/b", "--data", "{tmp}"], "holds 0 images"),
        (["{tmp}/no.toml"], r"no\.toml is not there"),
        (["{tmp}", "-o", "{tmp}/b"], "holds no weights"),
    ],
)
def test_misuse_says_what_to_do(
    arguments: list[str],
    told: str,
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    filled = [a.format(bert=checkpoint("bert"), vit=checkpoint("vit"), tmp=tmp_path) for a in arguments]
    with pytest.raises(SanderlingError, match=told):
        invoke(*filled)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "_PACKAGES", ("numpy", "no_such_package_here"))
    with pytest.raises(MissingExtraError, match=r"no_such_package_here.*sanderling\[export\]"):
        extra.load_pipeline()


def test_a_text_file_that_is_none(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportError, match="UTF-8, one text a line"):
        invoke(checkpoint("bert"), "-o", tmp_path / "b", "--data", tmp_path / "binary")
