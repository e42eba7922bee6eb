"""Freedom from torch, and lightness: by a scan of the source, and by what a process has really loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_bundles

DEPENDENCIES = {"numpy", "onnxruntime", "tokenizers", "PIL", "msgspec"}
# Of the extras `audio`, `pdf`, `search` and `tts`: each used by one file, which says what to install where it is
# missing.
EXTRAS = {
    "preprocess/audio.py": {"soundfile", "soxr"},
    "index/reading.py": {"pypdf"},
    "index/approximate.py": {"usearch"},
    "voices/phonemizer.py": {"piper"},
    "video.py": {"av"},
}
COMMAND_LINE = {"typer", "rich"}
# The libraries that an adapter is for: each imported by its one file alone.
ADAPTED = {
    "integrations/langchain.py": {"langchain_core"},
    "integrations/llamaindex.py": {"llama_index"},
    "integrations/chroma.py": {"chromadb"},
    "integrations/ray.py": {"ray"},
    "integrations/parquet.py": {"pyarrow"},
}
TRAINING = {"torch", "transformers", "onnx", "optimum", "sentence_transformers", "safetensors", "scipy", "sklearn"}

LOAD_AND_CALL = """
import sys
import sanderling
with sanderling.load(sys.argv[1]) as model:
    inputs = sys.argv[2] if model.modality == "image" else ["the sea", "a bird"]
    answer = model(inputs)
"""


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The first part of each module that a file imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield (node.module or "").partition(".")[0], node.lineno


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules that a new process has after running `code`."""
    code += "\nimport json; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"import sys\n{code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_the_runtime_imports_the_standard_library_and_five_packages(root: Path) -> None:
    files = sorted((root / "runtime" / "sanderling").rglob("*.py"))
    assert len(files) > 25
    for path in files:
        name = path.relative_to(root / "runtime" / "sanderling").as_posix()
        allowed = sys.stdlib_module_names | DEPENDENCIES | {"sanderling"}
        allowed |= EXTRAS.get(name, set())
        if name == "cli.py" or name.startswith("commands/"):
            allowed |= COMMAND_LINE
        allowed |= ADAPTED.get(name, set())
        assert [(module, line) for module, line in imported(path) if module not in allowed] == [], name


def test_one_seam_around_onnx_runtime(root: Path) -> None:
    folder = root / "runtime" / "sanderling"
    users = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if any(module == "onnxruntime" for module, _ in imported(path))
    }
    assert users == {"session.py", "single_node.py", "providers.py"}


def test_the_dependencies_are_these_five(root: Path) -> None:
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    names = {line.partition(">")[0] for line in project["dependencies"]}
    assert names == {"pillow" if name == "PIL" else name for name in DEPENDENCIES}


def test_importing_is_light() -> None:
    found = loaded("import sanderling\nassert sanderling.__version__")
    assert "sanderling" in found
    assert found & (DEPENDENCIES | COMMAND_LINE | TRAINING | {"logging", "asyncio"}) == set()


@pytest.mark.parametrize("name", ["embedding_bundle", "text_bundle"])
def test_a_text_model_loads_neither_torch_nor_pillow(request: pytest.FixtureRequest, name: str) -> None:
    found = loaded(LOAD_AND_CALL, str(request.getfixturevalue(name)))
    assert {"numpy", "onnxruntime", "tokenizers", "msgspec"} <= found
    assert found & (TRAINING | COMMAND_LINE | {"PIL"}) == set()


def test_an_image_model_loads_neither_torch_nor_tokenizers(image_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(tiny_bundles.png(tiny_bundles.PICTURE))
    found = loaded(LOAD_AND_CALL, str(image_bundle), str(tmp_path / "picture.png"))
    assert {"numpy", "onnxruntime", "PIL", "msgspec"} <= found
    assert found & (TRAINING | COMMAND_LINE | {"tokenizers"}) == set()


def test_the_command_line_loads_no_training_stack_to_answer(embedding_bundle: Path) -> None:
    code = (
        "import sanderling.cli\nsys.argv = ['sanderling', 'run', sys.argv[1], 'the sea', '--json']\n"
        "try:\n    sanderling.cli.main()\nexcept SystemExit as ended:\n    assert not ended.code\nsys.stdout.write('')"
    )
    command = [
        sys.executable,
        "-c",
        f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))",
        str(embedding_bundle),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in found
    assert found & TRAINING == set()
