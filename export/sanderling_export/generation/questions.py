"""Questions about pictures, to calibrate and to measure with: a user's own, or such as go with any picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sanderling.errors import ExportError, ImageError
from sanderling.generation.questions import PictureQuestion
from sanderling.preprocess.canonical import canonical
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.generation import GenerationOutput
from sanderling_export import photographs, references, samples, texts
from sanderling_export.description import Description
from sanderling_export.plan import Plan
from sanderling_export.samples import Samples

# Of several lengths, so that the tokens of a question are no constant of anything.
QUESTIONS = (
    "what is in the picture?",
    "how many things are there?",
    "what colour is the largest thing?",
    "is it day or night?",
    "where was this picture taken, and what was the weather like?",
    "is there a person in the picture?",
    "what is on the left side of the picture?",
    "why?",
    "what is behind the thing in the middle, and is it larger or smaller?",
    "is the picture sharp?",
)
_GOLDEN = 6


def gather(known: Description, plan: Plan) -> Samples:
    """Pictures with questions: those of the user's own file, or questions asked of pictures in turn.

    A file has a line for each, the path of an image (relative to the file), a tab, and a question. Raises ExportError.
    """
    own = plan.own_data
    if own is not None and own.is_file():
        return _fitting(_of_file(own), known)
    asked: Sequence[str] = [question for question in QUESTIONS if _fits(question, known)]
    if plan.data.texts is not None:
        asked = texts.read(references.locate(plan.data.texts, plan.base))
    if not asked:
        raise ExportError(
            "The model reads too few tokens for a common question; give its own with --data FILE (an image, a tab and "
            "a question a line)."
        )
    found = samples.gather(known, plan.data, plan.base, own)
    parts = (_in_turn(part, asked) for part in (found.calibration, found.check, found.golden))
    return _fitting(Samples(*parts), known)


def _fitting(found: Samples, known: Description) -> Samples:
    """The samples. Raises ExportError for a question that the model cannot read to its end."""
    for question in {one.question for one in (*found.calibration, *found.check)}:
        if not _fits(question, known):
            raise ExportError(f"The model cannot read {question[:80]!r} to its end; give shorter questions.")
    return found


def _fits(question: str, known: Description) -> bool:
    assert known.text is not None  # every model that reads questions has both
    assert known.tokenizer is not None
    encoder = TextEncoder(known.tokenizer, known.text, known.text.tokenizer)
    picture = known.head.picture if isinstance(known.head, GenerationOutput) else None
    worded = question if picture is None else picture.template.replace("{}", question)
    return encoder.encode([worded])[0].report.complete


def _in_turn(pictures: Sequence[Image.Image], asked: Sequence[str]) -> list[PictureQuestion]:
    return [PictureQuestion(picture, asked[place % len(asked)]) for place, picture in enumerate(pictures)]


def _of_file(path: Path) -> Samples:
    found = []
    for number, line in enumerate(texts.read(path), 1):
        image, tab, question = line.partition("\t")
        if not tab or not question.strip():
            raise ExportError(f"{path}, text {number}: an image's path, a tab and a question were expected.")
        try:
            found.append(PictureQuestion(canonical(path.parent / image)[0], question.strip()))
        except ImageError as error:
            raise ExportError(f"{path}, text {number}: {error}") from error
    if len(found) < 2:
        raise ExportError(f"{path} has {len(found)} questions; at least 2 are needed, 100 are better.")
    check = found[1::2]
    return Samples(found[::2], check, [_small(one) for one in check[:_GOLDEN]])


def _small(one: PictureQuestion) -> PictureQuestion:
    """The same with a picture that is small enough to be kept in the bundle."""
    assert isinstance(one.image, Image.Image)  # canonical() has made it one
    picture = one.image.copy()
    picture.thumbnail((photographs.GOLDEN_SIDE, photographs.GOLDEN_SIDE), Image.Resampling.LANCZOS)
    return PictureQuestion(picture, one.question)
