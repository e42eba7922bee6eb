"""`visual-question-answering` in words of the model's own: a picture is seen, a question read, an answer written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.decode.names import IMAGE, INPUT_IDS
from sanderling.decode.settings import GenerationOptions
from sanderling.engines import Engines
from sanderling.errors import InputError
from sanderling.generation.question_front import AskedPicture, QuestionFront
from sanderling.generation.questions import PictureQuestion
from sanderling.generation.results import Generation, Generations, TextStream
from sanderling.model import Answers, in_thread
from sanderling.plan import Plan
from sanderling.results import InputReport, Timing
from sanderling.schema.generation import GenerationOutput
from sanderling.session import Engine, Held
from sanderling.tasks.encoder_decoder import EncoderDecoder
from sanderling.tasks.generating import Clock, Given

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput

    Asked = ImageInput | PictureQuestion | Mapping[str, Any]


class QuestionAnswerer(EncoderDecoder):
    """Answers questions about pictures."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: QuestionFront,
        seeing: Engines,
        reading: Engines | None,
        speaking: Engines,
        head: GenerationOutput,
    ) -> None:
        others = () if reading is None else (reading,)
        super().__init__(bundle, plan, front, seeing, speaking, head, front.encoder, others)
        self._questions = front
        self._reading = reading

    @overload
    def generate(
        self,
        images: ImageInput | PictureQuestion | Mapping[str, Any],
        questions: str | None = None,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        images: Asked | Iterable[Asked],
        questions: str | Iterable[str] | None = None,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations: ...
    def generate(
        self,
        images: Asked | Iterable[Asked],
        questions: str | Iterable[str] | None = None,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """Answer a question about a picture; `options` are fields of the bundle's `settings` to be others.

        Of several pictures one question is asked of each, or as many questions in turn; several questions about one
        picture see it once. A PictureQuestion, or a mapping of `image` and `question`, holds both. The other arguments
        are as of text generation. A single picture and question give a Generation, else Generations.
        Raises InputError: no picture, no question, one that the model cannot read to its end, settings out of range;
        InferenceError, CancelledError, DeadlineError.
        """
        clock, asked = Clock(), self._asked(options, stop, seed)
        items, single = self._questions.asked(images, questions)
        self._engines.check()
        prepared = self._questions.prepare(items, None, cancellation)
        size = 1 if asked.settings.num_beams > 1 else min(self._together, max(1, self.plan.image_budget))
        sight = _Sight()
        found: dict[int, Generation] = {}
        for places in self._questions.groups(prepared, size):
            given, fixed = self._begun([prepared[place] for place in places], sight, cancellation)
            clock.prepared()
            answers = self._continued(given, places, fixed, asked, clock, cancellation)
            found |= dict(zip(places, answers, strict=True))
        ordered = tuple(found[place] for place in range(len(prepared)))
        return ordered[0] if single else Generations(ordered, clock.timing())

    __call__ = generate

    def stream(
        self,
        image: ImageInput | PictureQuestion | Mapping[str, Any],
        question: str | None = None,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> TextStream:
        """Answer one question piece by piece: an iterator of pieces of text, whose `result` is there at its end.

        Arguments and errors as of `generate`; with beams no token is certain before the end, so that they are refused.
        """
        clock, asked = Clock(), self._asked(options, stop, seed)
        self._check_streamed(asked)
        items, single = self._questions.asked(image, question)
        if not single:
            raise InputError("stream() was given several pictures or questions; one of each was expected.")
        self._engines.check()
        prepared = self._questions.prepare(items, None, cancellation)

        def pieces() -> Iterator[str | Generation]:
            (given,), fixed = self._begun(prepared, _Sight(), cancellation)
            clock.prepared()
            yield from self._streamed(given, fixed, asked, clock, cancellation)

        return TextStream(pieces())

    async def acall(
        self,
        images: Asked | Iterable[Asked],
        questions: str | Iterable[str] | None = None,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **options: Unpack[GenerationOptions],
    ) -> Generation | Generations:
        """As `generate`, without blocking the event loop; cancelling the task ends the call."""
        call: Any = self.generate
        return await in_thread(
            lambda cancellation: call(images, questions, stop=stop, seed=seed, cancellation=cancellation, **options)
        )

    def _twin(self, engines: Sequence[Engine]) -> Self:
        twin = super()._twin(engines)
        twin._reading = None if self._reading is None else twin._parts[1]
        return twin

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The logits of each answer's first token: rows of the shape (n, vocabulary), float32."""
        self._engines.check()
        clock = Clock()
        prepared = self._questions.prepare(items, prompt, cancellation)
        rows = np.empty((len(prepared), self._head.vocabulary), np.float32)
        reports: list[InputReport | None] = [None] * len(prepared)
        sight = _Sight()
        for batch in self._questions.batches(prepared):
            given, fixed = self._begun([prepared[place] for place in batch], sight, cancellation)
            rows[batch] = self._steps(fixed).start([one.tokens for one in given], cancellation)
            for place, one in zip(batch, given, strict=True):
                reports[place] = one.report
        self._check_finite(rows)
        known = tuple(report for report in reports if report is not None)
        return Answers(rows, known, Timing(0.0, clock.timing().total, 0.0))

    def begun(self, pixel_values: NDArray[np.float32], input_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], Held]:
        """Of one picture (3, height, width) and the tokens of a question (n,): the tokens that the decoder begins
        with, and what it is told beside them."""
        seen = self._engines.single.hold({self._encoded: pixel_values[None]})
        if self._reading is None:
            return input_ids, seen.renamed({IMAGE: IMAGE})
        return self.start, self._told(self._reading, seen, input_ids[None], None)

    def _begun(
        self, batch: Sequence[AskedPicture], sight: _Sight, cancellation: Cancellation | None
    ) -> tuple[list[Given], Held]:
        """Inputs of one length through the encoders: each one's beginning, and what the decoder is told of all."""
        if cancellation is not None:
            cancellation.check()
        distinct = {id(one.image): one.image for one in batch}
        if sight.seen is None or sight.images != list(distinct):
            feeds, sight.reports = self._questions.pictures.feeds(list(distinct.values()))
            sight.images, sight.seen = list(distinct), self._engines.single.hold(feeds, cancellation)
        order = np.array([sight.images.index(id(one.image)) for one in batch], np.int64)
        seen = sight.seen if np.array_equal(order, np.arange(len(distinct))) else sight.seen.taken(order)
        reports = [one.report(sight.reports[place]) for one, place in zip(batch, order, strict=True)]
        if self._reading is None:  # the decoder reads the question itself, the picture among its words
            given = [Given(one.ids, report) for one, report in zip(batch, reports, strict=True)]
            return given, seen.renamed({IMAGE: IMAGE})
        told = self._told(self._reading, seen, np.stack([one.ids for one in batch]), cancellation)
        read = len(batch[0].ids)
        return [Given(self.start, report, read) for report in reports], told

    def _told(self, reading: Engines, seen: Held, ids: NDArray[np.int64], cancellation: Cancellation | None) -> Held:
        """What the question (n, tokens) and the picture give the decoder's layers to look at."""
        image = seen.renamed({IMAGE: IMAGE})
        read = reading.single.hold({INPUT_IDS: ids}, cancellation, image)
        return self._crossed(read)


class _Sight:
    """The pictures of a call that were seen last: further questions about them cost no more sight."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.reports: list[InputReport] = []
        self.seen: Held | None = None
