"""The command line where its standard streams are closed or full, and where it is interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sanderling import cli

pytest.importorskip("typer")


def test_an_interruption_before_a_command_begins_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors before a program starts")
@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_stream_is_an_empty_one(text_bundle: Path, closed: int) -> None:
    program = (
        f"import os, sys; os.close({closed}); "
        f"os.execv(sys.executable, [sys.executable, '-m', 'sanderling', 'run', {str(text_bundle)!r}, 'the sea'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert (b"the sea" in done.stdout) == (closed != 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_an_output_that_cannot_be_written_is_one_line(text_bundle: Path, option: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "sanderling", "run", str(text_bundle), "the sea", *option]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "error: Standard output could not be written: No space left on device. Free some space, or send it elsewhere.\n"
    )
