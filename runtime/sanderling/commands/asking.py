"""How `sanderling run` puts inputs to a model: the call that its task and the options make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from sanderling.commands import numbers, pictures
from sanderling.errors import InputError
from sanderling.pairs import TextPair

if TYPE_CHECKING:
    from sanderling.model import Model


class Ask:
    """How each chunk of inputs is put to the model, as the options say. Raises InputError where they contradict."""

    def __init__(
        self,
        model: Model,
        top_k: int,
        prompt: str | None,
        pair: str | None,
        long_text: str,
        labels: tuple[str, ...] | None,
        multi_label: bool,
        template: str | None,
        horizon: int | None = None,
        level: float | None = None,
    ) -> None:
        classifies = model.family != "embedding"
        if model.task == pictures.TASK:
            others = {"horizon": horizon, "level": level, "template": template, "multi_label": multi_label}
            pictures.refuse(model, prompt=prompt, pair=pair, labels=labels, long_text=long_text, **others)
        if prompt is not None and (classifies or labels is not None):
            raise InputError(f"--prompt goes with embedding models; {model.name} is for {model.task}.")
        if labels is None and (multi_label or template is not None):
            raise InputError("--multi-label and --template go with --labels.")
        if labels is not None and (pair is not None or long_text != "truncate"):
            raise InputError("--labels goes with neither --pair nor --long-text.")
        if long_text not in ("truncate", "window") or (long_text == "window" and not classifies):
            raise InputError(f"--long-text is {long_text}; truncate, or for a text classifier window, was expected.")
        if pair is not None and model.task != "text-classification":
            raise InputError(f"--pair goes with text classifiers; {model.name} is for {model.task}.")
        ahead = numbers.settings(model, top_k, horizon, level)
        if ahead is not None and (long_text != "truncate" or labels is not None):
            raise InputError(f"--long-text and --labels go with texts; {model.name} is for {model.task}.")
        self._pair = pair
        call: Any = model
        if labels is not None:
            from sanderling.tasks.zero_shot import ZeroShotClassifier

            call = ZeroShotClassifier(model, template=template)
            call([], labels)  # what is wrong with a label is wrong with it for every input
            settings: dict[str, Any] = {"labels": labels, "multi_label": multi_label, "top_k": top_k}
        elif ahead is not None:
            settings = ahead
        elif model.task == pictures.TASK:
            settings = {}
        elif classifies:
            settings = {"top_k": top_k} | ({"long_text": long_text} if long_text != "truncate" else {})
        else:
            model.front.prepare([], prompt)  # an unknown prompt, likewise
            settings = {"prompt": prompt}
        self._call: Callable[[list[Any]], Iterable[Any]] = partial(call, **settings)

    def __call__(self, values: list[Any]) -> list[Any]:
        if self._pair is not None:
            values = [TextPair(value, self._pair) for value in values]
        return list(self._call(values)) if values else []
