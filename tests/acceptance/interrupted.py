"""Issue 2: an export that is killed or cannot write leaves the old bundle or the new one, whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from checks import Context, NotCheckableError, Row, registry, true
from command_line import command, environment, export, last_line
from small_checkpoints import KINDS

from sanderling import open_bundle
from sanderling.errors import SanderlingError

KILLS = 8
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
    old = open_bundle(target).digest
    became = {"old": 0, "new": 0}
    wrong = []
    for number in range(KILLS):
        # Late moments too: most of an export is importing, and its writing comes last.
        moment = seconds * (0.3 + 0.75 * (number + 0.5) / KILLS)
        context.say(f"kill {number + 1} of {KILLS}, after {moment:.1f} of {seconds:.1f} s")
        process = subprocess.Popen(
            command("export", checkpoint, "-o", target),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        time.sleep(moment)
        process.kill()
        process.wait()
        try:
            bundle = open_bundle(target, integrity="full")
            bundle.verify_all()
            became["old" if bundle.digest == old else "new"] += 1
            old = bundle.digest
        except SanderlingError as error:
            wrong.append(f"after {moment:.1f} s: {error}"[:160])
    export(checkpoint, target)
    left = _leftovers(target)
    return [
        true(
            "exports killed: old bundle or new one, whole",
            not wrong,
            f"{KILLS - len(wrong)} of {KILLS}",
            "all",
            spread="; ".join(wrong) or f"{became['old']} old, {became['new']} new",
        ),
        true(
            "leftovers after the next export",
            not left,
            str(len(left)),
            "0",
            spread=", ".join(left) or "swept",
        ),
    ]


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
