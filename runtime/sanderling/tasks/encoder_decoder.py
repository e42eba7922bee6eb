"""Models whose decoder is told what another graph made of an input: a picture seen or a sound heard, once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from copy import copy
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.decode.names import CROSS
from sanderling.engines import Engines
from sanderling.fronts import Front
from sanderling.generation.rules import AUDIO_ENCODER, DECODER, VISION_ENCODER
from sanderling.model import Answers
from sanderling.placement import Placement, together
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.results import InputReport, Timing
from sanderling.schema.generation import GenerationOutput
from sanderling.session import Arrays, Engine, Held
from sanderling.tasks.generating import Clock, Generator


class EncoderDecoder(Generator):
    """A generator of two graphs or more: `encoding` reads the inputs, `speaking` generates.

    `others` are graphs beside these.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: Front,
        encoding: Engines,
        speaking: Engines,
        head: GenerationOutput,
        encoder: TextEncoder,
        others: Sequence[Engines] = (),
    ) -> None:
        super().__init__(bundle, plan, front, encoding, speaking.single, head, encoder)
        self._parts = (encoding, *others, speaking)

    @property
    def start(self) -> NDArray[np.int64]:
        """The tokens (n,) that every sequence begins with, unless a call says otherwise."""
        return np.array(self._head.start_token_ids, np.int64)

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of all graphs together, and of each (`graphs`)."""
        return together(
            self.provider, {name: part.single.placement for name, part in zip(self._names, self._parts, strict=True)}
        )

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of all graphs, with each provider's share of the time that they take while the inputs are
        answered in full, every step of the decoder included; `placement` has it from now on.

        Arguments are as with every model. A second session of each graph is built for it, and freed again.
        """
        from sanderling.golden import inputs_of, read_golden  # only for those who measure

        items = list(inputs_of(self.bundle, read_golden(self.bundle), self.takes) if inputs is None else inputs)
        passes = whole_number("runs", runs) + 1
        with ExitStack() as stack:
            engines = [stack.enter_context(part.single.profiled(passes)) for part in self._parts]
            twin = self._twin(engines)
            for _ in range(passes):
                twin._answered(items)
        return self.placement

    def _twin(self, engines: Sequence[Engine]) -> Self:
        """The same model on other engines, in the order of its parts."""
        twin = copy(self)
        twin._parts = tuple(Engines(engine, 1, partial(_itself, engine)) for engine in engines)
        twin._engines, twin._decoder = twin._parts[0], engines[-1]
        return twin

    def _answered(self, items: list[Any]) -> None:
        """Answer inputs in full, by all graphs."""
        call: Any = self
        call(items)

    @property
    def _names(self) -> tuple[str, ...]:
        """The components of the parts: what encodes, others, what generates."""
        known = self.bundle.manifest.components
        encoder = next(name for name in (AUDIO_ENCODER, VISION_ENCODER) if name in known)
        return encoder, *(name for name in known if name not in (encoder, DECODER)), DECODER

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        for part in self._parts:
            part.close()

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The logits of each sequence's first token behind `start`: rows (n, vocabulary), float32."""
        self._engines.check()
        clock = Clock()
        prepared = self.front.prepare(items, prompt, cancellation)
        rows = [np.empty((0, self._head.vocabulary), np.float32)]
        reports: list[InputReport] = []
        for batch in self.front.batches(prepared):
            if cancellation is not None:
                cancellation.check()
            feeds, told = self.front.feeds([prepared[place] for place in batch])
            steps = self._steps(self._hold(feeds, cancellation))
            rows.append(steps.start([self.start] * len(batch), cancellation))
            reports += told
        found = np.concatenate(rows)
        self._check_finite(found)
        return Answers(found, tuple(reports), Timing(0.0, clock.timing().total, 0.0))

    def held(self, values: NDArray[np.float32]) -> Held:
        """What the decoder is told of the encoder's input (n, ...), pixels or spectrograms: keys and values, where the
        provider computes."""
        return self._hold({self._encoded: values}, None)

    @property
    def _encoded(self) -> str:
        """What the encoder's input is called."""
        known = self.bundle.manifest.components
        return known[self._names[0]].inputs[0].name

    def _hold(self, feeds: Arrays, cancellation: Cancellation | None) -> Held:
        return self._crossed(self._engines.single.hold(feeds, cancellation))

    def _crossed(self, held: Held) -> Held:
        """Of what a graph left, the keys and values that the decoder's layers look at."""
        return held.renamed({spec.name: spec.name for spec in self._component.inputs if spec.name.startswith(CROSS)})

    def _check_finite(self, rows: NDArray[np.float32]) -> None:
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise self._not_finite(", ".join(map(str, np.flatnonzero(~finite))))


def _itself(engine: Engine) -> Engine:
    return engine
