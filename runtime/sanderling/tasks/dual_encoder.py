"""`zero-shot-image-classification`: images decided among free labels, by the vectors of both."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling import heads, spaces
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import InputError
from sanderling.model import in_thread, windows
from sanderling.plan import Plan
from sanderling.results import (
    Classification,
    Classifications,
    Embedding,
    Embeddings,
    InputReport,
    TextReport,
    Timing,
)
from sanderling.schema.answers import ContrastiveOutput
from sanderling.tasks import label_cache
from sanderling.tasks.feature_extraction import EmbeddingModel
from sanderling.tasks.towers import Towers
from sanderling.tasks.zero_shot import checked_labels, decision

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput

# Sets of labels whose vectors are kept: an application asks with the same few over and over.
_KEPT_SETS = 32
# Templates times labels of one call: an hour's work for a small model.
_MOST_TEXTS = 1_000_000
# Texts whose vectors are held at a time while templates are averaged.
_TEXTS_AT_ONCE = 4096
_HALF = 0.5


class DualEncoder(Towers):
    """Two towers that give texts and images vectors of one space, so that they can be compared.

    Called with images and labels it decides among them. `text_encoder` and `vision_encoder` are embedding models of
    their own, for `sanderling.Index`, streams and all else that takes one; `load(bundle, components="text_encoder")`
    loads one of them alone.
    """

    def __init__(
        self, bundle: Bundle, plan: Plan, text: EmbeddingModel, vision: EmbeddingModel, head: ContrastiveOutput
    ) -> None:
        super().__init__(bundle, plan, text, vision)
        self._head = head
        self._sets: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def templates(self) -> tuple[str, ...]:
        """The sentences that a label is put into where a call says no others."""
        return self._head.templates

    @property
    def temperature(self) -> float:
        """What logits are divided by where a call says nothing else."""
        return self._head.temperature

    @property
    def activation(self) -> Literal["softmax", "sigmoid"]:
        """How logits become scores: "softmax" (they add up to 1) or "sigmoid" (each label by itself)."""
        return self._head.activation

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        images: ImageInput | Embedding,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Classification: ...
    @overload
    def __call__(
        self,
        images: Iterable[ImageInput] | Embeddings,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Classifications: ...
    def __call__(
        self,
        images: ImageInput | Embedding | Iterable[ImageInput] | Embeddings,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Classification | Classifications:
        """Decide one image, or each of a list, among `labels`; `top_k` of them are given, best first (default: all).

        `templates` are sentences with one `{}` for the label (default: the bundle's); `temperature` is what logits are
        divided by. Vectors that this model gave before may stand in for images. The vectors of a set of labels are made
        once, and kept in memory and in the user's cache: another image with the same labels costs the vision tower
        alone. With the activation "sigmoid" the labels from 0.5 on are `selected`, else the best one.
        Raises InputError for labels that are none, a label that the model cannot read to its end, or a template without
        a place for the label; ImageError for what is no image; SpaceError for vectors of another model.
        """
        names = checked_labels(labels)
        count = len(names) if top_k is None else whole_number("top_k", top_k)
        known = self.label_vectors(names, templates=templates, cancellation=cancellation)
        given = self._embedded(images, cancellation)
        logits = self._logits(given.floats, known, temperature)
        scores = heads.softmax(logits) if self._head.activation == "softmax" else heads.sigmoid(logits)
        threshold = None if self._head.activation == "softmax" else _HALF
        decided = tuple(
            decision(names, row, row, own, report, self.variant, given.timing, count, threshold)
            for row, own, report in zip(logits, scores, given.reports, strict=True)
        )
        if given.single:
            return decided[0]
        return Classifications(decided, logits, given.timing)

    def stream(
        self,
        images: Iterable[ImageInput],
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[Classification]:
        """Decide any iterable of images, also one without end, in bounded memory, in input order."""
        for window in windows(images):
            yield from self(
                window,
                labels,
                templates=templates,
                temperature=temperature,
                top_k=top_k,
                cancellation=cancellation,
            )

    async def acall(
        self,
        images: ImageInput | Embedding | Iterable[ImageInput] | Embeddings,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
    ) -> Classification | Classifications:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(
                images,
                labels,
                templates=templates,
                temperature=temperature,
                top_k=top_k,
                cancellation=cancellation,
            )
        )

    def label_vectors(
        self,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str | None = None,
        cancellation: Cancellation | None = None,
    ) -> NDArray[np.float32]:
        """The vectors of labels, (labels, dimension), float32, of length 1: of several templates the mean of theirs.

        They are kept for the next call, and for the next process. Raises as calling the model does.
        """
        names = checked_labels(labels)
        worded = self._templates(templates)
        if len(names) * len(worded) > _MOST_TEXTS:
            raise InputError(
                f"{len(names):,} labels in {len(worded):,} templates are {len(names) * len(worded):,} texts; at most "
                f"{_MOST_TEXTS:,} were expected."
            )
        key = (names, worded)
        with self._lock:
            if key in self._sets:
                self._sets.move_to_end(key)
                return self._sets[key]
        self._engines.check()
        found = label_cache.read(self.text_encoder, names, worded)
        if found is None:
            found = self._labelled(names, worded, cancellation)
            label_cache.write(self.text_encoder, names, worded, found)
        found.flags.writeable = False
        with self._lock:
            self._sets[key] = found
            while len(self._sets) > _KEPT_SETS:
                self._sets.popitem(last=False)
        return found

    def _embedded(self, images: Any, cancellation: Cancellation | None) -> _Given:
        if isinstance(images, Embedding | Embeddings):
            if images.space != self.space:
                raise spaces.refuse_mixed(images.space, self.space)
            single = isinstance(images, Embedding)
            rows = images.floats[None] if isinstance(images, Embedding) else images.floats
            reports = (images.report,) if isinstance(images, Embedding) else images.reports
            return _Given(heads.unit(rows), reports, Timing(0.0, 0.0, 0.0), single)
        items, single = self.vision_encoder.front.items(images)
        answers = self.vision_encoder.answer(items, None, cancellation)
        return _Given(heads.unit(answers.rows), answers.reports, answers.timing, single)

    def _labelled(
        self, names: tuple[str, ...], templates: tuple[str, ...], cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        """The labels' vectors, made: so many labels at a time that all their templates are bounded."""
        step = max(1, _TEXTS_AT_ONCE // len(templates))
        parts = []
        for first in range(0, len(names), step):
            some = names[first : first + step]
            texts = [template.replace("{}", name) for name in some for template in templates]
            answers = self.text_encoder.answer(list(texts), None, cancellation)
            for text, report in zip(texts, answers.reports, strict=True):
                if isinstance(report, TextReport) and not report.complete:
                    raise InputError(
                        f"The label {text[:80]!r} takes {report.tokens + report.tokens_lost:,} tokens or more, of "
                        f"which the model reads {report.tokens}. Shorten it."
                    )
            vectors = heads.unit(answers.rows).reshape(len(some), len(templates), -1)
            parts.append(heads.unit(vectors.mean(axis=1)) if len(templates) > 1 else vectors[:, 0])
        return np.ascontiguousarray(np.concatenate(parts))

    def _templates(self, given: Sequence[str] | str | None) -> tuple[str, ...]:
        if given is None:
            return self._head.templates
        listed = (given,) if isinstance(given, str) else tuple(given)
        for template in listed:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise InputError(f"The template is {template!r}; a text with one {{}}, for the label, was expected.")
        if not listed:
            raise InputError('templates is empty; at least one was expected ("{}" is the bare label).')
        return listed

    def _logits(
        self, rows: NDArray[np.float32], known: NDArray[np.float32], temperature: float | None
    ) -> NDArray[np.float32]:
        divisor = self._head.temperature if temperature is None else temperature
        if isinstance(divisor, bool) or not isinstance(divisor, int | float) or not 0 < divisor < float("inf"):
            raise InputError(f"temperature is {divisor!r}; a finite number above 0 was expected.")
        scaled = (rows @ known.T) * np.float32(self._head.logit_scale) + np.float32(self._head.logit_bias)
        return np.asarray(scaled / np.float32(divisor), np.float32)


class _Given(Struct, frozen=True, eq=False):
    """Images as unit vectors (n, d), and whether it was a single one that was handed over."""

    floats: NDArray[np.float32]
    reports: tuple[InputReport, ...]
    timing: Timing
    single: bool
