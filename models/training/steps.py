"""The steps of a training in torch: seeded, and resumed where they were interrupted, to the same weights as without."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STATE_NAME = "training.pt"
_LONGEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Steps:
    """So many steps of `optimizer`, whose rate follows `schedule`; `loss` gives that of a step, counted from 0.

    The state is written to `folder` every `save_every` steps. `identity` says what a state found there must be of to be
    taken up.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    count: int
    loss: Callable[[int], torch.Tensor]
    folder: Path
    identity: str
    save_every: int

    def run(self, tell: Callable[[str], None], stop_after: int | None = None) -> float | None:
        """Train in place; the processor time it took in seconds, None where `stop_after` steps ended it early."""
        begin, spent = self._resume()
        if begin:
            tell(f"resumed after step {begin} of {self.count}")
        self.model.train()
        started, worked, losses = time.monotonic(), time.process_time(), list[float]()
        for step in range(begin, self.count):
            if stop_after is not None and step - begin >= stop_after:
                return None
            loss = self.loss(step)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), _LONGEST_GRADIENT)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            losses.append(float(loss.detach()))
            done = step + 1
            if done % self.save_every == 0 or done == self.count:
                self._save(done, spent + time.process_time() - worked)
                pace = (time.monotonic() - started) / (done - begin)
                left = pace * (self.count - done) / 60
                tell(f"step {done} of {self.count}: loss {sum(losses) / len(losses):.4f}, {left:.1f} minutes to go")
                losses.clear()
        self.model.eval()
        return spent + time.process_time() - worked

    def _save(self, done: int, seconds: float) -> None:
        state = {
            "done": done,
            "seconds": seconds,
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": torch.get_rng_state(),
        }
        path = self.folder / STATE_NAME
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _resume(self) -> tuple[int, float]:
        """Take up the state of an interrupted run; its steps and seconds, 0 where there is none that fits."""
        path = self.folder / STATE_NAME
        if not path.is_file():
            return 0, 0.0
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            return 0, 0.0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["generator"])
        return int(state["done"]), float(state["seconds"])


def groups(model: torch.nn.Module, decay: float) -> Sequence[dict[str, Any]]:
    """Parameters for an optimizer: matrices decay; biases, gains and single scales do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
