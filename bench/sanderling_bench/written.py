"""What models write, on labelled data: captions of pictures, answers to questions about them, texts continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling.bundle import Bundle
from sanderling.errors import EvalError, InputError
from sanderling.generation.questions import PictureQuestion
from sanderling.model import Model
from sanderling.results import Classification
from sanderling.tasks.text_generation import TextGenerator
from sanderling_bench import wording
from sanderling_bench.datasets import Row, columns, counted, names_of, pick, rows
from sanderling_bench.evaluation_record import Column
from sanderling_bench.labelled import image_file, sample
from sanderling_bench.metrics import Kind

# Stands between several references, or the answers of several people, in one cell.
SEPARATOR = "|"
# Inputs that are written for at a time, and new tokens of a text that is continued.
_CHUNK = 32
_NEW_TOKENS = 48
_BEGINNING = 32
_ROLES: dict[Kind, dict[str, tuple[str, ...]]] = {
    "captions": {"image": ("image", "path"), "caption": ("caption", "text")},
    "answers": {"image": ("image", "path"), "question": ("question",), "answer": ("answer", "answers", "label")},
    "continuation": {"text": ("text", "sentence")},
}


@dataclass(frozen=True, slots=True)
class Told:
    """What was written: the line of each case, what is known of it by column, by variant its columns, and of how many
    cases the models had only a part."""

    lines: tuple[int, ...]
    truth: dict[str, Column]
    answers: dict[str, dict[str, Column]]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class _Case:
    line: int
    given: Any
    references: tuple[str, ...]


class Written:
    """A file of rows for one bundle that writes. Columns in `given` (role to name) go before the usual names."""

    def __init__(self, bundle: Bundle, kind: Kind, path: Path, given: Mapping[str, str]) -> None:
        self.path = path
        self._name, self._kind = bundle.manifest.name, kind
        self._roles = names_of(_ROLES[kind], given)

    def columns(self) -> dict[str, str]:
        """The column of each role, as the first row has them."""
        return columns(self.path, self._roles)

    def check(self) -> int:
        """Read every row and count them. Raises EvalError: a row that is no case, or no row at all."""
        return counted(self.path, self._cases(), f"{self._name} ({self._kind})", self._roles)

    def tell(
        self,
        models: Mapping[str, Model],
        count: int,
        limit: int | None,
        seed: int,
        watch: Callable[[str, int, int], None],
    ) -> Told:
        """What each variant writes for all `count` cases, or for `limit` of them drawn with the seed."""
        chosen = sample(count, limit, seed)
        cases = [case for place, case in enumerate(self._cases()) if chosen is None or place in chosen]
        written: dict[str, list[str]] = {name: [] for name in models}
        likely: dict[str, list[tuple[float, int]]] = {name: [] for name in models}
        cut = 0
        for first in range(0, len(cases), _CHUNK):
            chunk = cases[first : first + _CHUNK]
            for name, model in models.items():
                for case, text in zip(chunk, self._asked(model, chunk), strict=True):
                    written[name].append(text)
                    if self._kind == "continuation":
                        assert isinstance(model, TextGenerator)  # of whom else is the kind
                        likely[name].append(_likelihood(model, case))
            watch("writing", first + len(chunk), len(cases))
        if self._kind == "continuation":
            model = next(iter(models.values()))
            assert isinstance(model, TextGenerator)  # as above
            cut = sum(model.tokens(case.given) > model.context for case in cases)
        found = {name: self._measured(texts, cases, likely[name], seed) for name, texts in written.items()}
        references = tuple(len(case.references) for case in cases)
        return Told(tuple(case.line for case in cases), {"references": references}, found, cut)

    def _measured(
        self, texts: Sequence[str], cases: Sequence[_Case], likely: Sequence[tuple[float, int]], seed: int
    ) -> dict[str, Column]:
        """The columns of one variant's texts, among them the texts themselves."""
        if self._kind == "continuation":
            varied = wording.distinct_counts(texts)
            alike = wording.self_bleu(texts, seed)
            by_case = [
                {**row, "self-bleu": score, "nats": nats, "tokens": float(tokens)}
                for row, score, (nats, tokens) in zip(varied, alike, likely, strict=True)
            ]
        else:
            by_case = [self._beside(text, case) for text, case in zip(texts, cases, strict=True)]
        columns: dict[str, Column] = {name: tuple(row[name] for row in by_case) for name in by_case[0]}
        return columns | {"text": tuple(texts)}

    def _beside(self, text: str, case: _Case) -> dict[str, float]:
        measured = {"exact-match": wording.exact_match(text, case.references)}
        if self._kind == "answers":
            return measured | {"vqa-accuracy": wording.vqa_accuracy(text, case.references)}
        return measured | wording.bleu_counts(text, case.references)

    def _asked(self, model: Model, chunk: Sequence[_Case]) -> list[str]:
        """What a model writes for each case. Raises EvalError for an input that is none of the model's."""
        call: Any = model
        try:
            if isinstance(model, TextGenerator):
                beginnings = [_beginning(case.given) for case in chunk]
                return [one.text for one in model.generate(beginnings, max_new_tokens=_NEW_TOKENS)]
            return [_words(one) for one in call([case.given for case in chunk])]
        except InputError:
            for case in chunk:
                try:
                    call([_beginning(case.given) if isinstance(model, TextGenerator) else case.given])
                except InputError as error:
                    raise EvalError(f"{self.path}, line {case.line}: {error}") from error
            raise  # each alone is answered: what is wrong is not any one of them

    def _cases(self) -> Iterator[_Case]:
        for row in rows(self.path):
            if self._kind == "continuation":
                text = self._cell(row, "text")
                if not text.strip():
                    raise EvalError(f"{self.path}, line {row.line}: the text is empty; words were expected.")
                yield _Case(row.line, text, ())
                continue
            image = image_file(self.path, row, self._cell(row, "image"))
            truth = self._cell(row, "caption" if self._kind == "captions" else "answer")
            references = tuple(part.strip() for part in truth.split(SEPARATOR) if part.strip())
            if not references:
                raise EvalError(f"{self.path}, line {row.line}: there is nothing to compare with; a text was expected.")
            given: Any = image
            if self._kind == "answers":
                question = self._cell(row, "question")
                if not question.strip():
                    raise EvalError(f"{self.path}, line {row.line}: the question is empty.")
                given = PictureQuestion(image, question)
            yield _Case(row.line, given, references)

    def _cell(self, row: Row, role: str) -> str:
        return pick(self.path, row, role, self._roles[role])


def _words(found: Any) -> str:
    return str(found.label if isinstance(found, Classification) else found.text)


def _beginning(text: str) -> str:
    """The first half of a text's words, at most 32, which a model continues."""
    words = text.split()
    return " ".join(words[: min(_BEGINNING, max(1, len(words) // 2))])


def _likelihood(model: TextGenerator, case: _Case) -> tuple[float, int]:
    """The negative logarithm of the probability of a text, and the tokens that it is of."""
    found = model.log_probabilities(case.given)
    return -float(found.sum()), len(found)
