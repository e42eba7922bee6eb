"""`sanderling inspect`, `verify`, `trim`, and the command line itself."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_bundles

import sanderling
from sanderling import cli

pytest.importorskip("typer")

CopyBundle = Callable[[Path], Path]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Runs the command line in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfdbinary.readouterr()
        return int(ended.value.code or 0), out.decode(), err.decode()

    return run


def test_inspect_shows_what_a_bundle_is(call: Call, embedding_bundle: Path, image_bundle: Path) -> None:
    status, out, _ = call("inspect", embedding_bundle)
    assert status == 0
    for fact in (
        "tiny-embedding",
        "feature-extraction (embedding model)",
        "at most 16 tokens, cut at the right, prompts query, passage",
        "8 numbers, pooling mean, normalized: yes",
        "made by hand",
        "apache-2.0",
        "fp32 (default)",
        "int8-dynamic",
        "not measured",
    ):
        assert fact in out, fact
    status, out, _ = call("inspect", image_bundle)
    assert status == 0
    assert "4 labels (sand, sea, sky, bird), sigmoid" in out
    assert "RGB: resize 5 8 bilinear, center_crop 5 6 floor, rescale 255.0, normalize" in out


def test_inspect_gives_the_manifest_as_json(call: Call, text_bundle: Path) -> None:
    status, out, _ = call("inspect", text_bundle, "--json")
    found = json.loads(out)
    manifest = json.loads((text_bundle / "bundle.json").read_bytes())
    assert status == 0
    assert found.pop("path") == str(text_bundle)
    assert found.pop("digest") == sanderling.open_bundle(text_bundle).digest
    assert found == manifest


def test_inspect_shows_strings_of_a_bundle_as_they_are(call: Call, copy_bundle: CopyBundle, text_bundle: Path) -> None:
    """A label or note is never a style, a link or an order to the terminal."""
    bundle = copy_bundle(text_bundle)

    def hostile(manifest: Any) -> Any:
        notes = ("see [/nowhere] and [bold]this", "clear \x1b[2J the screen")
        provenance = msgspec.structs.replace(manifest.provenance, checkpoint="a [link=x]b", notes=notes)
        head = msgspec.structs.replace(manifest.postprocessing, labels=("[/red]", "\x1b]0;title\x07", "[x]"))
        return msgspec.structs.replace(manifest, provenance=provenance, postprocessing=head)

    tiny_bundles.reseal(bundle, hostile)
    for command in (("inspect", bundle), ("run", bundle, "the sea")):
        status, out, err = call(*command)
        assert (status, err) == (0, "")
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "[/red]" in out
        assert "[x]" in out
    assert "see [/nowhere] and [bold]this" in call("inspect", bundle)[1]


def test_an_error_is_one_line_whatever_it_quotes(call: Call, copy_bundle: CopyBundle, text_bundle: Path) -> None:
    bundle = copy_bundle(text_bundle)
    path = bundle / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"logits"', rb'"a\n\u001b[2Jb"', 1))
    status, out, err = call("inspect", bundle)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert r"a\n\x1b[2Jb" in err


def test_verify_says_whether_every_variant_holds(call: Call, embedding_bundle: Path) -> None:
    status, out, err = call("verify", embedding_bundle)
    assert (status, err) == (0, "")
    assert "all files are as sealed" in out
    assert out.count(" yes ") == 2
    status, out, _ = call("verify", embedding_bundle, "--json", "--variant", "int8-dynamic", "--provider", "cpu")
    found = json.loads(out)
    assert status == 0
    assert found["held"] is True
    assert found["combinations"] == [{"variant": "int8-dynamic", "provider": "cpu", "held": True, "reason": ""}]
    assert {(check["variant"], check["provider"]) for check in found["checks"]} == {("int8-dynamic", "cpu")}
    assert len(found["checks"]) == 12


def test_verify_exits_with_1_for_an_answer_that_drifted(
    call: Call, copy_bundle: CopyBundle, embedding_bundle: Path
) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, "fp32/weights.bin")
    data = path.read_bytes()
    path.write_bytes(data[32:] + data[:32])
    tiny_bundles.reseal(bundle)
    status, out, _ = call("verify", bundle)
    assert status == 1
    assert "fp32 on cpu: plain, alone: cosine " in out
    assert "fp32 on cpu will not be used on this machine: " in out
    assert " no " in out
    status, out, _ = call("verify", bundle, "--json")
    assert status == 1
    assert json.loads(out)["held"] is False


def test_verify_of_a_damaged_bundle_is_one_line(call: Call, copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    tiny_bundles.find(bundle, "fp32/weights.bin").unlink()
    status, out, err = call("verify", bundle)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert "it is missing" in err
    assert err.count("\n") == 1


def test_trim_in_place_and_into_a_new_folder(
    call: Call, copy_bundle: CopyBundle, embedding_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(embedding_bundle)
    status, out, _ = call("trim", bundle, "--keep", "fp32", "-o", tmp_path / "new", "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["path"], found["kept"]) == (str(tmp_path / "new"), ["fp32"])
    assert found["after"] < found["before"]
    status, out, _ = call("trim", bundle, "--keep", "int8-dynamic")
    assert status == 0
    assert "kept int8-dynamic; 0.0 MB before, 0.0 MB now" in " ".join(out.split())
    assert [sanderling.verify(path).held for path in (bundle, tmp_path / "new")] == [True, True]
    assert call("trim", bundle, "--keep", "fp32")[0] == 1
    assert call("trim", bundle)[0] == 2


def test_help_names_every_command(call: Call) -> None:
    status, out, _ = call("--help")
    assert status == 0
    for command in ("run", "inspect", "verify", "trim"):
        assert command in out


class Broken:
    """An entry point of another package that fails when it is loaded, or when it registers."""

    name = "broken"

    def __init__(self, error: Exception, *, late: bool) -> None:
        self.error = error
        self.late = late

    def load(self) -> Any:
        if not self.late:
            raise self.error
        return self.register

    def register(self, app: object) -> None:
        raise self.error


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "error",
    [ImportError("no module x"), AttributeError("no register"), SyntaxError("bad"), RuntimeError("at import")],
)
def test_a_broken_plugin_takes_only_its_own_command_away(
    call: Call, monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path, error: Exception, late: bool
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Broken(error, late=late)])
    status, out, err = call("inspect", embedding_bundle)
    assert status == 0
    assert "tiny-embedding" in out
    assert err == f"note: the command 'broken' is not available: {error}\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_install_line_is_given(call: Call, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else found(name))
    status, out, err = call("--help")
    assert (status, out) == (1, "")
    assert err == (
        f"error: The command line needs the package {missing!r}, which is not installed. "
        'Install it with: pip install "sanderling[cli]"\n'
    )


def test_a_command_that_is_not_installed_says_how_it_is(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    status, out, err = call("export", "a-checkpoint", "-o", "a-bundle")
    assert (status, out) == (1, "")
    assert err == (
        "error: The command export needs the package 'sanderling-export', which is not installed. "
        'Install it with: pip install "sanderling[export]"\n'
    )
    _, _, err = call("eval", "a-bundle")
    assert "needs the package 'sanderling-bench', which is not installed" in err
    assert 'pip install "sanderling[eval]"' in err


def test_an_error_in_a_process_of_its_own_shows_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sanderling", "inspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no bundle.json, so it is no bundle" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("inspect",), ("inspect", "--drift"), ("verify",)])
def test_tables_fit_80_columns_without_cutting_a_word(
    call: Call, monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path, command: tuple[str, ...]
) -> None:
    from rich.console import Console

    narrow = lambda: Console(width=80, highlight=False, emoji=False)  # noqa: E731
    for module in ("inspect", "drift", "verify"):
        monkeypatch.setattr(f"sanderling.commands.{module}.stdout", narrow)
    status, out, _ = call(command[0], embedding_bundle, *command[1:])
    assert status == 0
    assert "int8-dynamic" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
