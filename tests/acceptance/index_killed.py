"""Issue 6: indexing killed at 200 random moments, and each of its writes made to fail: nothing acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from checks import Context, Row, built, registry, true
from command_line import environment, must

from sanderling import Index
from sanderling.errors import SanderlingError
from sanderling.index import layout

_MOMENTS = 200
_FILES = 300

# The write, sync or rename of that number fails: a full disk in the middle of a write, a short write (which is no
# failure), a sync that fails. Tells what was acknowledged and, at its end, how many there were.
_FAULTY = """
import errno, os, sys
from pathlib import Path
kind, at, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
calls, inside = 0, os.path.abspath(arguments[arguments.index("-o") + 1])
real_write, real_sync, real_replace = os.write, os.fsync, Path.replace
def due():
    global calls
    calls += 1
    return calls - 1 == at
def write(descriptor, data):
    if not isinstance(data, memoryview) or not due():
        return real_write(descriptor, data)
    if kind == "short":
        return real_write(descriptor, data[: max(1, len(data) // 2)])
    real_write(descriptor, data[: len(data) // 3])
    raise OSError(errno.ENOSPC, "No space left on device")
def sync(descriptor):
    if due() and kind != "short":
        raise OSError(errno.EIO, "Input/output error")
    real_sync(descriptor)
def replace(self, target):
    if due() and kind != "short":
        raise OSError(errno.ENOSPC, "No space left on device")
    return real_replace(self, target)
os.write, os.fsync, Path.replace = write, sync, replace
from sanderling.index import folder, index
folder._PIECES_AT_ONCE = 8
put = index.Index.update
def update(self, ids, *arguments, **named):
    put(self, ids, *arguments, **named)
    sys.stderr.write("".join(f"acknowledged {i}\\n" for i in ids))
    sys.stderr.flush()
index.Index.update = update
sys.argv = ["sanderling", *arguments]
from sanderling.cli import main
try:
    main()
finally:
    sys.stderr.write(f"calls {calls}\\n")
"""


@registry.check(6, "index-killed")
def killed(context: Context, moments: int = _MOMENTS) -> list[Row]:
    folder, bundle, index = _files(context.folder), built("all-minilm-l6-v2"), context.folder / "files.index"
    begun = time.monotonic()
    must("index", folder, "-m", bundle, "-o", context.folder / "whole.index")
    seconds = time.monotonic() - begun
    draw = random.Random(6)
    wrong, resumed, acknowledged = [], 0, set[str]()
    for moment in range(moments):
        if moment % 20 == 0:
            context.say(f"killed {moment} times")
        process = subprocess.Popen(
            [sys.executable, "-c", _FAULTY, "none", "-1", "index", str(folder), "-m", str(bundle), "-o", str(index)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            _, said = process.communicate(timeout=draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
        acknowledged |= _acknowledged(said)
        failure = _check(index, acknowledged)
        if failure:
            wrong.append(f"{moment}: {failure}")
        if len(acknowledged) > 0 and process.returncode == 0:
            # All is done: begin anew, so that every moment of an indexing is met.
            resumed += 1
            _remove(index)
            acknowledged = set()
    return [
        true(
            "indexings killed: it opens, holds all that was acknowledged, and goes on",
            not wrong and moments > 0,
            f"{moments - len(wrong)} of {moments}",
            "all",
            spread="; ".join(wrong)[:500] or f"{resumed} came to their end and began anew",
        )
    ]


@registry.check(6, "index-write-faults")
def faults(context: Context, step: int = 1) -> list[Row]:
    folder, bundle = _files(context.folder, files=24), built("all-minilm-l6-v2")
    rows = []
    for kind in ("full", "short"):
        wrong, tried, at, calls = [], 0, 0, 1
        while at < calls:
            index = context.folder / f"{kind}-{at}.index"
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    _FAULTY,
                    kind,
                    str(at),
                    "index",
                    str(folder),
                    "-m",
                    str(bundle),
                    "-o",
                    str(index),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
                env=environment(),
            )
            lines = done.stderr.splitlines()
            calls = max(calls, *(int(line.split()[1]) for line in lines if line.startswith("calls ")))
            tried += 1
            failure = "" if kind == "short" and done.returncode == 0 else _check(index, _acknowledged(done.stderr))
            if kind == "full" and not any(line.startswith("error: ") for line in lines):
                failure = failure or f"no error was told: {lines[-3:]}"
            if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                failure = f"status {done.returncode}: {lines[-1:]}"
            must("index", folder, "-m", bundle, "-o", index)
            with Index.open(index) as opened:
                opened.check()
                if {str(opened.metadata(i)["path"]) for i in opened.ids()} != {path.name for path in folder.iterdir()}:
                    failure = failure or "it was not whole after it was resumed"
            _remove(index)
            if failure:
                wrong.append(f"{at}: {failure}")
            at += step
            if at % 20 == 0:
                context.say(f"{kind}: {at} of {calls}")
        what = "a full disk or a failing sync" if kind == "full" else "a short write"
        rows.append(
            true(
                f"{what} at each write in turn: nothing acknowledged is lost, the next run goes on",
                not wrong and tried > 1,
                f"{tried - len(wrong)} of {tried}",
                "all",
                spread="; ".join(wrong)[:500],
            )
        )
    return rows


def _files(folder: Path, files: int = _FILES) -> Path:
    import texts

    sentences = texts.sentences()
    made = folder / "files"
    made.mkdir()
    for number in range(files):
        (made / f"{number}.txt").write_text("\n".join(sentences[number * 4 : number * 4 + 4]), encoding="utf-8")
    return made


def _acknowledged(said: str) -> set[str]:
    """The ids told as acknowledged; a last line may be cut through by the kill."""
    lines = said.split("\n")[:-1]
    return {line.removeprefix("acknowledged ") for line in lines if line.startswith("acknowledged ")}


def _check(index: Path, acknowledged: set[str]) -> str:
    """What is wrong with the index, if anything is."""
    if not (index / layout.HEADER).exists():
        return f"{len(acknowledged)} acknowledged items are gone with the index" if acknowledged else ""
    try:
        with Index.open(index) as opened:
            opened.check()
            missing = acknowledged - set(opened.ids())
    except SanderlingError as error:
        return str(error)[:200]
    return f"{len(missing)} acknowledged items are missing" if missing else ""


def _remove(index: Path) -> None:
    import shutil

    shutil.rmtree(index)
