"""A picture and a question about it, as one input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sanderling.errors import ImageError, InputError, TextError

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput


class PictureQuestion(Struct, frozen=True, eq=False):
    """A picture (a file, its bytes, a PIL image or an array) and a question about it."""

    image: ImageInput
    question: str


def as_question(item: object, place: int = 0) -> PictureQuestion:
    """A PictureQuestion, or a mapping of `image` and `question` as transformers' pipelines take it.

    Raises ImageError: no picture, or one that is none; TextError: a question that is no text, or empty.
    """
    if isinstance(item, Mapping):
        if set(item) != {"image", "question"}:
            met = ", ".join(map(str, item))[:200] or "nothing"
            raise InputError(f"Input {place} is a mapping of {met}; image and question were expected.")
        item = PictureQuestion(item["image"], item["question"])
    if not isinstance(item, PictureQuestion):
        raise InputError(
            f"Input {place} is of type {type(item).__name__}; a picture and a question about it were expected: "
            'model(picture, "how many birds are there?"), or a PictureQuestion.'
        )
    if item.image is None:
        raise ImageError(f"Input {place} has no picture; a question is answered about one.")
    if not isinstance(item.question, str):
        met = "an image" if hasattr(item.question, "getbands") or hasattr(item.question, "ndim") else "no text"
        raise TextError(
            f"The question of input {place} is {met} ({type(item.question).__name__}); a text (str) was expected. The "
            "picture comes first, then the question."
        )
    if not item.question.strip():
        raise TextError(f"The question of input {place} is empty; ask something of the picture.")
    return item


def joined(pictures: list[Any], single: bool, questions: str | Iterable[str]) -> tuple[list[PictureQuestion], bool]:
    """Pictures and questions as inputs, and whether it is a single one: one question of each picture, each question of
    one picture, or as many questions as pictures, in turn. Raises InputError: other counts; as `as_question`."""
    if isinstance(questions, str) or not isinstance(questions, Iterable) or isinstance(questions, bytes | Mapping):
        asked: list[Any] = [questions] * len(pictures)
    else:
        asked, one = list(questions), single
        single = False
        if one:
            pictures = pictures * len(asked)
    if len(asked) != len(pictures):
        raise InputError(
            f"There are {len(pictures):,} pictures and {len(asked):,} questions; one question, one picture, or as many "
            "of both were expected."
        )
    pairs = zip(pictures, asked, strict=True)
    return [as_question(PictureQuestion(image, text), place) for place, (image, text) in enumerate(pairs)], single
