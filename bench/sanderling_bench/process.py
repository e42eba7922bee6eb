"""Fresh processes: cold starts and peak memory of a bundle, each in a child of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO

from sanderling.errors import BenchError
from sanderling_bench.inputs import Inputs
from sanderling_bench.record import ColdStart

_SCRIPT = Path(__file__).with_name("child.py")
_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Child:
    """How a fresh process loads the bundle."""

    bundle: Path
    variant: str
    provider: str
    threads: int
    component: str | None = None
    new_tokens: int | None = None

    def cold_start(self, inputs: Inputs) -> ColdStart:
        """Import, load, and answer the first input. The files of the bundle may be in the system's cache."""
        lines, wall = self._run("cold", inputs, inputs.raw[:1])
        imported, loaded, answered = (float(part) for part in lines.split())
        return ColdStart(imported, loaded, answered, wall)

    def peak_memory(self, inputs: Inputs) -> int:
        """The most bytes resident while each input is answered alone, then all at once."""
        lines, _ = self._run("memory", inputs, inputs.raw)
        return int(lines)

    def _run(self, mode: str, inputs: Inputs, raw: Sequence[bytes]) -> tuple[str, float]:
        framed = b"".join(len(item).to_bytes(8, "little") + item for item in raw)
        # -P: the folder of the script does not come before the standard library.
        command = [sys.executable, "-P", str(_SCRIPT), mode, str(self.bundle), self.variant, self.provider]
        how = [str(self.threads), inputs.modality, self.component or "", str(self.new_tokens or 0)]
        return run_child([*command, *how], framed)


def run_child(command: Sequence[str], stdin: bytes = b"") -> tuple[str, float]:
    """Run a command; what it printed, and the seconds from spawning it to its first line.

    Raises BenchError: it failed (with its last line of error), printed nothing, or took over 10 minutes.
    """
    with tempfile.TemporaryFile() as errors:
        begin = perf_counter()
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise BenchError(f"A fresh process did not start ({command[0]}): {error.strerror or error}.") from error
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            watchdog = threading.Timer(_TIMEOUT, process.kill)
            watchdog.start()
            try:
                _feed(process.stdin, stdin)
                first = process.stdout.readline()
                wall = perf_counter() - begin
                output = first + process.stdout.read()
                status = process.wait()
            finally:
                watchdog.cancel()
        if status != 0 or not output.strip():
            errors.seek(0)
            last = (errors.read().decode("utf-8", "replace").strip().splitlines() or ["it printed nothing"])[-1]
            raise BenchError(f"A fresh process failed with status {status}: {last[:500]}")
    return output.decode("utf-8", "replace"), wall


def _feed(pipe: IO[bytes], data: bytes) -> None:
    # A process that died early closes its end; its status and its last words tell why.
    with contextlib.suppress(OSError):
        pipe.write(data)
    with contextlib.suppress(OSError):
        pipe.close()
