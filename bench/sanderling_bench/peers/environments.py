"""The peers' virtual environments and models, made once and kept: a run that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from sanderling.errors import BenchError
from sanderling.storage import write_atomic
from sanderling_bench.peers.catalogue import Catalogue, Contestant

Say = Callable[[str], None]

BUILDER = "builder"
OURS = "sanderling"
_CONVERT = Path(__file__).with_name("convert.py")
_INSTALL_SECONDS = 3600
_CONVERT_SECONDS = 1800
# No library may look for a model on a network: what it needs is in the folder.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


class UnavailableError(BenchError):
    """This peer cannot take part on this machine; the message says why, for the table."""


class _Made(Struct, frozen=True):
    """What stands beside a finished environment: what was asked for, and every version that came."""

    asked: str
    versions: dict[str, str]


class Environments:
    """Environments and models, in folders of these names under `folder`. `run` runs a command, or is a fake."""

    def __init__(self, folder: Path, catalogue: Catalogue, say: Say, run: Callable[..., None] | None = None) -> None:
        self.folder = folder
        self._catalogue = catalogue
        self._say = say
        self._run = run or _run
        self._failed: dict[str, str] = {}

    @property
    def models(self) -> Path:
        """The folder of the converted models."""
        return self.folder / "models"

    def ready(self, contestant: Contestant) -> None:
        """Make what a contestant needs. Raises UnavailableError: it could not be installed, or its model not made."""
        self.environment(contestant.environment)
        for kind in contestant.models:
            self.model(kind)

    def python(self, name: str) -> Path:
        """The interpreter of an environment."""
        if name == OURS:
            return Path(sys.executable)
        home = self.folder / "environments" / name
        return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def versions(self, name: str) -> dict[str, str]:
        """What is installed in an environment that was made: package to version."""
        return _read(self._marker(name)).versions

    def environment(self, name: str) -> None:
        """Make an environment, unless it stands with the same requirements."""
        if name == OURS:
            return
        requires = self._catalogue.environments[name].requires
        asked = _digest((sys.version.split()[0], *requires))
        marker = self._marker(name)
        if marker.is_file() and _read(marker).asked == asked:
            return
        self._once(name, lambda: self._install(name, requires, asked, marker))

    def model(self, kind: str) -> None:
        """Convert a checkpoint to a kind of model, unless that stands."""
        target = self.models / kind
        if target.is_dir():
            return
        self.environment(BUILDER)
        self._once(f"model {kind}", lambda: self._convert(kind, target))

    def _install(self, name: str, requires: Sequence[str], asked: str, marker: Path) -> None:
        self._say(f"installing {name}: {', '.join(requires)}")
        home = self.folder / "environments" / name
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        self._run([sys.executable, "-m", "venv", str(home)], _INSTALL_SECONDS)
        python = str(self.python(name))
        listing = home / "versions.json"
        # Not compiled, since most of a library is never imported; the search imports the rest before a start is timed.
        # torch first: from an index that also has builds for graphics cards, the resolver may pick one of those.
        first = [require for require in requires if require.startswith("torch==")]
        for group in (first, list(requires)):
            if group:
                self._run(
                    [python, "-m", "pip", "install", "--quiet", "--prefer-binary", "--no-compile", *group],
                    _INSTALL_SECONDS,
                )
        code = (
            "import importlib.metadata as m, json, pathlib, sys; pathlib.Path(sys.argv[1])"
            ".write_text(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        self._run([python, "-c", code, str(listing)], _INSTALL_SECONDS)
        versions = msgspec.json.decode(listing.read_bytes(), type=dict[str, str])
        write_atomic(marker, msgspec.json.encode(_Made(asked, versions)))

    def _convert(self, kind: str, target: Path) -> None:
        self._say(f"converting: {kind}")
        making = target.with_name(f".{kind}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        self._run([str(self.python(BUILDER)), "-P", str(_CONVERT), str(making), kind], _CONVERT_SECONDS)
        making.rename(target)

    def _once(self, what: str, make: Callable[[], None]) -> None:
        # What failed is not tried again for each contestant that needs it; a later run tries again.
        if what in self._failed:
            raise UnavailableError(self._failed[what])
        try:
            make()
        except (BenchError, OSError) as error:
            self._failed[what] = f"{what} could not be made here: {error}"
            raise UnavailableError(self._failed[what]) from error

    def _marker(self, name: str) -> Path:
        return self.folder / "environments" / name / "made.json"


def _read(marker: Path) -> _Made:
    try:
        return msgspec.json.decode(marker.read_bytes(), type=_Made)
    except (OSError, msgspec.MsgspecError):
        return _Made("", {})


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _run(command: Sequence[str], seconds: int) -> None:
    """Run to the end, or raise BenchError with the last line of error."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env=os.environ | OFFLINE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{Path(command[0]).name} {command[2]}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip() and "[notice]" not in line]
        last = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "it said nothing")
        raise BenchError(f"{' '.join(command[1:4])} ended with status {done.returncode}: {last.strip()[:300]}")
