"""The docs say what is there: every command and option, every field, and examples that run."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import wave
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_films

from sanderling import codec, manifest
from sanderling.cli import build_app
from sanderling.golden import GoldenSample

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FORMAT = ROOT / "docs" / "bundle-format.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Adapters that an example may import, by the libraries that they are for.
_ADAPTED = re.compile(r"^from sanderling\.integrations\.(\w+) import", re.MULTILINE)
_LIBRARIES = {"ray": "ray", "langchain": "langchain_core", "llamaindex": "llama_index", "chroma": "chromadb"}
_BUNDLE = re.compile(r"models/bundles/([\w.-]+)")


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """The line and text of each code block of a language."""
    text = path.read_text("utf-8")
    return [(text[: m.start(2)].count("\n"), m[2]) for m in _BLOCK.finditer(text) if m[1] == language]


def commands() -> dict[str, Any]:
    """Every command of the command line, with those of the other rooms."""
    typer_main = pytest.importorskip("typer.main")
    group = typer_main.get_command(build_app())
    return dict(group.commands)


def test_every_command_is_documented_with_its_options() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = commands()
    assert {"run", "inspect", "verify", "trim"} <= set(found)
    missing = []
    for name, command in found.items():
        section = sections.get(name)
        if section is None:
            missing.append(f"sanderling {name}")
            continue
        options = [max(p.opts, key=len) for p in command.params if p.param_type_name == "option"]
        missing += [
            f"sanderling {name} {option}"
            for option in options
            if option != "--help" and not re.search(rf"{option}(?![\w-])", section)
        ]
    assert missing == []


def test_no_command_is_documented_that_is_not_there() -> None:
    known = set(commands())
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        named = set(re.findall(r"(?:^|`|\$ )sanderling ([a-z]+)(?=[\s`])", text, re.MULTILINE))
        assert named <= known, path.name


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        prose = re.sub(r"^```.*?^```$|`[^`\n]+`", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
            assert "://" in target or (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_field_of_the_manifest_is_specified() -> None:
    text = FORMAT.read_text("utf-8")
    structs = [
        value
        for name, value in vars(manifest).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and not name.startswith("_")
        and value is not msgspec.Struct
    ]  # fmt: skip
    assert len(structs) > 20
    fields = {field.encode_name for struct in (*structs, GoldenSample) for field in msgspec.structs.fields(struct)}
    fields |= {str(struct.__struct_config__.tag) for struct in structs if struct.__struct_config__.tag}
    assert [name for name in sorted(fields) if not re.search(rf"[`\"]{name}[`\"]", text)] == []


def test_every_choice_of_a_field_is_specified() -> None:
    text = FORMAT.read_text("utf-8")
    schema = json.dumps(msgspec.json.schema(manifest.Manifest))
    choices = {word for found in re.findall(r'"enum": (\[.*?\])', schema) for word in json.loads(found)}
    assert {"float32", "bilinear", "weighted_mean", "half_even", "sigmoid", "BGR"} <= choices
    assert [word for word in sorted(choices) if not re.search(rf"\b{word}\b", text)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_json_examples_decode(path: Path) -> None:
    for line, text in blocks(path, "json"):
        value = json.loads(text)
        if isinstance(value, dict) and value.get("format") == manifest.FORMAT:
            read = codec.decode(text.encode(), f"{path.name}:{line}")
            assert not lost(value, json.loads(codec.encode(read)))
        elif path == FORMAT:
            assert msgspec.json.decode(text, type=tuple[GoldenSample, ...])


def lost(example: Any, read: Any, where: str = "") -> list[str]:
    """What stands in an example and was not read from it: a field that is none."""
    if isinstance(example, dict):
        return [found for key in example for found in lost(example[key], read.get(key), f"{where}.{key}")]
    return [] if example == read else [where]


def test_the_format_has_an_example_of_each_file() -> None:
    kinds = {type(json.loads(text)) for _, text in blocks(FORMAT, "json")}
    assert kinds == {dict, list}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path, "python")], ids=lambda path: path.name)
def test_python_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, in a folder where the built bundles are, and the files that they speak of."""
    monkeypatch.chdir(tmp_path)
    write_samples(path.read_text("utf-8"), tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    skipped = []
    for line, code in blocks(path, "python"):
        compiled = compile("\n" * line + code, str(path), "exec")
        missing = [name for name in _BUNDLE.findall(code) if not provided(name, tmp_path)]
        if missing:
            skipped.append(f"line {line}: models/bundles/{missing[0]} is not built (make models)")
            continue
        if absent := [
            name
            for name in _ADAPTED.findall(code)
            if importlib.util.find_spec(_LIBRARIES.get(name, "sanderling")) is None
        ]:
            skipped.append(f"line {line}: the extra [{absent[0]}] is not installed")
            continue
        if '"clip.mp4"' in code and not (tmp_path / "clip.mp4").exists():
            skipped.append(f"line {line}: the extra [video] is not installed")
            continue
        exec(compiled, namespace)
    if skipped:
        pytest.skip("; ".join(skipped))


def write_samples(text: str, folder: Path) -> None:
    """The files of these names that examples read: a picture, a second of sound, a second of film."""
    if '"picture.png"' in text:
        shutil.copy(ROOT / "models" / "world" / "samples" / "00.png", folder / "picture.png")
    if '"talk.wav"' in text:
        with wave.open(str(folder / "talk.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(b"\0\x10\0\xf0" * 8000)
    if '"clip.mp4"' in text and importlib.util.find_spec("av") is not None:
        tiny_films.write(folder / "clip.mp4", [tiny_films.plain(tiny_films.RED)] * 8)


def provided(name: str, folder: Path) -> bool:
    """Whether the repository has this bundle built; then `folder` has it under the same path."""
    source, target = ROOT / "models" / "bundles" / name, folder / "models" / "bundles" / name
    if not (source / "bundle.json").is_file():
        return False
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source, target_is_directory=True)
        except OSError:  # a system that gives links to some users only
            shutil.copytree(source, target)
    return True
