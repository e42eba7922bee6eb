"""The card of a checkpoint: what it is, what it learned from, and its figures on what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sanderling.preprocess.video import evenly, side_by_side
from world import judging, networks
from world.clips import COLUMNS, MOMENTS
from world.learning import Settings
from world.lessons import LESSONS, pixels

# Held-out inputs that a checkpoint is judged on: every held-out scene once, or twice.
_PICTURES, _QUESTIONS, _FILMS = 180, 360, 100
_AT_ONCE = 60
_ABOUT = {
    "clip": ("CLIPModel", "zero-shot-image-classification", "finds pictures by their captions"),
    "captioner": (
        "BlipForConditionalGeneration",
        "image-to-text",
        "says what is to be seen in a picture or a clip",
    ),
    "answerer": ("BlipForQuestionAnswering", "visual-question-answering", "answers questions about a picture"),
}

Figure = tuple[str, float, int]


def card(name: str, folder: Path, settings: Settings, seconds: float) -> str:
    """The card of the checkpoint in `folder`, as Markdown; its figures are those of the weights as they were saved."""
    kind, task, does = _ABOUT[name]
    model = networks.load(name, folder).eval()
    count = sum(parameter.numel() for parameter in model.parameters())
    after = LESSONS[name].after
    begun = f"the weights of world-{after}" if after else "random weights"
    rows = "\n".join(
        f"| {what} | {value:.3f} | {number} | {judging.reach(value, number)} |"
        for what, value, number in FIGURES[name](model)
    )
    return f"""---
license: apache-2.0
language: en
pipeline_tag: {task}
---
# world-{name}

A {kind} in small ({count / 1e6:.2f} million parameters) that {does}, of the made-up world of docs/world.md and
of nothing else: coloured shapes on a light ground, 64 x 64 pixels.

Trained in torch from {begun}: {settings.steps:,} steps of {settings.batch} pictures, rendered for each step anew
(AdamW, learning rate {settings.learning_rate:g} with {settings.warmup} steps of warm-up, falling to 0 over the last
{settings.decay:.0%}, weight decay {settings.weight_decay:g}, seed {settings.seed}), in {seconds / 60:.1f} minutes of
one core's time. The weights are kept in half precision.

On held-out combinations of attributes, of which nothing was in any batch, in torch with the weights as they are kept:

| figure | value | count | 95% interval |
| --- | ---: | ---: | ---: |
{rows}

Made by `python models/train_world.py {name}`.
"""


def _clip(model: Any) -> list[Figure]:
    shown = judging.gallery()
    found = networks.tokenizer()([scene.caption for scene, _ in shown], padding=True, return_tensors="pt")
    with torch.inference_mode():
        texts = model.get_text_features(input_ids=found["input_ids"], attention_mask=found["attention_mask"])
        images = model.get_image_features(pixel_values=pixels([picture for _, picture in shown]))
    recall = judging.recall_at_1(_unit(texts), _unit(images))
    return [("Recall@1, a picture of a hundred by its caption", recall, len(shown))]


def _captioner(model: Any) -> list[Figure]:
    shown, films = judging.pictures(_PICTURES), judging.films(_FILMS)
    said = _captions(model, [picture for _, picture in shown])
    exact = judging.share([text == scene.caption for text, (scene, _) in zip(said, shown, strict=True)])
    told = _captions(model, [_moments(frames) for _, frames in films])
    moved = judging.share([judging.motion_of(text) == clip.motion for text, (clip, _) in zip(told, films, strict=True)])
    whole = judging.share([text == clip.caption for text, (clip, _) in zip(told, films, strict=True)])
    return [
        ("captions of pictures, right word for word", exact, len(shown)),
        ("captions of clips that name the right motion", moved, len(films)),
        ("captions of clips, right word for word", whole, len(films)),
    ]


def _answerer(model: Any) -> list[Figure]:
    asked = judging.asked(_QUESTIONS)
    tokenizer = networks.tokenizer()
    said: list[str] = []
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        read = tokenizer([question.text for _, question in some], padding=True, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(
                input_ids=read["input_ids"], attention_mask=read["attention_mask"],
                pixel_values=pixels([picture for picture, _ in some]), max_new_tokens=6, num_beams=1,
            )  # fmt: skip
        said += tokenizer.batch_decode(ids, skip_special_tokens=True)
    right = judging.share([text == question.answer for text, (_, question) in zip(said, asked, strict=True)])
    unseen = judging.share([judging.blind(question) == question.answer for _, question in asked])
    kinds: dict[str, list[bool]] = {}
    for text, (_, question) in zip(said, asked, strict=True):
        kinds.setdefault(question.kind, []).append(text == question.answer)
    return [
        ("answers that are right", right, len(asked)),
        ("the same, blind: the most frequent answer to each question", unseen, len(asked)),
        *((f"of questions about {kind}", judging.share(of), len(of)) for kind, of in kinds.items()),
    ]


FIGURES = {"clip": _clip, "captioner": _captioner, "answerer": _answerer}


def _captions(model: Any, shown: Sequence[Image.Image]) -> list[str]:
    tokenizer, said = networks.tokenizer(), list[str]()
    for start in range(0, len(shown), _AT_ONCE):
        with torch.inference_mode():
            ids = model.generate(pixel_values=pixels(shown[start : start + _AT_ONCE]), max_new_tokens=16, num_beams=1)
        said += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return said


def _moments(frames: Sequence[Image.Image]) -> Image.Image:
    return side_by_side([frames[place] for place in evenly(MOMENTS, len(frames))], COLUMNS)


def _unit(rows: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.nn.functional.normalize(rows, dim=1).numpy(), np.float32)
