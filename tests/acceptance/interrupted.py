"""Issue 2: an export that is killed or cannot write leaves the old bundle or the new one, whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from checks import Context, NotCheckableError, Row, registry, true
from command_line import command, environment, export, last_line
from small_checkpoints import KINDS

from sanderling import open_bundle
from sanderling.errors import SanderlingError

_LIMITED = """
import resource, runpy, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["sanderling", *sys.argv[2:]]
runpy.run_module("sanderling", run_name="__main__")
"""


@registry.check(2, "killed-exports")
def killed(context: Context) -> list[Row]:
    checkpoint, target, seconds = _prepared(context)
    became = {"old": 0, "new": 0}
    wrong = []
    for name, reached in _moments(seconds).items():
        context.say(f"killed {name}")
        old = open_bundle(target).digest
        watch = Watch(target)
        process = subprocess.Popen(
            command("export", checkpoint, "-o", target),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        while process.poll() is None and not reached(watch):
            time.sleep(0.0005)
        process.kill()
        process.wait()
        try:
            bundle = open_bundle(target, integrity="full")
            bundle.verify_all()
            became["old" if bundle.digest == old else "new"] += 1
        except SanderlingError as error:
            wrong.append(f"{name}: {error}"[:160])
    export(checkpoint, target)
    left = _leftovers(target)
    tried = became["old"] + became["new"] + len(wrong)
    return [
        true(
            "exports killed: old bundle or new one, whole",
            not wrong,
            f"{tried - len(wrong)} of {tried}",
            "all",
            spread="; ".join(wrong) or f"{became['old']} old, {became['new']} new",
        ),
        true("leftovers after the next export", not left, str(len(left)), "0", spread=", ".join(left) or "swept"),
    ]


class Watch:
    """What can be seen of one export's writing from outside, beside what was there before it began."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._staged_before = self._staging()
        self._builds_before = self._builds()
        self._written_before = self._written()
        self._begin = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def staged(self) -> int:
        """Files and folders in the export's own staging folder."""
        return sum(len(_names_below(folder)) for folder in self._staging() - self._staged_before)

    def moved_in(self) -> bool:
        return bool(self._builds() - self._builds_before)

    def committed(self) -> bool:
        return self._written() != self._written_before

    def _staging(self) -> set[Path]:
        return set(self._target.parent.glob(f".{self._target.name}.staging-*"))

    def _builds(self) -> set[Path]:
        return {path for path in self._target.iterdir() if path.is_dir()}

    def _written(self) -> int:
        return (self._target / "bundle.json").stat().st_ino


def _names_below(folder: Path) -> list[str]:
    # os.walk passes over what vanishes while it looks.
    return [name for _, folders, files in os.walk(folder) for name in (*folders, *files)]


def _moments(seconds: float) -> dict[str, Callable[[Watch], bool]]:
    """When to kill an export: at fixed times, and at what is seen of its writing."""
    found: dict[str, Callable[[Watch], bool]] = {}
    for share in (0.3, 0.6, 0.85):
        found[f"after {share:.0%} of its time"] = partial(_at, share * seconds)
    for count in (1, 3, 5, 7, 9):
        found[f"with {count} things staged"] = partial(_with_staged, count)
    found["with its files moved in"] = Watch.moved_in
    found["with its manifest replaced"] = Watch.committed
    return found


def _at(moment: float, watch: Watch) -> bool:
    return watch.seconds() >= moment


def _with_staged(count: int, watch: Watch) -> bool:
    return watch.staged() >= count


@registry.check(2, "exports-that-cannot-write")
def cannot_write(context: Context) -> list[Row]:
    if sys.platform == "win32":
        raise NotCheckableError("Windows has no limit on the size of a file that would cut a write short.")
    checkpoint, target, _ = _prepared(context)
    sizes = sorted(path.stat().st_size for path in target.rglob("*") if path.is_file())
    digest = open_bundle(target).digest
    limits = (0, sizes[len(sizes) // 2], sizes[-1] // 2, sizes[-1] - 1)
    wrong = []
    for limit in limits:
        context.say(f"no file beyond {limit:,} bytes")
        done = subprocess.run(
            [sys.executable, "-c", _LIMITED, str(limit), "export", str(checkpoint), "-o", str(target)],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=environment(),
        )
        message = last_line(done.stderr)
        bundle = open_bundle(target, integrity="full")
        bundle.verify_all()
        left = _leftovers(target)
        if done.returncode == 0 or not message.startswith("error: ") or bundle.digest != digest or left:
            wrong.append(f"limit {limit:,}: status {done.returncode}, {message[:100]}, left {len(left)}")
    return [
        true(
            "exports cut short while writing: typed error, old bundle whole, nothing left",
            not wrong,
            f"{len(limits) - len(wrong)} of {len(limits)}",
            "all",
            spread="; ".join(wrong) or f"files of at most {', '.join(f'{limit:,}' for limit in limits)} bytes",
        )
    ]


def _prepared(context: Context) -> tuple[Path, Path, float]:
    """A checkpoint, its bundle, and the seconds that exporting it takes once files are cached."""
    checkpoint, target = context.folder / "checkpoint", context.folder / "bundles" / "bundle"
    KINDS[0].make(checkpoint)
    export(checkpoint, target)
    shutil.rmtree(target)
    begin = time.monotonic()
    export(checkpoint, target)
    return checkpoint, target, time.monotonic() - begin


def _leftovers(target: Path) -> list[str]:
    """What stands beside the bundle, or in it without being listed."""
    listed = {*open_bundle(target).manifest.files, "bundle.json"}
    inside = [p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()]
    beside = [path.name for path in target.parent.iterdir() if path != target]
    return beside + [name for name in inside if name not in listed]
