"""How the networks of the world learn: new pictures in each step, by a rate that rises, stays and falls."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from training.steps import Steps, groups

from world import networks
from world.lessons import Lesson


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
    """Train `model` in place; the processor time it took in seconds, None where `stop_after` steps ended it early."""
    tokenizer = networks.tokenizer()
    optimizer = torch.optim.AdamW(
        groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    identity = repr((lesson.name, {key: value for key, value in asdict(settings).items() if key != "save_every"}))
    torch.manual_seed(settings.seed)

    def loss(step: int) -> torch.Tensor:
        draw = random.Random(f"{settings.seed} {lesson.name} {step}")
        found: torch.Tensor = model(**lesson.batch(tokenizer, settings.batch, draw), **lesson.more).loss
        return found

    steps = Steps(model, optimizer, schedule, settings.steps, loss, folder, identity, settings.save_every)
    return steps.run(tell, stop_after)


def _rate(step: int, settings: Settings) -> float:
    """The learning rate's share: a linear rise, a plain, and a linear fall to 0 over the last `decay` of the steps."""
    falls = max(1.0, settings.decay * settings.steps)
    return min(1.0, (step + 1) / settings.warmup, (settings.steps - step) / falls)
