"""Training in torch: seeded, and resumed where it was interrupted, to the same weights as without."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from world import networks
from world.lessons import Lesson

STATE_NAME = "training.pt"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run goes. `save_every` counts steps; it alone may differ between a run and the one that resumes it."""

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 60
    decay: float = 0.4
    seed: int = 20260101
    save_every: int = 25


def learn(
    model: Any,
    lesson: Lesson,
    settings: Settings,
    folder: Path,
    tell: Callable[[str], None],
    *,
    stop_after: int | None = None,
) -> float | None:
    """Train `model` in place; the processor time it took in seconds, None where `stop_after` steps ended it early.

    The state is written to `folder` every `save_every` steps, and a state found there of the same run is taken up.
    """
    tokenizer = networks.tokenizer()
    optimizer = torch.optim.AdamW(
        _groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    identity = repr((lesson.name, {key: value for key, value in asdict(settings).items() if key != "save_every"}))
    torch.manual_seed(settings.seed)
    begin, spent = _resume(folder / STATE_NAME, model, optimizer, schedule, identity)
    if begin:
        tell(f"resumed after step {begin} of {settings.steps}")
    model.train()
    started, worked, losses = time.monotonic(), time.process_time(), list[float]()
    for step in range(begin, settings.steps):
        if stop_after is not None and step - begin >= stop_after:
            return None
        draw = random.Random(f"{settings.seed} {lesson.name} {step}")
        loss = model(**lesson.batch(tokenizer, settings.batch, draw), **lesson.more).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        done = step + 1
        if done % settings.save_every == 0 or done == settings.steps:
            now = spent + time.process_time() - worked
            _save(folder / STATE_NAME, model, optimizer, schedule, identity, done, now)
            pace = (time.monotonic() - started) / (done - begin)
            left = pace * (settings.steps - done) / 60
            tell(f"step {done} of {settings.steps}: loss {sum(losses) / len(losses):.4f}, {left:.1f} minutes to go")
            losses.clear()
    model.eval()
    return spent + time.process_time() - worked


def _rate(step: int, settings: Settings) -> float:
    """The learning rate's share: a linear rise, a plain, and a linear fall to 0 over the last `decay` of the steps."""
    falls = max(1.0, settings.decay * settings.steps)
    return min(1.0, (step + 1) / settings.warmup, (settings.steps - step) / falls)


def _groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, gains and single scales do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(path: Path, model: Any, optimizer: Any, schedule: Any, identity: str, done: int, seconds: float) -> None:
    state = {
        "done": done,
        "seconds": seconds,
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "generator": torch.get_rng_state(),
    }
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _resume(path: Path, model: Any, optimizer: Any, schedule: Any, identity: str) -> tuple[int, float]:
    """Take up the state of an interrupted run; its steps and seconds, 0 where there is none that fits."""
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        return 0, 0.0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["generator"])
    return int(state["done"]), float(state["seconds"])
