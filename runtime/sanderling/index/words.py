"""Texts as their words: what an index keeps of an item to find it by what it says, beside what it means."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

# Letters and digits of any script; an underscore parts words, as it does in names of source code.
_WORD = re.compile(r"[^\W_]+")
# Where the parts of a name such as `loadBundle`, `HTMLPage` or `int8` meet.
_SEAM = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")
# Scripts that are written without spaces: each two neighbours count as a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")

# Words of so few letters have no plural that is told from themselves.
_SHORT = 3


def terms(text: str) -> NDArray[np.uint32]:
    """The words of a text in their order, each as the CRC-32 of its UTF-8.

    A word is folded (NFKC, no cases); of a name that has seams, its parts count beside the whole. Two words of one
    CRC-32 are taken for each other: among a million words that befalls one in four thousand.
    """
    return _hashed(_words(text))


def singular(text: str) -> NDArray[np.uint32]:
    """As `terms`, with English plurals as their singulars, whatever the language: the same rules for all that is asked.

    The rules are those of the S stemmer (Harman, How Effective Is Suffixing?, 1991).
    """
    return _hashed(map(_singular, _words(text)))


def _hashed(found: Iterable[str]) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in found], np.uint32)


def _singular(word: str) -> str:
    if len(word) > _SHORT and word.endswith("s"):
        if word.endswith("ies") and word[-4] not in "ae":
            return word[:-3] + "y"
        # Words in "es" lose the "s" as those in "s" do, but where what is left would end in "ae", "ee" or "oe".
        if word[-2] not in "us" and not (word[-2] == "e" and word[-3] in "aeo"):
            return word[:-1]
    return word


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text)):
        word = match.group()
        if word.isascii():
            parts = _SEAM.split(word)
            yield word.lower()
            if len(parts) > 1:
                yield from (part.lower() for part in parts)
        else:
            yield from _of_any_script(word.casefold())


def _of_any_script(word: str) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        letters = run.group()
        yield from (letters[at : at + 2] for at in range(max(1, len(letters) - 1)))
        end = run.end()
    if end < len(word):
        yield word[end:]
