"""Issue 2: dependencies point inward, and the contracts that hold them there are kept."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from checks import ROOT, Context, Row, registry, true


@registry.check(2, "import-contracts")
def import_contracts(_: Context) -> list[Row]:
    command = Path(sys.executable).with_name("lint-imports" + (".exe" if sys.platform == "win32" else ""))
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    found = re.search(r"Contracts: (\d+) kept, (\d+) broken", done.stdout)
    if found is None:
        raise AssertionError(f"lint-imports gave no count: {(done.stdout + done.stderr).strip()[-300:]}")
    kept, broken = map(int, found.groups())
    held = done.returncode == 0 and broken == 0 and kept > 0
    return [true("contracts on imports", held, f"{kept} kept", "none broken", spread=f"{broken} broken")]
