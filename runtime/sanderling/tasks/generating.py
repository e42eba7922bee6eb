"""What models that generate have in common: prompts in, tokens one after the other, text out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode import loop
from sanderling.decode.loop import Limit, Row, Sequenced
from sanderling.decode.pieces import Pieces, without_blanks
from sanderling.decode.settings import settled, stop_strings
from sanderling.decode.steps import CachedSteps
from sanderling.engines import Engines
from sanderling.errors import GraphError, InputError
from sanderling.fronts import Front
from sanderling.generation.results import Generation, GenerationTiming
from sanderling.generation.rules import DECODER
from sanderling.model import Model
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.results import InputReport
from sanderling.schema.generation import GenerationOutput, GenerationSettings
from sanderling.session import Arrays, Engine, Held

if TYPE_CHECKING:
    from collections.abc import Mapping

# Prompts that are continued side by side: their caches are in memory together.
_SIDE_BY_SIDE = 8
_MAX_SEED = 2**63


class Asked(Struct, frozen=True):
    """What one call asks for."""

    settings: GenerationSettings
    stops: tuple[str, ...]
    seed: int


class Given(Struct, frozen=True, eq=False):
    """One input on its way: the tokens that a sequence begins with, what became of the input, and how many tokens
    another graph read before."""

    tokens: NDArray[np.int64]
    report: InputReport
    before: int = 0


class Clock:
    """The moments of one call, in seconds from its beginning."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.preprocess = self.first_token = 0.0

    def prepared(self) -> None:
        """The inputs are ready; what is later counts as running."""
        self.preprocess = self.preprocess or self._now()

    def token(self) -> None:
        """A token is there; the first one is what counts."""
        self.first_token = self.first_token or self._now()

    def timing(self) -> GenerationTiming:
        """The call as it stands now."""
        total = self._now()
        return GenerationTiming(self.preprocess, self.first_token or total, total)

    def _now(self) -> float:
        return time.perf_counter() - self._started


