"""What each network is shown and asked for: batches that depend on the seed and the step alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from world import networks
from world.clips import clips, moments
from world.drawing import SIDE, render
from world.scenes import questions, scenes

# Of a captioner's pictures, the share that are moments of clips.
_CLIPS = 0.25
# What no loss is computed of.
_IGNORED = -100

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Lesson:
    """How one network is made, and what the loss of one step is computed of."""

    name: str
    make: Callable[[], Any]
    batch: Callable[[Any, int, random.Random], Batch]
    more: dict[str, Any]
    # The network whose weights this one begins with; none: random ones.
    after: str = ""


def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as the image processors bring them to the networks: (n, 3, 64, 64), float32 from -1 to 1."""
    sized = [p if p.size == (SIDE, SIDE) else p.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in pictures]
    array = np.stack([np.asarray(picture, np.float32) for picture in sized])
    return torch.from_numpy(array / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()


def paired(tokenizer: Any, size: int, draw: random.Random) -> Batch:
    """Scenes with their captions, no caption twice."""
    chosen = draw.sample(scenes(held_out=False), size)
    found = tokenizer([scene.caption for scene in chosen], padding=True, return_tensors="pt")
    return {
        "input_ids": found["input_ids"],
        "attention_mask": found["attention_mask"],
        "pixel_values": pixels([render(scene, draw) for scene in chosen]),
    }


def captioned(tokenizer: Any, size: int, draw: random.Random) -> Batch:
    """Scenes and moments of clips, and what is to be said of them."""
    moving = round(size * _CLIPS)
    stills, films = draw.choices(scenes(held_out=False), k=size - moving), draw.choices(clips(held_out=False), k=moving)
    pictures = [*(render(scene, draw) for scene in stills), *(moments(film, draw) for film in films)]
    written = _written(tokenizer, [*(scene.caption for scene in stills), *(film.caption for film in films)])
    return {**written, "labels": _labels(written), "pixel_values": pixels(pictures)}


def asked(tokenizer: Any, size: int, draw: random.Random) -> Batch:
    """Scenes, each with a question of one kind, and its answer."""
    chosen = draw.choices(scenes(held_out=False), k=size)
    about = [draw.choice(questions(scene, draw)) for scene in chosen]
    read = tokenizer([question.text for question in about], padding=True, return_tensors="pt")
    answers = _written(tokenizer, [question.answer for question in about])
    return {
        "input_ids": read["input_ids"],
        "attention_mask": read["attention_mask"],
        "decoder_input_ids": answers["input_ids"],
        "decoder_attention_mask": answers["attention_mask"],
        "labels": _labels(answers),
        "pixel_values": pixels([render(scene, draw) for scene in chosen]),
    }


LESSONS = {
    "clip": Lesson("clip", networks.clip, paired, {"return_loss": True}),
    "captioner": Lesson("captioner", networks.captioner, captioned, {}),
    "answerer": Lesson("answerer", networks.answerer, asked, {}, after="captioner"),
}


def _written(tokenizer: Any, texts: Sequence[str]) -> Batch:
    """Texts as a decoder writes them: [DEC] words [SEP]."""
    found = tokenizer(list(texts), padding=True, return_tensors="pt")
    ids = found["input_ids"]
    ids[:, 0] = networks.WRITE
    return {"input_ids": ids, "attention_mask": found["attention_mask"]}


def _labels(written: Batch) -> torch.Tensor:
    return written["input_ids"].masked_fill(written["attention_mask"] == 0, _IGNORED)
