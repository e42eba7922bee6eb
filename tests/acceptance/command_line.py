"""Sanderling's own command line, as a user would call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def sanderling(*arguments: object, timeout: float = 900.0) -> subprocess.CompletedProcess[str]:
    """Run `sanderling` with these arguments to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=timeout,
        env=environment(),
    )


def must(*arguments: object, timeout: float = 900.0) -> str:
    """The same, and what it printed. Raises AssertionError with its last words where it failed."""
    done = sanderling(*arguments, timeout=timeout)
    if done.returncode:
        raise AssertionError(f"sanderling {' '.join(map(str, arguments))} failed: {last_line(done.stderr)}")
    return done.stdout


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sanderling", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's, without a way to the network for libraries that would ask a hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def export(checkpoint: Path, bundle: Path) -> Path:
    """Export a checkpoint and give the bundle's folder."""
    must("export", checkpoint, "-o", bundle)
    return bundle
