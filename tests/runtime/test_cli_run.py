"""`sanderling run`: texts, files, folders and standard input to answers, in input order, failing one by one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny_bundles

from sanderling import cli

pytest.importorskip("typer")


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


class Pipe(io.TextIOWrapper):
    """A stream of bytes below a text, as a pipe is."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", newline="")

    def written(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process."""

    def call(*arguments: object, stdin: bytes = b"") -> Done:
        out, err = Pipe(), Pipe()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
            patch.setattr(sys, "stdin", Pipe(stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return Done(int(ended.value.code or 0), out.written(), err.written())

    return call


def assert_embedding(record: dict[str, Any], text: str) -> None:
    np.testing.assert_allclose(record["embedding"], tiny_bundles.reference_embedding(text), atol=1e-6)


def test_texts_give_one_line_each_in_their_order(run: Run, embedding_bundle: Path) -> None:
    texts = ["the sea", "word " * 40, "", "a small bird", "\N{SNOWMAN}"]
    done = run("run", embedding_bundle, *texts, "--json")
    assert done.status == 0
    assert [line["input"] for line in done.lines] == texts
    for line, text in zip(done.lines, texts, strict=True):
        assert_embedding(line, text)
    lost = [None, {"tokens_lost": 26}, None, None, {"tokens_unknown": 1}]
    assert [line.get("lost") for line in done.lines] == lost


def test_labels_come_with_scores(run: Run, text_bundle: Path) -> None:
    (line,) = run("run", text_bundle, "the sea", "--json", "--top-k", 2).lines
    logits = tiny_bundles.reference_logits("the sea").astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-expected)[:2]
    assert sorted(line) == ["input", "labels", "scores"]
    assert line["labels"] == [tiny_bundles.LABELS[i] for i in best]
    np.testing.assert_allclose(line["scores"], expected[best], rtol=1e-5)


def test_files_folders_and_standard_input(run: Run, embedding_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "one.txt").write_bytes(b"\xef\xbb\xbfthe sea\n")
    (tmp_path / "folder" / "b.md").write_text("bird", "utf-8")
    (tmp_path / "folder" / "a.txt").write_text("edge", "utf-8")
    (tmp_path / "folder" / "deep" / "c.TXT").write_text("runs", "utf-8")
    (tmp_path / "folder" / ".hidden.txt").write_text("never", "utf-8")
    (tmp_path / "folder" / "picture.png").write_bytes(b"never")
    done = run(
        "run", embedding_bundle, tmp_path / "one.txt", "-", tmp_path / "folder", "word", "--json",
        stdin="first line\r\nz\u00fcrich\n\nlast".encode(),
    )  # fmt: skip
    assert done.status == 0
    folder = tmp_path / "folder"
    expected = [
        (str(tmp_path / "one.txt"), "the sea\n"),
        ("first line", "first line"),
        ("z\u00fcrich", "z\u00fcrich"),
        ("", ""),
        ("last", "last"),
        (str(folder / "a.txt"), "edge"),
        (str(folder / "b.md"), "bird"),
        (str(folder / "deep" / "c.TXT"), "runs"),
        ("word", "word"),
    ]
    assert [line["input"] for line in done.lines] == [name for name, _ in expected]
    for line, (_, text) in zip(done.lines, expected, strict=True):
        assert_embedding(line, text)


def test_an_input_that_fails_has_its_error_in_its_place(run: Run, embedding_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty").mkdir()
    done = run(
        "run", embedding_bundle, "good", tmp_path / "latin.txt", "-", tmp_path / "empty", "lone \udce9", "also good",
        "--json", stdin=b"fine\nz\xfcrich\nfine too\n",
    )  # fmt: skip
    assert done.status == 1
    assert done.err == ""
    found = [(line["input"], line.get("error")) for line in done.lines]
    assert [error is None for _, error in found] == [True, False, True, False, True, False, False, True]
    assert found[1][1] == "This file is no valid UTF-8 (byte 3); convert it first."
    assert found[3] == ("z\ufffdrich", "This line is no valid UTF-8; convert it first.")
    assert found[5][1].startswith("No text files (")
    assert found[6][0] == "lone \ufffd"
    assert "holds a lone surrogate, U+DCE9, at position 5" in found[6][1]
    for line in done.lines:
        assert sorted(line) == (["error", "input"] if "error" in line else ["embedding", "input"])
    assert_embedding(done.lines[-1], "also good")


def test_many_lines_with_failures_between_stay_in_order(run: Run, text_bundle: Path) -> None:
    lines = [b"\xff" if i % 50 == 7 else b"word " * (i % 9) for i in range(200)]
    done = run("run", text_bundle, "-", "--json", "--top-k", 1, stdin=b"\n".join(lines) + b"\n")
    assert done.status == 1
    assert len(done.lines) == 200
    for index, (line, found) in enumerate(zip(lines, done.lines, strict=True)):
        assert ("error" in found) == (index % 50 == 7)
        if "error" not in found:
            assert found["input"] == line.decode()
            assert found["labels"] == [tiny_bundles.LABELS[tiny_bundles.reference_logits(line.decode()).argmax()]]


def test_images_by_file_folder_and_option(run: Run, image_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    picture = tmp_path / "album" / "a.png"
    picture.write_bytes(tiny_bundles.png(tiny_bundles.PICTURE))
    (tmp_path / "album" / "b.JPG").write_bytes(b"no picture")
    (tmp_path / "album" / "notes.txt").write_bytes(b"never")
    missing = tmp_path / "missing.png"
    done = run("run", image_bundle, missing, tmp_path / "album", "--image", picture, "--json")
    assert done.status == 1
    option, gone, first, second = done.lines
    assert option["input"] == first["input"] == str(picture)
    best = tiny_bundles.IMAGE_LABELS[int(tiny_bundles.reference_image_logits(tiny_bundles.PICTURE).argmax())]
    assert option["labels"][0] == first["labels"][0] == best
    assert first["lost"] == {"cropped": 0.25}
    assert gone == {
        "input": str(missing),
        "error": f"{missing} does not exist; an image file was expected. Check the path.",
    }
    assert second["input"] == str(tmp_path / "album" / "b.JPG")
    assert "is no image that can be read" in second["error"]


def test_a_text_is_taken_literally_where_a_file_has_its_name(
    run: Run, embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sea").write_text("bird", "utf-8")
    literal, file = run("run", embedding_bundle, "--text", "sea", "sea", "--json").lines
    assert_embedding(literal, "sea")
    assert_embedding(file, "bird")


def test_an_empty_argument_is_an_empty_text(run: Run, embedding_bundle: Path) -> None:
    for arguments in (("",), ("--text", "")):
        (line,) = run("run", embedding_bundle, *arguments, "--json").lines
        assert line["input"] == ""
        assert_embedding(line, "")


def test_a_text_that_cannot_be_a_path_is_a_text(run: Run, embedding_bundle: Path) -> None:
    for text in ("word " * 2000, "a\0b"):
        (line,) = run("run", embedding_bundle, text, "--json").lines
        assert_embedding(line, text)


def test_prompts_variants_and_threads_are_passed_on(run: Run, embedding_bundle: Path) -> None:
    (line,) = run("run", embedding_bundle, "sea", "--prompt", "query", "--json").lines
    assert_embedding(line, "query: sea")
    done = run("run", embedding_bundle, "sea", "--variant", "int8-dynamic", "--threads", 1)
    assert done.status == 0
    assert done.out.splitlines()[0] == "tiny-embedding int8-dynamic on cpu, 1 thread"


def test_an_unknown_prompt_is_said_once(run: Run, embedding_bundle: Path) -> None:
    done = run("run", embedding_bundle, "sea", "bird", "edge", "--prompt", "poem", "--json")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: This model has no prompt named 'poem'; it has 'query', 'passage'.\n"


def test_people_get_a_few_lines_an_input(run: Run, text_bundle: Path, embedding_bundle: Path) -> None:
    done = run("run", text_bundle, "the sea", "", "[red]x[/red] " * 20, "lone \udce9", "--top-k", 1)
    assert done.status == 1
    lines = done.out.splitlines()
    assert "the sea" in lines
    assert "(empty)" in lines
    assert any(line.startswith("[red]x[/red] [red]x[/red]") and line.endswith("…") for line in lines)
    assert "  99 tokens cut" not in done.out
    assert any("tokens cut" in line for line in lines)
    assert done.err == "1 input(s) failed.\n"
    assert "8 numbers: " in run("run", embedding_bundle, "sea").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Nothing to answer: give a text, a file, a folder, or - after the bundle."),
        (("x", "--variant", "int4"), "has no variant 'int4'; it has fp32."),
        (("x", "--provider", "gpu"), "There is no provider 'gpu'; known are cpu, "),
        (("x", "--threads", "0"), "threads is 0; a whole number from 1 to 1024 was expected."),
        (("--image", "x.png"), "--image was given, but tiny-sentiment takes one text an input."),
        (("x", "--prompt", "query"), "--prompt goes with embedding models; tiny-sentiment is for text-classification."),
    ],
)
def test_what_fails_as_a_whole_is_one_line_on_standard_error(
    run: Run, text_bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run("run", text_bundle, *arguments, "--json")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_no_bundle_and_no_such_option(run: Run, tmp_path: Path) -> None:
    done = run("run", tmp_path / "nowhere", "text")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"error: {tmp_path / 'nowhere'} does not exist; a bundle is a folder with a bundle.json in it.\n"
    )
    done = run("run", tmp_path, "--colour")
    assert done.status == 2
    assert "--colour" in done.err
    assert "Traceback" not in done.err


def test_in_a_process_of_its_own(embedding_bundle: Path) -> None:
    command = [sys.executable, "-m", "sanderling", "run", str(embedding_bundle), "-", "--json"]
    done = subprocess.run(
        command, input="z\u00fcrich \N{SNOWMAN}\n".encode() + b"\xff\n", capture_output=True, check=False, timeout=120
    )
    first, second = (json.loads(line) for line in done.stdout.decode().splitlines())
    assert done.returncode == 1
    assert first["input"] == "z\u00fcrich \N{SNOWMAN}"
    assert second["error"] == "This line is no valid UTF-8; convert it first."
    assert b"Traceback" not in done.stderr


def test_a_console_that_cannot_show_a_character_gets_an_escape(text_bundle: Path) -> None:
    command = [sys.executable, "-m", "sanderling", "run", str(text_bundle), "\N{SNOWMAN}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert rb"\u2603" in done.stdout


def test_the_mark_before_utf8_is_no_part_of_the_first_line(run: Run, embedding_bundle: Path) -> None:
    done = run("run", embedding_bundle, "-", "--json", stdin=b"\xef\xbb\xbfthe sea\n\xef\xbb\xbfthe sea\n")
    assert [line["input"] for line in done.lines] == ["the sea", "\ufeffthe sea"]
    assert_embedding(done.lines[0], "the sea")


def test_a_standard_input_without_lines_is_said_to_be_empty(run: Run, embedding_bundle: Path) -> None:
    done = run("run", embedding_bundle, "-", "--json")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: Nothing to answer: standard input is empty; one input a line was expected.\n"


def test_a_text_that_looks_like_a_missing_file_is_answered_with_a_note(run: Run, embedding_bundle: Path) -> None:
    done = run("run", embedding_bundle, "notes.txt", "see notes.txt", "--json")
    assert done.status == 0
    assert_embedding(done.lines[0], "notes.txt")
    assert done.err == "note: notes.txt is no file here; it is answered as a text.\n"
    assert run("run", embedding_bundle, "--text", "notes.txt").err == ""


def test_an_empty_path_of_an_image_is_said_to_be_empty(run: Run, image_bundle: Path) -> None:
    (line,) = run("run", image_bundle, "", "--json").lines
    assert line["error"] == "The path is empty; the path of an image file was expected. Leave it out."


def test_names_between_colons_are_no_emoji_and_long_lines_stay_whole_in_a_pipe(
    run: Run, image_bundle: Path, text_bundle: Path
) -> None:
    missing = f"{'long/' * 35}:x:.png"
    lines = run("run", image_bundle, missing).out.splitlines()
    assert lines[2].startswith(f"  {missing} does not exist")
    assert lines[2].endswith("an image file was expected. Check the path.")
    assert "a :smile:" in run("run", text_bundle, "a :smile:").out.splitlines()


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(
    run: Run, embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder" / "closed").mkdir(parents=True)
    (tmp_path / "folder" / "a.txt").write_text("the sea", "utf-8")
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = run("run", embedding_bundle, tmp_path / "folder", "--json")
    assert done.status == 1
    closed, text = done.lines
    assert closed == {
        "input": str(tmp_path / "folder" / "closed"),
        "error": "This folder cannot be read: Permission denied.",
    }
    assert_embedding(text, "the sea")


def test_trim_names_a_folder_as_it_is(run: Run, embedding_bundle: Path, tmp_path: Path) -> None:
    done = run("trim", embedding_bundle, "--keep", "fp32", "-o", tmp_path / "[red]new")
    assert done.status == 0
    assert done.out.startswith(f"{tmp_path / '[red]new'}: kept fp32; ")
