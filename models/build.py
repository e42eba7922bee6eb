"""Build every recipe's bundle: `make models`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parent


def main() -> None:
    failed = []
    for recipe in sorted(MODELS.glob("*.toml")):
        sys.stdout.write(f"\n$ sanderling export models/{recipe.name}\n")
        sys.stdout.flush()
        arguments = [sys.executable, "-m", "sanderling", "export", str(recipe)]
        if subprocess.run(arguments, cwd=MODELS.parent, check=False).returncode:
            failed.append(recipe.stem)
    if failed:
        raise SystemExit(f"These recipes were not built: {', '.join(failed)}")


if __name__ == "__main__":
    main()
