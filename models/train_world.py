"""Train a network on the made-up world: python models/train_world.py clip (or captioner, or answerer)

Writes a checkpoint as transformers does, with its card, to models/world/checkpoints/NAME. Interrupted, it goes on where
it was; finished, it does nothing until the folder is deleted. The grammar of the world is docs/world.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from world import cards, networks
from world.learning import Settings, learn
from world.lessons import LESSONS

CHECKPOINTS = Path(__file__).resolve().parent / "world" / "checkpoints"
SETTINGS = {
    "clip": Settings(steps=3000, learning_rate=1e-3),
    "captioner": Settings(steps=4000),
    "answerer": Settings(steps=1500),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network on the made-up world.")
    parser.add_argument("name", choices=sorted(LESSONS))
    parser.add_argument("--threads", type=int, default=2, help="Threads of torch.")
    parser.add_argument("--output", type=Path, help="Default: models/world/checkpoints/NAME")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.name, given.output or CHECKPOINTS / given.name, SETTINGS[given.name])


def train(name: str, output: Path, settings: Settings, *, stop_after: int | None = None) -> bool:
    """Train the network `name` to `output`; whether it was finished. `stop_after` steps it is interrupted."""
    if (output / "config.json").is_file():
        tell(f"{output} is trained already")
        return True
    lesson = LESSONS[name]
    if lesson.after and not train(lesson.after, CHECKPOINTS / lesson.after, SETTINGS[lesson.after]):
        return False
    torch.manual_seed(settings.seed)
    model = lesson.make()
    if lesson.after:
        first = networks.load(lesson.after, CHECKPOINTS / lesson.after)
        networks.begin_as(model, first)
    state = output.with_name(output.name + ".training")
    state.mkdir(parents=True, exist_ok=True)
    seconds = learn(model, lesson, settings, state, tell, stop_after=stop_after)
    if seconds is None:
        return False
    finished = state / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    write(name, model, finished)
    text = cards.card(name, finished, settings, seconds)
    (finished / "README.md").write_text(text, encoding="utf-8")
    finished.replace(output)
    shutil.rmtree(state)
    tell(text)
    return True


def write(name: str, model: Any, folder: Path) -> None:
    """The checkpoint: weights in half precision, which is what the card's figures are of, to be computed in single."""
    model.half().save_pretrained(folder)
    networks.tokenizer().save_pretrained(folder)
    networks.image_processor(name).save_pretrained(folder)
    config = folder / "config.json"
    said = json.loads(config.read_text("utf-8"))
    said["dtype"] = "float32"
    config.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
