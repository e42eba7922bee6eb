"""Word and character errors of transcripts, after a normalization that is stated.

Texts are normalized as Whisper's authors do it for languages of any kind (Radford et al., 2022, appendix C, the simple
form): Unicode NFKC, lower case; what stands in brackets or parentheses is taken out, as are combining marks, symbols
and punctuation, each of which becomes a blank; blanks are joined. Numbers and abbreviations stay as they are written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from msgspec import Struct

from sanderling.errors import EvalError, MissingExtraError

_ASIDES = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]*\)")
_BLANKS = re.compile(r"\s+")


class Errors(Struct, frozen=True):
    """Of texts beside what was said: words or characters that were replaced, left out and added, and how many there
    were to say."""

    substituted: int
    deleted: int
    inserted: int
    total: int

    @property
    def wrong(self) -> int:
        """All errors together."""
        return self.substituted + self.deleted + self.inserted

    @property
    def rate(self) -> float:
        """Errors a word, or a character; above 1 where more was added than there was to say."""
        return self.wrong / self.total


def normalized(text: str) -> str:
    """A text as it is compared."""
    bare = _ASIDES.sub("", unicodedata.normalize("NFKC", text).lower())
    kept = "".join(" " if unicodedata.category(one)[0] in "MSP" else one for one in unicodedata.normalize("NFKC", bare))
    return _BLANKS.sub(" ", kept).strip()


def word_errors(found: Sequence[str], said: Sequence[str]) -> Errors:
    """The errors in words of all texts together. Raises EvalError where nothing was said; MissingExtraError."""
    return _errors(found, said, "process_words")


def character_errors(found: Sequence[str], said: Sequence[str]) -> Errors:
    """The errors in characters, blanks counted, of all texts together. Errors are raised as of `word_errors`."""
    return _errors(found, said, "process_characters")


def _errors(found: Sequence[str], said: Sequence[str], counted: str) -> Errors:
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtraError("Counting errors of transcripts", "eval", "jiwer") from error
    truth = [normalized(text) for text in said]
    silent = next((place for place, text in enumerate(truth) if not text), None)
    if silent is not None or not truth:
        raise EvalError(f"Transcript {silent or 0} has no words: there is nothing to compare with.")
    made = getattr(jiwer, counted)(truth, [normalized(text) for text in found])
    return Errors(
        made.substitutions, made.deletions, made.insertions, made.hits + made.substitutions + made.deletions
    )  # fmt: skip
