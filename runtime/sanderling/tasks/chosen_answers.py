"""`visual-question-answering` among the answers that a model knows: each is a label with a score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.generation.question_front import QuestionFront
from sanderling.generation.questions import PictureQuestion
from sanderling.model import in_thread
from sanderling.results import Classification, Classifications
from sanderling.tasks.classification import Classifier, LongTextChoice

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput

    Asked = ImageInput | PictureQuestion | Mapping[str, Any]


class AnswerClassifier(Classifier):
    """Decides which of its answers a question about a picture has."""

    def __call__(  # type: ignore[override]
        self,
        inputs: Asked | Iterable[Asked],
        questions: str | Iterable[str] | None = None,
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
        cancellation: Cancellation | None = None,
    ) -> Classification | Classifications:
        """Answer a question about a picture by the `top_k` best of the answers in `labels`, with their scores.

        Of several pictures one question is asked of each, or as many questions in turn; several questions may be about
        one picture. A PictureQuestion, or a mapping of `image` and `question`, holds both. Questions are never cut, so
        that `long_text` is as it is. A single picture and question give a Classification, else Classifications.
        Raises InputError: no picture, no question, or one that the model cannot read to its end.
        """
        assert isinstance(self.front, QuestionFront)  # load() has given it one
        asked, single = self.front.asked(inputs, questions)
        items: Any = asked  # which the front knows, though a classifier's own inputs are others
        found: Classifications = super().__call__(
            items, top_k=whole_number("top_k", top_k), long_text=long_text, cancellation=cancellation
        )
        return found[0] if single else found

    async def acall(  # type: ignore[override]
        self,
        inputs: Asked | Iterable[Asked],
        questions: str | Iterable[str] | None = None,
        *,
        top_k: int = 5,
        long_text: LongTextChoice = "truncate",
    ) -> Classification | Classifications:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(
            lambda cancellation: self(inputs, questions, top_k=top_k, long_text=long_text, cancellation=cancellation)
        )
