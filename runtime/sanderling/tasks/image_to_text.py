"""`image-to-text`: a caption of a picture, by a vision encoder once and a decoder step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from sanderling.cancellation import Cancellation
from sanderling.decode.settings import GenerationOptions
from sanderling.errors import InputError
from sanderling.generation.results import Generation, Generations, TextStream
from sanderling.model import in_thread
from sanderling.session import Held
from sanderling.tasks.encoder_decoder import EncoderDecoder
from sanderling.tasks.generating import Clock, Given

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput


class ImageToText(EncoderDecoder):
    """Says what is to be seen in pictures."""

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

    def _seen(
        self, images: list[Any], start: NDArray[np.int64], cancellation: Cancellation | None
    ) -> tuple[list[Given], Held]:
        """Pictures through the vision encoder: each one's beginning, and what the decoder is told of all."""
        if cancellation is not None:
            cancellation.check()
        feeds, reports = self.front.feeds(images)
        return [Given(start, report) for report in reports], self._hold(feeds, cancellation)

    def _begun(self, text: str) -> NDArray[np.int64]:
        """What a caption begins with: the model's own tokens, then those of `text`."""
        if not isinstance(text, str):
            raise InputError(f"text is of type {type(text).__name__}; a text (str) was expected.")
        found = np.concatenate([self.start, self._encoder.bare(text)]) if text else self.start
        if len(found) >= self.context:
            raise InputError(f"text has {len(found):,} tokens with those before it; the context has {self.context:,}.")
        return found
