"""`feature-extraction` and `image-feature-extraction`: texts, images or sounds to vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import components, heads, precisions, spaces
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.fronts import Front
from sanderling.heads import Layer
from sanderling.model import Model, in_thread, windows
from sanderling.plan import Plan
from sanderling.precisions import Precision
from sanderling.results import Embedding, Embeddings, InputReport, TextReport
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.fronts import Input


class EmbeddingModel(Model):
    """Turns inputs into vectors of one embedding space."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: Front,
        engines: Engines,
        head: EmbeddingOutput,
        space: str,
        dense: Sequence[Layer] = (),
        dimensions: int | None = None,
        component: str | None = None,
    ) -> None:
        name = next(iter(bundle.manifest.components)) if component is None else component
        kept = head.dimension if dimensions is None else whole_number("dimensions", dimensions, head.dimension)
        super().__init__(bundle, plan, front, engines, kept)
        self._kept = kept
        self._head = head
        self._dense = dense
        self._whole = space
        self._component = name
        own = components.head(bundle.manifest, name)
        changed = isinstance(own, EmbeddingOutput) and own.normalize != head.normalize
        self.space = spaces.derived(
            space,
            dimensions=kept if kept < head.dimension else None,
            normalize=head.normalize if changed else None,
        )
        variant = bundle.manifest.components[name].variants[plan.variant]
        stated = variant.drift.cosine.min if variant.drift is not None else None
        # What was measured of whole vectors says nothing of shorter ones.
        self._drift = stated if kept == head.dimension else None

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._kept

    @property
    def normalized(self) -> bool:
        """Whether vectors have the length 1 (in float32)."""
        return self._head.normalize

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name: what is put before a text."""
        text = self.bundle.manifest.preprocessing.text
        return dict(text.prompts) if text is not None and self.modality == "text" else {}

    def reshaped(self, dimensions: int | None = None, normalize: bool | None = None) -> EmbeddingModel:
        """The same model with vectors of their first `dimensions` numbers (Matryoshka), normalized or not.

        It shares the sessions: closing one closes both. Its `space` is another where its vectors are. Raises InputError
        for more dimensions than the model has.
        """
        kept = self._kept if dimensions is None else whole_number("dimensions", dimensions, self._head.dimension)
        head = self._head if normalize is None else replace(self._head, normalize=bool(normalize))
        if kept == self._kept and head.normalize == self._head.normalize:
            return self
        return type(self)(
            self.bundle,
            self.plan,
            self.front,
            self._engines,
            head,
            self._whole,
            self._dense,
            dimensions=kept,
            component=self._component,
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        inputs: Input,
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
        cancellation: Cancellation | None = None,
    ) -> Embedding: ...
    @overload
    def __call__(
        self,
        inputs: Iterable[Input],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
        cancellation: Cancellation | None = None,
    ) -> Embeddings: ...
    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
        cancellation: Cancellation | None = None,
    ) -> Embedding | Embeddings:
        """Embed one input, or each of a list.

        `prompt` names one of the model's prompts ("query", "passage"), for models that have them; `cancellation` ends
        the call early. `dimensions` keeps the first so many numbers, as Matryoshka models are trained for; `normalize`
        says whether vectors are divided by their length (default for both: as the model is). `precision` is of the
        vectors, not of the graph: "float32", "float16", "int8" or "binary" (see Embeddings); what it costs was measured
        at export, and `sanderling inspect --drift` shows it.
        One input gives an Embedding (`.embedding` of the shape (d,)), a list gives Embeddings
        (`.embeddings` of the shape (n, d)). Raises InputError for what is no input of this model.
        """
        model = self if dimensions is None and normalize is None else self.reshaped(dimensions, normalize)
        items, single = model.front.items(inputs)
        if precision != "float32":
            precisions.check(precision, model.dimension)
        answers = model.answer(items, prompt, cancellation)
        rows, scales = (answers.rows, None) if precision == "float32" else precisions.compress(answers.rows, precision)
        of_all = (model.space, model.variant, answers.timing, model._drift, precision)
        if single:
            return Embedding(rows[0], answers.reports[0], *of_all, None if scales is None else float(scales[0]))
        return Embeddings(rows, answers.reports, *of_all, scales)

    def stream(
        self,
        inputs: Iterable[Input],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
        cancellation: Cancellation | None = None,
    ) -> Iterator[Embedding]:
        """Embed any iterable, also one without end, in bounded memory: embeddings in input order as they are ready."""
        model = self.reshaped(dimensions, normalize)
        for window in windows(inputs):
            yield from model(window, prompt=prompt, precision=precision, cancellation=cancellation)

    @overload
    async def acall(  # type: ignore[overload-overlap]
        self,
        inputs: Input,
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
    ) -> Embedding: ...
    @overload
    async def acall(
        self,
        inputs: Iterable[Input],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
    ) -> Embeddings: ...
    async def acall(
        self,
        inputs: Input | Iterable[Input],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        precision: Precision = "float32",
    ) -> Embedding | Embeddings:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(
                inputs,
                prompt=prompt,
                dimensions=dimensions,
                normalize=normalize,
                precision=precision,
                cancellation=cancellation,
            )
        )

    def _rows(self, outputs: Arrays, feeds: Arrays, reports: Sequence[InputReport]) -> NDArray[np.float32]:
        if self._head.include_prompt:
            return self._reduce(outputs, feeds)
        return self._reduce(outputs, feeds, [r.prompt_tokens if isinstance(r, TextReport) else 0 for r in reports])

    def _reduce(self, outputs: Arrays, feeds: Arrays, skipped: Sequence[int] = ()) -> NDArray[np.float32]:
        kept = self._kept if self._kept < self._head.dimension else None
        return heads.embed(outputs, feeds, self._head, dense=self._dense, skipped=skipped, dimensions=kept)
