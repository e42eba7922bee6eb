"""How far an answer moves with its batch mates and its padding, measured on the graph as the runtime runs it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import cores, heads
from sanderling.bundle import open_bundle
from sanderling.heads import Layer
from sanderling.loading import assemble
from sanderling.manifest import Postprocessing
from sanderling.pairs import TextPair
from sanderling.plan import TOKEN_BUDGET, default_plan
from sanderling.preprocess.text import Encoded, TextEncoder
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import TextPreprocessing
from sanderling.schema.variants import Component, Form, Invariance
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput
from sanderling.session import Session
from sanderling.verification import cosines

# Padding tokens added to a text that is answered alone: none changes nothing, and shows that runs repeat.
_PADDINGS = (0, 1, 16, 100)
_MATES = 8
_SEED = 20240501


def among_mates(root: Path, variant: str, items: Sequence[object], component: str | None = None) -> Invariance:
    """Minimum cosine of each input's answer among batch mates to its answer alone, by the runtime's own batches.

    Images have no padding; vectors of tokens have that of their mates.
    """
    bundle = open_bundle(root, integrity="full")
    order = _shuffled(len(items))
    plan = default_plan(variant, "cpu", cores.granted(), batch_invariant=True)
    with assemble(bundle, plan, components=component) as model:
        alone = model.answer([items[i] for i in order]).rows
    with assemble(bundle, replace(plan, image_budget=_MATES, token_budget=TOKEN_BUDGET), components=component) as model:
        groups = [order[start : start + _MATES] for start in range(0, len(order), _MATES)]
        mixed = np.concatenate([model.answer([items[i] for i in group]).rows for group in groups])
    return Invariance(float(cosines(mixed, alone).min()))


def _shuffled(count: int) -> list[int]:
    order = list(range(count))
    random.Random(_SEED).shuffle(order)
    return order


class TextProbe:
    """Runs a text variant in ways of batching and padding that the runtime's own schedule would not choose."""

    def __init__(
        self,
        root: Path,
        form: Form,
        component: Component,
        text: TextPreprocessing,
        head: Postprocessing,
        dense: Sequence[Layer] = (),
    ) -> None:
        self._names = [spec.name for spec in component.inputs]
        self._head = head
        self._dense = dense
        self._limit = text.max_tokens
        # A model that sees the padding always sees all of it.
        self._full = text.max_tokens if text.padding == "max_tokens" else 0
        self._encoder = TextEncoder((root / text.tokenizer).read_bytes(), text, text.tokenizer)
        self._session = Session(root / form.graph, component, threads=cores.granted(), optimized=form.optimized)

    def measure(self, texts: Sequence[str | TextPair]) -> Invariance:
        """Minimum cosine of each text's answer to the same text alone, among batch mates, and with padding."""
        encoded = [e for e in self._encoder.encode(texts) if e.length]
        alone = np.concatenate([self._run([e]) for e in encoded])
        order = _shuffled(len(encoded))
        mixed = np.empty_like(alone)
        for start in range(0, len(order), _MATES):
            mates = order[start : start + _MATES]
            mixed[mates] = self._run([encoded[i] for i in mates])
        padding = {}
        for extra in () if self._full else _PADDINGS:
            fitting = [i for i, e in enumerate(encoded) if e.length + extra <= self._limit]
            if fitting:
                padded = np.concatenate([self._run([encoded[i]], extra) for i in fitting])
                padding[str(extra)] = float(cosines(padded, alone[fitting]).min())
        self._session.close()
        return Invariance(float(cosines(mixed, alone).min()), padding)

    def _run(self, batch: Sequence[Encoded], extra: int = 0) -> NDArray[np.float32]:
        length = self._full or max(e.length for e in batch) + extra
        feeds: dict[str, Any] = self._encoder.pad(batch, self._names, length)
        outputs = self._session.run(feeds)
        if isinstance(self._head, ClassificationOutput):
            return heads.classify(outputs, self._head)
        if isinstance(self._head, SparseOutput):
            return heads.sparse(outputs, feeds, self._head)
        assert isinstance(self._head, EmbeddingOutput)  # a text's answer is one of the two
        skipped = [encoded.report.prompt_tokens for encoded in batch]
        return heads.embed(outputs, feeds, self._head, dense=self._dense, skipped=skipped)
