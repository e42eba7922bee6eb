"""Prompts to a decoder's inputs: padded on the left, nothing cut, nothing remembered yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanderling.decode import steps
from sanderling.errors import TextError
from sanderling.fronts import TextFront
from sanderling.results import InputReport
from sanderling.schema.variants import Component
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.preprocess.text import Encoded, TextEncoder


class PromptFront(TextFront):
    """Texts to be continued, batched by their lengths."""

    def __init__(self, encoder: TextEncoder, component: Component, token_budget: int, context: int) -> None:
        self._names = [spec.name for spec in component.inputs]
        super().__init__(encoder, self._names, token_budget)
        self.encoder = encoder
        self._component = component
        self._context = context

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Encoded]:
        """The tokens of each prompt. Raises TextError for one that is empty, or too long for the model."""
        found = super().prepare(items, prompt, cancellation)
        for index, encoded in enumerate(found):
            report = encoded.report
            self.check(encoded.ids, index, report.tokens_lost, report.characters_unread)
        return found

    def check(self, ids: NDArray[np.int64], index: int, lost: int = 0, unread: int = 0) -> None:
        """Raise TextError for a prompt of no tokens, or one that leaves no room for a new one."""
        if not len(ids):
            raise TextError(f"Prompt {index} has no tokens; a model continues what is there: give it a word.")
        if lost or unread or len(ids) >= self._context:
            more = f" and {unread:,} characters that were not read" if unread else ""
            raise TextError(
                f"Prompt {index} has {len(ids) + lost:,} tokens{more}; this model has a context of {self._context:,}, "
                "in which the new ones need room. Shorten it: nothing of a prompt is cut silently."
            )

    def feeds(self, batch: Sequence[Encoded]) -> tuple[Arrays, list[InputReport]]:
        """The inputs of a decoder that has seen nothing yet."""
        feeds = first_step([encoded.ids for encoded in batch], self._component, self._encoder.settings.pad_token_id)
        return feeds, [encoded.report for encoded in batch]


def first_step(prompts: Sequence[NDArray[np.int64]], component: Component, pad: int) -> dict[str, NDArray[Any]]:
    """A decoder's inputs for prompts of any lengths and an empty past, on the host."""
    ids, mask = steps.padded(prompts, pad)
    names = {spec.name for spec in component.inputs}
    feeds: dict[str, NDArray[Any]] = {
        name: array for name, array in steps.given(ids, mask, steps.positions(mask)).items() if name in names
    }
    past = steps.empty(component, len(prompts))
    return feeds | {name: np.zeros(start.shape, start.dtype) for name, start in past.items()}
