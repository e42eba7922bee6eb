"""What models that hear write of sounds, on data that says what was said: errors in words and characters, and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sanderling.bundle import Bundle
from sanderling.errors import EvalError, InputError
from sanderling.model import Model
from sanderling.schema.generation import GenerationOutput
from sanderling_bench.datasets import columns, counted, names_of, pick, rows
from sanderling_bench.evaluation_record import Column
from sanderling_bench.labelled import image_file, sample
from sanderling_bench.recognizing import Recognizer, transcript
from sanderling_bench.words import character_errors, normalized, word_errors
from sanderling_bench.written import Told

_ROLES = {"audio": ("audio", "file", "path"), "text": ("text", "transcript", "sentence")}


@dataclass(frozen=True, slots=True)
class _Case:
    line: int
    sound: Path
    said: str


class Transcribed:
    """A file of sounds and what is said in them, for one bundle that hears.

    Columns in `given` (role to name) go before the usual names. Raises EvalError: a `language` that is none of the
    bundle's.
    """

    def __init__(self, bundle: Bundle, path: Path, given: Mapping[str, str], language: str | None) -> None:
        self.path = path
        self._name, self._language = bundle.manifest.name, language
        self._roles = names_of(_ROLES, given)
        head = bundle.manifest.postprocessing
        speech = head.speech if isinstance(head, GenerationOutput) else None
        known = () if speech is None else tuple(speech.languages)
        if language is not None and language not in known:
            knows = ", ".join(known) or "one alone: leave the language out"
            raise EvalError(f"language is {language!r}; {self._name} knows {knows}.")

    def columns(self) -> dict[str, str]:
        """The column of each role, as the first row has them."""
        return columns(self.path, self._roles)

    def check(self) -> int:
        """Read every row and count them. Raises EvalError: a row that is no case, or no row at all."""
        return counted(self.path, self._cases(), f"{self._name} (transcripts)", self._roles)

    def tell(
        self,
        models: Mapping[str, Model],
        count: int,
        limit: int | None,
        seed: int,
        watch: Callable[[str, int, int], None],
    ) -> Told:
        """What each variant writes of all `count` sounds, or of `limit` of them drawn with the seed.

        The variants hear each sound one after the other, so that what else the machine does is spread over all; the
        first sound is heard once before, uncounted, since a first run is slow.
        """
        chosen = sample(count, limit, seed)
        cases = [case for place, case in enumerate(self._cases()) if chosen is None or place in chosen]
        figures: dict[str, list[dict[str, float | str]]] = {name: [] for name in models}
        cut = 0
        for name, model in models.items():
            watch(f"warming {name}", 0, len(cases))
            self._heard(model, cases[0])
        for done, case in enumerate(cases, start=1):
            for name, model in models.items():
                found, complete = self._heard(model, case)
                figures[name].append(found)
            cut += not complete  # the same for all variants: it is of the file
            watch("hearing", done, len(cases))
        answers: dict[str, dict[str, Column]] = {
            name: {column: tuple(row[column] for row in taken) for column in taken[0]}
            for name, taken in figures.items()
        }
        return Told(tuple(case.line for case in cases), {"said": tuple(case.said for case in cases)}, answers, cut)

    def _heard(self, model: Model, case: _Case) -> tuple[dict[str, float | str], bool]:
        """The columns of one sound, and whether its file was heard whole."""
        assert isinstance(model, Recognizer)  # of this task there are no others
        try:
            found = transcript(model, case.sound, self._language)
        except InputError as error:
            raise EvalError(f"{self.path}, line {case.line}: {error}") from error
        words, characters = word_errors([found.text], [case.said]), character_errors([found.text], [case.said])
        return {
            "word-errors": float(words.wrong), "words": float(words.total),
            "character-errors": float(characters.wrong), "characters": float(characters.total),
            "seconds": found.timing.total, "lasts": found.report.seconds,
            "text": found.text,
        }, found.report.complete  # fmt: skip

    def _cases(self) -> Iterator[_Case]:
        for row in rows(self.path):
            sound = image_file(self.path, row, pick(self.path, row, "audio", self._roles["audio"]), "sound")
            said = pick(self.path, row, "text", self._roles["text"])
            if not normalized(said):
                raise EvalError(f"{self.path}, line {row.line}: nothing is said; a transcript with words was expected.")
            yield _Case(row.line, sound, said)
