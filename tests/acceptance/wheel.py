"""What users install: the wheel alone with its five dependencies, in a new environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from checks import ROOT, Context


def environment(context: Context, *, compiled: bool) -> str:
    """Build the wheel, install it into a new environment under the check's folder, and give its interpreter.

    `compiled`: with byte code, as pip does unless told otherwise.
    """
    context.say("the wheel is built")
    # Isolated from this environment's packages, as pip builds it for a user.
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(context.folder), str(ROOT))
    wheel = next(context.folder.glob("sanderling-*.whl"))
    folder = context.folder / "environment"
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    context.say("and installed with its five dependencies in a new environment")
    run(python, "-m", "pip", "install", "--quiet", "--compile" if compiled else "--no-compile", str(wheel))
    return python


def run(*command: str, cwd: Path | None = None) -> str:
    """Standard output of a command that sees no PYTHON* variables of this process."""
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=cwd, env=quiet, timeout=1800
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