class Generator(Model):
    """A model with a decoder that runs step by step."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: Front,
        engines: Engines,
        decoder: Engine,
        head: GenerationOutput,
        encoder: TextEncoder,
    ) -> None:
        super().__init__(bundle, plan, front, engines, head.vocabulary)
        self._decoder = decoder
        self._head = head
        self._encoder = encoder
        self._component = bundle.manifest.components[DECODER]

    @property
    def settings(self) -> GenerationSettings:
        """What a call does unless it says otherwise: the bundle's settings."""
        return self._head.settings

    @property
    def context(self) -> int:
        """Tokens that a sequence may have, those of the prompt included."""
        return self._head.context

    def _asked(self, options: Mapping[str, Any], stop: str | Sequence[str], seed: int) -> Asked:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _MAX_SEED:
            raise InputError(f"seed is {seed!r}; a whole number from 0 to 2^63 - 1 was expected.")
        return Asked(settled(self._head.settings, options), stop_strings(stop), seed)

    def _check_streamed(self, asked: Asked) -> None:
        """Raise InputError for beams, which have no text before their end."""
        if asked.settings.num_beams > 1:
            raise InputError(
                f"Beams (num_beams is {asked.settings.num_beams}) have no text before their end; use generate(), or "
                "num_beams=1."
            )

    @property
    def _together(self) -> int:
        """Inputs that are continued side by side."""
        return 1 if self.plan.batch_invariant else _SIDE_BY_SIDE

    def _limit(self, prompt: NDArray[np.int64], asked: Asked) -> Limit:
        room, wanted = self._head.context - len(prompt), asked.settings.max_new_tokens
        return Limit(wanted, "length") if wanted <= room else Limit(room, "context")

    def _steps(self, fixed: Held | None) -> CachedSteps:
        pad = self._encoder.settings.pad_token_id
        return CachedSteps(self._decoder, self._component, self._head.output, pad, fixed)

    def _row(self, tokens: NDArray[np.int64], asked: Asked, place: int) -> Row:
        # Each row draws from numbers of its own: what is drawn for one does not depend on the others.
        random = np.random.default_rng([asked.seed, place]) if asked.settings.do_sample else None
        return Row(tokens, self._limit(tokens, asked), random)

    def _pieces(self, asked: Asked) -> Pieces:
        return Pieces(self._encoder.text, asked.stops, clean=self._head.clean_up_spaces)

    def _continued(
        self,
        given: Sequence[Given],
        places: Sequence[int],
        fixed: Held | None,
        asked: Asked,
        clock: Clock,
        cancellation: Cancellation | None,
    ) -> list[Generation]:
        """Sequences for inputs side by side; `places` are those of the inputs in the call."""
        if asked.settings.num_beams > 1:
            (one,) = given  # beams are searched for one input at a time
            return [self._searched(one, fixed, asked, clock, cancellation)]
        rows = [self._row(one.tokens, asked, place) for one, place in zip(given, places, strict=True)]
        texts = [self._pieces(asked) for _ in rows]

        def stopped(place: int, token: int) -> bool:
            if asked.stops:
                texts[place].add(token)
            return texts[place].stopped

        for _ in loop.rows(
            self._steps(fixed), rows, asked.settings, self._head.stop_token_ids, stopped, cancellation
        ):  # fmt: skip
            clock.token()
        found = []
        for one, row, pieces in zip(given, rows, texts, strict=True):
            assert row.reason is not None  # the loop ends when all rows have one
            sequenced = Sequenced(tuple(row.tokens), row.reason)
            found.append(self._generation(one, sequenced, clock.timing(), pieces if asked.stops else None, asked))
        return found

    def _searched(
        self, one: Given, fixed: Held | None, asked: Asked, clock: Clock, cancellation: Cancellation | None
    ) -> Generation:
        def stops(sequences: NDArray[np.int64]) -> NDArray[np.bool_]:
            if not asked.stops:
                return np.zeros(len(sequences), bool)
            texts = [self._text(tokens) for tokens in sequences.tolist()]
            return np.array([any(stop in text for stop in asked.stops) for text in texts])

        found = loop.search(
            self._steps(fixed),
            one.tokens,
            asked.settings,
            self._limit(one.tokens, asked),
            self._head.stop_token_ids,
            stops,
            cancellation,
        )
        return self._generation(one, found, clock.timing(), None, asked)

    def _streamed(
        self, one: Given, fixed: Held | None, asked: Asked, clock: Clock, cancellation: Cancellation | None
    ) -> Iterator[str | Generation]:
        """The text of one sequence piece by piece, and at last all of it."""
        row, pieces = self._row(one.tokens, asked, 0), self._pieces(asked)
        latest = ""

        def stopped(_: int, token: int) -> bool:
            nonlocal latest
            latest = pieces.add(token)
            return pieces.stopped

        for _ in loop.rows(
            self._steps(fixed), [row], asked.settings, self._head.stop_token_ids, stopped, cancellation
        ):  # fmt: skip
            clock.token()
            if latest:
                yield latest
            latest = ""
        if rest := pieces.end():
            yield rest
        assert row.reason is not None  # the loop has ended
        sequenced = Sequenced(tuple(row.tokens), row.reason)
        yield self._generation(one, sequenced, clock.timing(), pieces, asked)

    def _generation(
        self, one: Given, found: Sequenced, timing: GenerationTiming, pieces: Pieces | None, asked: Asked
    ) -> Generation:
        if pieces is None:
            pieces = self._pieces(asked)
            for token in found.tokens[:-1] if found.reason == "stop_token" else found.tokens:
                pieces.add(token)
        read = one.before + len(one.tokens)
        return Generation(
            pieces.text, found.tokens, found.reason, read, one.report, self.variant, timing, found.score
        )  # fmt: skip

    def _text(self, tokens: Sequence[int]) -> str:
        text = self._encoder.text(tokens)
        return without_blanks(text) if self._head.clean_up_spaces else text

    def _reduce(self, outputs: Arrays, feeds: Arrays) -> NDArray[Any]:
        """The logits of each input's next token (n, vocabulary)."""
        del feeds
        logits = outputs[self._head.output]
        if logits.ndim != 3 or logits.shape[2] != self._head.vocabulary:
            raise GraphError(
                f"The decoder's output {self._head.output!r} has the shape {logits.shape}; the manifest says a "
                f"vocabulary of {self._head.vocabulary:,}."
            )
        return np.asarray(logits[:, -1], np.float32)

    def forced(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64], fixed: Held | None = None
    ) -> NDArray[np.float32]:
        """Logits (tokens, vocabulary) of each of `tokens` (n,), read one by one behind `start` (m,): what the decoder
        says of each, given those before it, as it would generate them."""
        steps = self._steps(fixed)
        found = [steps.start([start])]
        found += [steps.next(tokens[place : place + 1]) for place in range(len(tokens) - 1)]
        return np.concatenate(found)
