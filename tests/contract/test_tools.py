"""Lint, format, types, the direction of imports, and the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MAX_UNPACKED_BYTES = 1_500_000


def check(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")], ids=["lint", "format"])
def test_ruff(root: Path, arguments: tuple[str, ...]) -> None:
    pytest.importorskip("ruff")
    check(root, sys.executable, "-m", "ruff", *arguments)


def test_mypy(root: Path) -> None:
    pytest.importorskip("mypy")
    check(root, sys.executable, "-m", "mypy")


def test_the_direction_of_imports(root: Path) -> None:
    pytest.importorskip("importlinter")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    check(root, sys.executable, "-c", code)


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return built(root, tmp_path_factory.mktemp("wheel"))


def built(project: Path, folder: Path) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    check(project, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def written(source: Path, package: str) -> set[str]:
    return {path.relative_to(source).as_posix() for path in (source / package).rglob("*.py")}


def test_the_wheel_has_the_runtime_and_nothing_else(root: Path, wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"sanderling"}
    assert written(root / "runtime", "sanderling") <= names
    assert "sanderling/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    unwanted = (".onnx", ".bin", ".safetensors", ".pth", ".pyc", "bundle.json")
    assert [name for name in names if name.endswith(unwanted) or "test" in name] == []


@pytest.mark.parametrize("room", ["export", "bench"])
def test_export_and_bench_are_distributions_of_their_own(room: str, root: Path, tmp_path: Path) -> None:
    wheel = built(root / room, tmp_path)
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {f"sanderling_{room}"}
    assert written(root / room, f"sanderling_{room}") <= names
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    stated = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Version: {stated['version']}" in lines
    assert f"Requires-Dist: sanderling[cli]=={stated['version']}" in lines
    assert stated["optional-dependencies"][room] == [f"sanderling-{room}=={stated['version']}"]
    (name,) = (name for name in names if name.endswith("entry_points.txt"))
    assert f"\n{room} = sanderling_{room}.commands:register" in wheel.read(name).decode()


def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.file_size for entry in wheel.infolist()) < MAX_UNPACKED_BYTES


def test_the_wheel_declares_five_dependencies_and_its_commands(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    lines = wheel.read(name).decode().splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    unconditional = {line.partition(">")[0] for line in required if "extra ==" not in line}
    assert unconditional == {"numpy", "onnxruntime", "tokenizers", "pillow", "msgspec"}
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    points = wheel.read(name).decode()
    assert "sanderling = sanderling.cli:main" in points
