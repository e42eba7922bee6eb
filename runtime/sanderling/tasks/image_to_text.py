"""`image-to-text`: a caption of a picture, by a vision encoder once and a decoder step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode.names import CROSS
from sanderling.decode.settings import GenerationOptions
from sanderling.engines import Engines
from sanderling.errors import InputError
from sanderling.fronts import ImageFront
from sanderling.generations import Generation, Generations, TextStream
from sanderling.manifest import GenerationOutput
from sanderling.model import Answers, in_thread
from sanderling.placement import Placement, together
from sanderling.plan import Plan
from sanderling.preprocess.text import TextEncoder
from sanderling.results import Timing
from sanderling.session import Arrays, Held
from sanderling.tasks.generating import Clock, Generator, Given

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput


class ImageToText(Generator):
    """Says what is to be seen in pictures."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: ImageFront,
        seeing: Engines,
        speaking: Engines,
        head: GenerationOutput,
        encoder: TextEncoder,
    ) -> None:
        super().__init__(bundle, plan, front, seeing, speaking.single, head, encoder)
        self._speaking = speaking
        self._pictures = front
        self._start = np.array(head.start_token_ids, np.int64)

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        images: ImageInput,
        *,
        text: str = "",
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        images: Iterable[ImageInput],
        *,
        text: str = "",
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generations: ...
    def generate(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        text: str = "",
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """Caption one picture, or each of a list; `options` are fields of the bundle's `settings` to be others.

        A caption goes on from `text`, where that is given, which is no part of the result's. The other arguments are
        as of text generation. The vision encoder runs once a picture, whatever the beams.
        One picture gives a Generation, a list Generations. Raises InputError: no picture, settings out of range;
        InferenceError, CancelledError, DeadlineError.
        """
        clock, asked, start = Clock(), self._asked(options, stop, seed), self._begun(text)
        items, single = self.front.items(images)
        self._engines.check()
        size = 1 if asked.settings.num_beams > 1 else min(self._together, max(1, self.plan.image_budget))
        found: list[Generation] = []
        for first in range(0, len(items), size):
            places = range(first, min(first + size, len(items)))
            given, fixed = self._seen([items[place] for place in places], start, cancellation)
            clock.prepared()
            found += self._continued(given, places, fixed, asked, clock, cancellation)
        return found[0] if single else Generations(tuple(found), clock.timing())

    __call__ = generate

    def stream(
        self,
        image: ImageInput,
        *,
        text: str = "",
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> TextStream:
        """Caption one picture piece by piece: an iterator of pieces of text, whose `result` is there at its end.

        Arguments and errors as of `generate`; with beams no token is certain before the end, so that they are refused.
        """
        clock, asked, start = Clock(), self._asked(options, stop, seed), self._begun(text)
        self._check_streamed(asked)
        items, single = self.front.items(image)
        if not single:
            raise InputError("stream() was given several pictures; one was expected.")
        self._engines.check()

        def pieces() -> Iterator[str | Generation]:
            (given,), fixed = self._seen(items, start, cancellation)
            clock.prepared()
            yield from self._streamed(given, fixed, asked, clock, cancellation)

        return TextStream(pieces())

    async def acall(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        text: str = "",
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """As `generate`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.generate
        return await in_thread(
            lambda cancellation: call(images, text=text, stop=stop, seed=seed, cancellation=cancellation, **options)
        )

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of both graphs together."""
        return together(self.provider, [part.single.placement for part in (self._engines, self._speaking)])

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of both graphs, with each provider's share of the time that the vision encoder takes.

        What the decoder takes depends on what is said; arguments are as with every model.
        """
        found = super().measure_placement(inputs, runs)
        return replace(self.placement, seconds=found.seconds)

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        super().close()
        self._speaking.close()

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The logits of each caption's first token: rows of the shape (n, vocabulary), float32."""
        self._engines.check()
        clock = Clock()
        prepared = self.front.prepare(items, prompt, cancellation)
        rows, reports = [np.empty((0, self._head.vocabulary), np.float32)], []
        for batch in self.front.batches(prepared):
            given, fixed = self._seen([prepared[place] for place in batch], self._start, cancellation)
            rows.append(self._steps(fixed).start([one.tokens for one in given], cancellation))
            reports += [one.report for one in given]
        found = np.concatenate(rows)
        if not np.isfinite(found).all():
            raise self._not_finite(", ".join(map(str, np.flatnonzero(~np.isfinite(found).all(axis=1)))))
        return Answers(found, tuple(reports), Timing(0.0, clock.timing().total, 0.0))

    def held(self, pixel_values: NDArray[np.float32]) -> Held:
        """What the decoder is told of pictures (n, 3, height, width): keys and values, where the provider computes."""
        return self._hold({self.bundle.manifest.components["vision_encoder"].inputs[0].name: pixel_values}, None)

    @property
    def start(self) -> NDArray[np.int64]:
        """The tokens (n,) that every caption begins with."""
        return self._start

    def _seen(
        self, images: list[Any], start: NDArray[np.int64], cancellation: Cancellation | None
    ) -> tuple[list[Given], Held]:
        """Pictures through the vision encoder: each one's beginning, and what the decoder is told of all."""
        if cancellation is not None:
            cancellation.check()
        feeds, reports = self.front.feeds(images)
        return [Given(start, report) for report in reports], self._hold(feeds, cancellation)

    def _hold(self, feeds: Arrays, cancellation: Cancellation | None) -> Held:
        held = self._engines.single.hold(feeds, cancellation)
        return held.renamed({name: name for name in self._crossed})

    @property
    def _crossed(self) -> list[str]:
        return [spec.name for spec in self._component.inputs if spec.name.startswith(CROSS)]

    def _begun(self, text: str) -> NDArray[np.int64]:
        """What a caption begins with: the model's own tokens, then those of `text`."""
        if not isinstance(text, str):
            raise InputError(f"text is of type {type(text).__name__}; a text (str) was expected.")
        found = np.concatenate([self._start, self._encoder.bare(text)]) if text else self._start
        if len(found) >= self.context:
            raise InputError(f"text has {len(found):,} tokens with those before it; the context has {self.context:,}.")
        return found
