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
class Written:
    # The header is written through a file object, which writes all it is given or fails.
    def __init__(self, file):
        self.file = file
    def write(self, data):
        if not due() or kind == "short":
            return self.file.write(data)
        self.file.write(data[: len(data) // 3])
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")
    def __enter__(self):
        return self
    def __exit__(self, *raised):
        self.file.close()
    def __getattr__(self, name):
        return getattr(self.file, name)
real_open = Path.open
def opened(self, mode="r", *arguments, **named):
    file = real_open(self, mode, *arguments, **named)
    return Written(file) if mode == "xb" and self.name.startswith(".index.json") else file
os.write, os.fsync, Path.replace, Path.open = write, sync, replace, opened
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
    begins, seconds = _pace(folder, bundle, context.folder / "whole.index")
    draw = random.Random(6)
    wrong, ended, kills, acknowledged = [], 0, 0, set[str]()
    while kills < moments and ended < 3 * moments:
        begun = time.monotonic()
        process = subprocess.Popen(
            _faulty("none", -1, folder, bundle, index),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            # From just before it opens the index: while modules are loaded there is nothing to lose.
            _, said = process.communicate(timeout=draw.uniform(0.9 * begins, seconds))
            was_killed = False
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            was_killed = True
        acknowledged |= _acknowledged(said)
        failure = _check(index, acknowledged)
        if was_killed:
            kills += 1
            if kills % 20 == 0:
                context.say(f"killed {kills} times")
        elif process.returncode == 0:
            # All is done: begin anew, so that every moment of an indexing is met.
            ended += 1
            # However busy the machine is by now: later moments than this would kill nothing.
            seconds = time.monotonic() - begun
            failure = failure or _missing(index, folder)
            _remove(index)
            acknowledged = set()
        else:
            kills, failure = moments, f"it ended with status {process.returncode}: {said[-200:]}"
        if failure:
            wrong.append(f"{kills}: {failure}")
    must("index", folder, "-m", bundle, "-o", index)
    if failure := _missing(index, folder):
        wrong.append(f"at the end: {failure}")
    return [
        true(
            "indexings killed: it opens, holds all that was acknowledged, and goes on",
            not wrong and kills == moments,
            f"{kills - len(wrong)} of {moments}",
            "all",
            spread="; ".join(wrong)[:500]
            or f"from {0.9 * begins:.1f} to {seconds:.1f} s of a run; {ended} more came to their end, and began anew",
        )
    ]


@registry.check(6, "index-write-faults")
def faults(context: Context, step: int = 1) -> list[Row]:
    folder, bundle = _files(context.folder, files=24), built("all-minilm-l6-v2")
    rows = []
    for kind in ("full", "short"):
        counted = context.folder / f"{kind}.index"
        calls = _calls(_run("none", -1, folder, bundle, counted).stderr)
        wrong, tried = [], 0
        for at in range(0, calls, step):
            index = context.folder / f"{kind}-{at}.index"
            done = _run(kind, at, folder, bundle, index)
            lines = done.stderr.splitlines()
            tried += 1
            failure = "" if kind == "short" and done.returncode == 0 else _check(index, _acknowledged(done.stderr))
            if kind == "full" and not any(line.startswith("error: ") for line in lines):
                failure = failure or f"no error was told: {lines[-3:]}"
            if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                failure = f"status {done.returncode}: {lines[-1:]}"
            must("index", folder, "-m", bundle, "-o", index)
            failure = failure or _missing(index, folder)
            _remove(index)
            if failure:
                wrong.append(f"{at}: {failure}")
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


def _pace(folder: Path, bundle: Path, index: Path) -> tuple[float, float]:
    """When an indexing that nobody kills has made its index, and when it ends, in seconds."""
    begun = time.monotonic()
    process = subprocess.Popen(
        _faulty("none", -1, folder, bundle, index),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    while not (index / layout.HEADER).exists() and process.poll() is None:
        time.sleep(0.002)
    begins = time.monotonic() - begun
    if process.wait():
        raise AssertionError(f"an indexing that nobody kills ended with status {process.returncode}")
    return begins, time.monotonic() - begun


def _faulty(kind: str, at: int, folder: Path, bundle: Path, index: Path) -> list[str]:
    indexing = ["index", str(folder), "-m", str(bundle), "-o", str(index)]
    return [sys.executable, "-c", _FAULTY, kind, str(at), *indexing]


def _run(kind: str, at: int, folder: Path, bundle: Path, index: Path) -> subprocess.CompletedProcess[str]:
    """One indexing to its end, with a fault at one call."""
    return subprocess.run(
        _faulty(kind, at, folder, bundle, index),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=environment(),
    )


def _calls(said: str) -> int:
    """How many writes, syncs and renames an indexing made."""
    return max(int(line.split()[1]) for line in said.splitlines() if line.startswith("calls "))


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


def _missing(index: Path, folder: Path) -> str:
    """What an index that should be whole lacks, or has too much."""
    with Index.open(index) as opened:
        opened.check()
        there = {str(opened.metadata(identifier)["path"]) for identifier in opened.ids()}
    apart = there ^ {path.name for path in folder.iterdir()}
    return f"it is not whole: {len(apart)} files, {', '.join(sorted(apart)[:3])}" if apart else ""


def _remove(index: Path) -> None:
    import shutil

    shutil.rmtree(index)
