"""Fine-tuning of a sequence classifier in torch: seeded, and resumed where it was interrupted.

A run that was interrupted and resumed ends with the same weights as one that was not: the order of the examples
depends on the seed and the epoch alone, and the state of the dropout's generator is kept with the weights.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from training.steps import Steps, groups

# Examples sorted by length together: few enough that the order stays random, enough that little is padding.
_POOL_BATCHES = 40

Tokens = list[list[int]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run goes. `save_every` counts steps; it alone may differ between a run and the one that resumes it."""

    epochs: int = 2
    batch: int = 32
    learning_rate: float = 8e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    seed: int = 20240501
    save_every: int = 100


def train(
    model: torch.nn.Module,
    tokens: Tokens,
    labels: Sequence[int],
    settings: Settings,
    folder: Path,
    tell: Callable[[str], None],
    *,
    pad_id: int = 0,
    stop_after: int | None = None,
) -> bool:
    """Train `model` (its forward takes input_ids, attention_mask, labels) in place; whether it came to its end.

    The state is written to `folder` every `save_every` steps, and a state found there is taken up.
    `stop_after` ends the run early, after so many steps of its own.
    """
    order = [batch for epoch in range(settings.epochs) for batch in _epoch(tokens, settings, epoch)]
    optimizer = torch.optim.AdamW(groups(model, settings.weight_decay), lr=settings.learning_rate)
    warm = max(1, round(settings.warmup * len(order)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (len(order) - step) / max(1, len(order) - warm)))
    )
    torch.manual_seed(settings.seed)

    def loss(step: int) -> torch.Tensor:
        found: torch.Tensor = model(**_batch(tokens, labels, order[step], pad_id)).loss
        return found

    identity = _identity(model, settings, tokens, labels)
    steps = Steps(model, optimizer, schedule, len(order), loss, folder, identity, settings.save_every)
    return steps.run(tell, stop_after) is not None


def predict(model: torch.nn.Module, tokens: Tokens, *, pad_id: int = 0, batch: int = 64) -> list[int]:
    """The label of the highest logit of each example."""
    model.eval()
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    found = [0] * len(tokens)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            best = model(**_batch(tokens, None, part, pad_id)).logits.argmax(dim=1)
            for index, label in zip(part, best.tolist(), strict=True):
                found[index] = label
    return found


def _epoch(tokens: Tokens, settings: Settings, epoch: int) -> list[list[int]]:
    """The batches of an epoch: drawn at random, each of examples of about one length."""
    draw = random.Random(f"{settings.seed} {epoch}")
    order = list(range(len(tokens)))
    draw.shuffle(order)
    pool = settings.batch * _POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda index: len(tokens[index]))
        batches += [part[i : i + settings.batch] for i in range(0, len(part), settings.batch)]
    draw.shuffle(batches)
    return batches


def _batch(tokens: Tokens, labels: Sequence[int] | None, part: Sequence[int], pad_id: int) -> dict[str, torch.Tensor]:
    longest = max(len(tokens[index]) for index in part)
    ids = torch.full((len(part), longest), pad_id)
    mask = torch.zeros((len(part), longest), dtype=torch.int64)
    for row, index in enumerate(part):
        ids[row, : len(tokens[index])] = torch.tensor(tokens[index])
        mask[row, : len(tokens[index])] = 1
    found = {"input_ids": ids, "attention_mask": mask}
    if labels is not None:
        found["labels"] = torch.tensor([labels[index] for index in part])
    return found


def _identity(model: torch.nn.Module, settings: Settings, tokens: Tokens, labels: Sequence[int]) -> str:
    """What a state must come from to be taken up: the same weights, settings and examples."""
    said = {name: value for name, value in asdict(settings).items() if name != "save_every"}
    trained = [(name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
    return hashlib.sha256(repr((said, tokens, list(labels), trained)).encode()).hexdigest()
