"""`feature-extraction`: texts to vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.engines import Engines
from sanderling.fronts import Front
from sanderling.manifest import EmbeddingOutput
from sanderling.model import Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.results import Embedding, Embeddings
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput, Input, TextInput


class EmbeddingModel(Model):
    """Turns inputs into vectors of one embedding space."""

    def __init__(
        self, bundle: Bundle, plan: Plan, front: Front, engines: Engines, head: EmbeddingOutput, space: str
    ) -> None:
        super().__init__(bundle, plan, front, engines, head.dimension)
        self._head = head
        self.space = space
        (component,) = bundle.manifest.components.values()
        stated = component.variants[plan.variant].drift
        self._drift = stated.cosine.min if stated is not None else None

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._head.dimension

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, inputs: TextInput | ImageInput, *, prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> Embedding: ...
    @overload
    def __call__(
        self, inputs: Iterable[Input], *, prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> Embeddings: ...
    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        prompt: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> Embedding | Embeddings:
        """Embed one input, or each of a list.

        `prompt` names one of the model's prompts ("query", "passage"), for models that have them; `cancellation` ends
        the call early.
        One input gives an Embedding (`.embedding` of the shape (d,), float32), a list gives Embeddings
        (`.embeddings` of the shape (n, d)). Raises InputError for what is no input of this model.
        """
        items, single = self.front.items(inputs)
        answers = self.answer(items, prompt, cancellation)
        of_all = (self.space, self.variant, answers.timing, self._drift)
        if single:
            return Embedding(answers.rows[0], answers.reports[0], *of_all)
        return Embeddings(answers.rows, answers.reports, *of_all)

    def stream(
        self, inputs: Iterable[Input], *, prompt: str | None = None, cancellation: Cancellation | None = None
    ) -> Iterator[Embedding]:
        """Embed any iterable, also one without end, in bounded memory: embeddings in input order as they are ready."""
        for window in windows(inputs):
            yield from self(window, prompt=prompt, cancellation=cancellation)

    @overload
    async def acall(self, inputs: TextInput | ImageInput, *, prompt: str | None = None) -> Embedding: ...  # type: ignore[overload-overlap]
    @overload
    async def acall(self, inputs: Iterable[Input], *, prompt: str | None = None) -> Embeddings: ...
    async def acall(self, inputs: Input | Iterable[Input], *, prompt: str | None = None) -> Embedding | Embeddings:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self(inputs, prompt=prompt, cancellation=cancellation))

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[np.float32]:
        return heads.embed(outputs, feeds, self._head)
