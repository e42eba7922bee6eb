"""Pictures with questions to a model's inputs: each question whole, and batched with others of its length."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.errors import InputError, TextError
from sanderling.fronts import ImageFront
from sanderling.generation.questions import PictureQuestion, as_question, joined
from sanderling.results import InputReport, QuestionReport, TextReport
from sanderling.schema.generation import PicturePrompt
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.preprocess.text import TextEncoder

_INPUT_IDS = "input_ids"


class AskedPicture(Struct, frozen=True, eq=False):
    """One input on its way: the picture as it was handed over, and the tokens (n,) that are read beside it."""

    image: Any
    ids: NDArray[np.int64]
    read: TextReport

    def report(self, seen: InputReport) -> QuestionReport:
        """What is told of the question beside what is told of its picture."""
        return QuestionReport(**msgspec.structs.asdict(seen), question=self.read)


class QuestionFront:
    """Pictures with questions. Questions that are run together have one length, so that none is padded."""

    modality = "image"

    def __init__(
        self, pictures: ImageFront, encoder: TextEncoder, image_budget: int, prompt: PicturePrompt | None = None
    ) -> None:
        self.pictures = pictures
        self.encoder = encoder
        self._image_budget = image_budget
        self._prompt = prompt

    def asked(self, images: Any, questions: str | Iterable[str] | None) -> tuple[list[PictureQuestion], bool]:
        """What a call was given as a list, and whether it is a single input. Raises InputError."""
        if questions is None:
            return self.items(images)
        pictures, single = self.pictures.items(images)
        return joined(pictures, single, questions)

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """PictureQuestions or mappings of the same; one of them, or several. Raises InputError."""
        one = isinstance(inputs, PictureQuestion | Mapping | str | bytes | os.PathLike | np.ndarray)
        if one or hasattr(inputs, "getbands") or not isinstance(inputs, Iterable):
            return [as_question(inputs)], True
        return [as_question(item, place) for place, item in enumerate(inputs)], False

    def prepare(
        self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None
    ) -> list[AskedPicture]:
        """The tokens of each question. Raises TextError for one that the model cannot read to its end."""
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with texts; this model takes pictures and questions.")
        known = [as_question(item, place) for place, item in enumerate(items)]
        read = self.encoder.encode([self._worded(item.question) for item in known], None, cancellation)
        for place, one in enumerate(read):
            if not one.report.complete:
                more = f", and {one.report.characters_unread:,} characters more" if one.report.characters_unread else ""
                raise TextError(
                    f"Question {place} has {one.length + one.report.tokens_lost:,} tokens{more}; this model reads at "
                    f"most {self.encoder.settings.max_tokens:,}. Shorten it: nothing of a question is cut silently."
                )
        tokens = [self._with_picture(one.ids, place) for place, one in enumerate(read)]
        return [AskedPicture(item.image, ids, one.report) for item, ids, one in zip(known, tokens, read, strict=True)]

    def _worded(self, question: str) -> str:
        return question if self._prompt is None else self._prompt.template.replace("{}", question)

    def _with_picture(self, ids: NDArray[np.int64], place: int) -> NDArray[np.int64]:
        """The tokens with as many places for a picture as the model reads. Raises TextError: the question has one of
        its own, into which a picture would be read a second time."""
        if self._prompt is None:
            return ids
        here = np.flatnonzero(ids == self._prompt.token)
        if len(here) != 1:
            raise TextError(
                f"Question {place} holds {self.encoder.token(self._prompt.token)!r}, which stands for the picture in "
                "this model's prompts. Take it out of the text."
            )
        return np.insert(ids, here[0], np.full(self._prompt.count - 1, self._prompt.token, np.int64))

    def batches(self, prepared: Sequence[AskedPicture]) -> Iterator[list[int]]:
        return self.groups(prepared, self._image_budget)

    def groups(self, prepared: Sequence[AskedPicture], most: int) -> Iterator[list[int]]:
        """The places of inputs that are run together: of one length, and at most so many."""
        order = sorted(range(len(prepared)), key=lambda place: len(prepared[place].ids))
        group: list[int] = []
        for place in order:
            if group and (len(group) >= most or len(prepared[place].ids) != len(prepared[group[0]].ids)):
                yield group
                group = []
            group.append(place)
        if group:
            yield group

    def feeds(self, batch: Sequence[AskedPicture]) -> tuple[Arrays, list[InputReport]]:
        """The pictures' pixels and the questions' tokens, (n, tokens)."""
        pixels, reports = self.pictures.feeds([one.image for one in batch])
        told: list[InputReport] = [one.report(report) for one, report in zip(batch, reports, strict=True)]
        return {**pixels, _INPUT_IDS: np.stack([one.ids for one in batch])}, told
