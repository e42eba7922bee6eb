"""How `sanderling run` puts inputs to a model: the call that its task and the options make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sanderling import precisions
from sanderling.commands import numbers, pictures
from sanderling.errors import InputError
from sanderling.pairs import TextPair
from sanderling.tasks.dual_encoder import DualEncoder
from sanderling.tasks.feature_extraction import EmbeddingModel
from sanderling.tasks.late_interaction import LateInteractionModel
from sanderling.tasks.sparse import SparseModel

if TYPE_CHECKING:
    from sanderling.model import Model


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """What is asked of an embedding model's vectors; None leaves it to the model."""

    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    precision: str = "float32"

    def check(self, model: Model) -> None:
        """Raises InputError for options that an embedding model does not have, or that `model` has no use for."""
        given = {"--prompt": self.prompt, "--dimensions": self.dimensions, "--normalize": self.normalize}
        named = [option for option, value in given.items() if value is not None]
        named += ["--precision"] if self.precision != "float32" else []
        if named and not isinstance(model, EmbeddingModel | LateInteractionModel | SparseModel):
            raise InputError(f"{named[0]} goes with embedding models; {model.name} is for {model.task}.")
        if isinstance(model, EmbeddingModel):
            precisions.check(self.precision, model.reshaped(self.dimensions, self.normalize).dimension)
        elif named and named != ["--prompt"]:
            raise InputError(f"{named[-1]} goes with models of one dense vector an input, which {model.name} is not.")
        if isinstance(model, EmbeddingModel | LateInteractionModel | SparseModel):
            model.front.prepare([], self.prompt)  # an unknown prompt is one for every input


class Ask:
    """How each chunk of inputs is put to the model, as the options say. Raises InputError where they contradict."""

    def __init__(
        self,
        model: Model,
        top_k: int,
        vectors: VectorOptions,
        pair: str | None,
        long_text: str,
        labels: tuple[str, ...] | None,
        multi_label: bool,
        template: str | None,
        horizon: int | None = None,
        level: float | None = None,
        query: str | None = None,
    ) -> None:
        classifies = not isinstance(model, EmbeddingModel | LateInteractionModel | SparseModel)
        if model.task == pictures.TASK:
            others = {"horizon": horizon, "level": level, "template": template, "multi_label": multi_label}
            pictures.refuse(model, prompt=vectors.prompt, pair=pair, labels=labels, long_text=long_text, **others)
        vectors.check(model)
        if vectors != VectorOptions() and labels is not None:
            raise InputError("--labels goes with none of --prompt, --dimensions, --normalize and --precision.")
        if labels is None and (multi_label or template is not None):
            raise InputError("--multi-label and --template go with --labels.")
        if labels is not None and (pair is not None or long_text != "truncate"):
            raise InputError("--labels goes with neither --pair nor --long-text.")
        if long_text not in ("truncate", "window") or (long_text == "window" and not classifies):
            raise InputError(f"--long-text is {long_text}; truncate, or for a text classifier window, was expected.")
        if query is not None and (model.task != "text-ranking" or pair is not None):
            raise InputError(f"--query goes with text-ranking, without --pair; {model.name} is for {model.task}.")
        if pair is not None and model.task not in ("text-classification", "text-ranking"):
            raise InputError(f"--pair goes with text classifiers; {model.name} is for {model.task}.")
        ahead = numbers.settings(model, top_k, horizon, level)
        if ahead is not None and (long_text != "truncate" or labels is not None):
            raise InputError(f"--long-text and --labels go with texts; {model.name} is for {model.task}.")
        self._pair, self._query = pair, query
        call: Any = model
        if isinstance(model, DualEncoder):
            if labels is None or multi_label:
                raise InputError(
                    f"{model.name} decides images among --labels, by {model.activation}; leave the rest out."
                )
            settings: dict[str, Any] = {"labels": labels, "templates": template, "top_k": top_k}
            model.label_vectors(labels, templates=template)  # what is wrong with a label is so for every input
        elif labels is not None:
            from sanderling.tasks.zero_shot import ZeroShotClassifier

            call = ZeroShotClassifier(model, template=template)
            call([], labels)  # what is wrong with a label is wrong with it for every input
            settings = {"labels": labels, "multi_label": multi_label, "top_k": top_k}
        elif ahead is not None:
            settings = ahead
        elif model.task == pictures.TASK:
            settings = {}
        elif classifies:
            settings = {"top_k": top_k} | ({"long_text": long_text} if long_text != "truncate" else {})
        else:
            settings = dataclasses.asdict(vectors) if isinstance(model, EmbeddingModel) else {"prompt": vectors.prompt}
            settings |= {"top_k": top_k} if isinstance(model, SparseModel) else {}
        self._call: Callable[[list[Any]], Iterable[Any]] = partial(call, **settings)

    def __call__(self, values: list[Any]) -> list[Any]:
        if self._pair is not None:
            values = [TextPair(value, self._pair) for value in values]
        if self._query is not None:
            values = [TextPair(self._query, value) for value in values]
        return list(self._call(values)) if values else []
