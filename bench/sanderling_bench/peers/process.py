"""A contestant as the contest sees it: a process that answers when asked, and is stopped while another has its turn."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from sanderling.errors import BenchError

_REPLY_SECONDS = 600.0
_END_SECONDS = 10.0


class ContestantError(BenchError):
    """A contestant failed: it did not start, raised, died, or did not reply in time."""


class Running:
    """A contestant's process. After every reply it is suspended, threads and children with it: idle, it cannot spin.

    `first_answer` is the seconds from spawning the process to its first answer, the interpreter's start included.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        self._replies: queue.Queue[str] = queue.Queue()
        with log.open("wb") as errors:
            begin = perf_counter()
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, **(environment or {})},
                )
            except OSError as error:
                raise ContestantError(f"{name} did not start ({command[0]}): {error.strerror or error}.") from error
        self._tree = psutil.Process(self._process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._reply()
            self.first_answer = perf_counter() - begin
            self._suspend()
        except BaseException:
            self.close()
            raise

    def all(self, count: int, call: Mapping[str, Any], *, first: int = 0, to: Path | None = None) -> float:
        """Answer `count` inputs from index `first` in one call; its seconds. The rows go to the file `to` (.npy)."""
        reply = self._ask({"do": "all", "first": first, "count": count, "call": call, "to": str(to) if to else None})
        return float(reply["seconds"])

    def each(self, first: int, count: int, of: int, warmup: int) -> list[float]:
        """Answer `count` inputs one by one from index `first` on, around the first `of`; the seconds of each.

        The `warmup` calls before them are not counted.
        """
        reply = self._ask({"do": "each", "first": first, "count": count, "of": of, "warmup": warmup})
        return [float(seconds) for seconds in reply["seconds"]]

    def peak_memory(self) -> int:
        """The most bytes its own process had resident."""
        return int(self._ask({"do": "memory"})["bytes"])

    def close(self) -> None:
        """End the process and all it started. Safe to call twice."""
        with contextlib.suppress(psutil.Error):
            for process in (*self._tree.children(recursive=True), self._tree):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self._process.wait(_END_SECONDS)
        self._reader.join(_END_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._resume()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ContestantError(f"{self.name} is gone: {self._last_words()}") from error
        reply = self._reply()
        self._suspend()
        return reply

    def _reply(self) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=_REPLY_SECONDS)
        except queue.Empty:
            raise ContestantError(f"{self.name} gave no answer in {_REPLY_SECONDS:.0f} seconds.") from None
        if not line:
            raise ContestantError(f"{self.name} ended: {self._last_words()}")
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise ContestantError(f"{self.name} replied with {line[:80]!r}, which is no JSON.") from error
        if "error" in reply:
            raise ContestantError(f"{self.name}: {reply['error']}")
        return dict(reply)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line.decode("utf-8", "replace"))
        self._replies.put("")

    def _suspend(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._tree, *self._tree.children(recursive=True)):
                process.suspend()

    def _resume(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*self._tree.children(recursive=True), self._tree):
                process.resume()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return (lines or ["it said nothing"])[-1][:300]
