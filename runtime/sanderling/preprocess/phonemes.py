"""From a text to the ids of a voice: what can be said of it, the symbols of each sentence, and their ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sanderling.schema.sounds import PhonemesPreprocessing

# Languages that the phonemizer switched to and back, as it writes them: "(de)haʊs(en)".
_SWITCH = re.compile(r"\(([^)]+)\)")
# Where a long text may be parted without the phonemizer telling the difference: behind a sentence whose last word is
# no abbreviation, before another.
_BOUNDARY = re.compile(r"(?<=[a-z]{5}\.)\s+(?=[\"“‘'(]?[A-Z])|(?<=[!?])\s+(?=[\"“‘'(]?[A-Z])|\n\s*\n")
_PART, _MOST = 160, 1200
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\n\s*\n")
# What has no sound of its own: pictures, signs for private use, unassigned code points, controls, lone surrogates.
_SILENT = {"So", "Co", "Cn", "Cs", "Cc"}
_JOINERS = {"\u200d", "\ufe0e", "\ufe0f", "\u20e3"}
_TONES = range(0x1F3FB, 0x1F400)
# Signs that Unicode counts among the pictures, and that have a name to be said.
_SAID_SIGNS = {sign: {"So"} for sign in "°©®™"}
# Letters of these are said in any language: Greek ones have names, and some signs are counted among the letters.
_EVERYWHERE = ("GREEK", "MICRO", "MODIFIER", "FEMININE", "MASCULINE", "FULLWIDTH")
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ru", "uk", "bg", "mk", "be", "kk", "ky", "ba", "cv", "tt"), ("CYRILLIC",)),
    "sr": ("CYRILLIC", "LATIN"), "el": ("GREEK",), "grc": ("GREEK",),
    **dict.fromkeys(("ar", "fa", "ur", "sd", "ug"), ("ARABIC", "LATIN")),
    **dict.fromkeys(("hi", "mr", "ne", "kok"), ("DEVANAGARI",)),
    **dict.fromkeys(("cmn", "yue", "hak"), ("CJK", "LATIN", "BOPOMOFO")),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "LATIN"),
    "ko": ("HANGUL", "CJK"), "he": ("HEBREW",), "ka": ("GEORGIAN",), "hy": ("ARMENIAN",), "am": ("ETHIOPIC",),
    "bn": ("BENGALI",), "as": ("BENGALI",), "gu": ("GUJARATI",), "pa": ("GURMUKHI",), "kn": ("KANNADA",),
    "ml": ("MALAYALAM",), "ta": ("TAMIL",), "te": ("TELUGU",), "or": ("ORIYA",), "si": ("SINHALA",),
    "my": ("MYANMAR",),
    "th": ("THAI",), "shn": ("MYANMAR",), "chr": ("CHEROKEE",),
}  # fmt: skip


class Spoken(Struct, frozen=True):
    """A sentence: its symbols that have ids, and how often those were met that have none."""

    symbols: tuple[str, ...]
    unknown: tuple[tuple[str, int], ...] = ()
    languages: tuple[str, ...] = ()


def parts(text: str) -> Iterator[str]:
    """A text in parts of some hundred characters, so that speech begins soon.

    Each ends where a sentence does, or, where none does for long, at a blank, or anywhere.
    """
    start = 0
    while len(text) - start > _MOST:
        found = next((one for one in _BOUNDARY.finditer(text, start + _PART, start + _MOST)), None)
        end = found.end() if found is not None else text.rfind(" ", start + _PART, start + _MOST) + 1
        end = end or start + _MOST
        yield text[start:end]
        start = end
    found = next((one for one in _BOUNDARY.finditer(text, start + _PART)), None)
    if found is not None:
        yield text[start : found.end()]
        start = found.end()
    if text[start:].strip():
        yield text[start:]


def speakable(text: str, scripts: Collection[str] | None = None) -> tuple[str, dict[str, int]]:
    """The text without what cannot be said, and how often each such character was met.

    These are characters without a sound and, where `scripts` are given, letters of other ones. A blank takes the place
    of each, so that words around it stay apart; white space is kept.
    """
    skipped: dict[str, int] = {}
    kept = []
    for character in text:
        if character in _JOINERS:
            continue  # what it joins is told
        if character.isascii() and (character.isprintable() or character.isspace()):
            kept.append(character)
        elif character.isspace():
            kept.append(" ")
        elif _silent(character) or (scripts is not None and not _in_scripts(character, scripts)):
            skipped[character] = skipped.get(character, 0) + 1
            kept.append(" ")
        else:
            kept.append(character)
    return "".join(kept), skipped


def _silent(character: str) -> bool:
    return unicodedata.category(character) in _SILENT - _SAID_SIGNS.get(character, set()) or ord(character) in _TONES


def _in_scripts(character: str, scripts: Collection[str]) -> bool:
    """Whether a letter belongs to one of the scripts, by the first word of its name; what is no letter does."""
    if unicodedata.category(character)[0] != "L":
        return True
    return unicodedata.name(character, "").partition(" ")[0] in {*scripts, *_EVERYWHERE}


def scripts_of(voice: str) -> tuple[str, ...]:
    """The scripts that the language of an espeak-ng voice is written in, as Unicode names begin."""
    return _SCRIPTS.get(voice.partition("-")[0].lower(), ("LATIN",))


def has_words(text: str) -> bool:
    """Whether anything in a text is said: a letter or a digit, or a sign that has a name."""
    return any(unicodedata.category(character)[0] in "LN" or character in "%&+=@#$£€°" for character in text)


def sentences(text: str) -> list[str]:
    """The sentences of a text that goes without a phonemizer, by its signs."""
    return [part for part in _SENTENCE.split(text) if part.strip()]


def spoken(raw: str, settings: PhonemesPreprocessing) -> Spoken:
    """The symbols of a sentence as the phonemizer wrote it, or of its own characters."""
    languages = tuple(dict.fromkeys(_SWITCH.findall(raw))) if settings.alphabet == "espeak" else ()
    if settings.alphabet == "espeak":
        raw = _SWITCH.sub("", raw)
    elif settings.lowercase:
        raw = "".join(letter if letter in settings.ids else letter.lower() for letter in raw)
    if settings.normalization != "none":
        raw = unicodedata.normalize("NFD" if settings.normalization == "nfd" else "NFKC", raw)
    found = clustered(raw, settings)
    unknown: dict[str, int] = {}
    for symbol in found:
        if symbol not in settings.ids:
            unknown[symbol] = unknown.get(symbol, 0) + 1
    known = [symbol for symbol in found if symbol in settings.ids]
    return Spoken(tuple(_blanks(known, settings.blanks)), tuple(unknown.items()), languages)


def _blanks(symbols: Sequence[str], kind: Literal["kept", "trimmed", "single"]) -> Sequence[str]:
    """Symbols without the white space that is not kept."""
    if kind == "kept":
        return symbols
    there = [place for place, symbol in enumerate(symbols) if not symbol.isspace()]
    if not there:
        return ()
    trimmed = symbols[there[0] : there[-1] + 1]
    if kind == "trimmed":
        return trimmed
    return [one for place, one in enumerate(trimmed) if not (one.isspace() and trimmed[place - 1].isspace())]


def clustered(points: str, settings: PhonemesPreprocessing) -> list[str]:
    """Code points, with those in a row put together that are one symbol of the voice, the longest first."""
    if not settings.clusters:
        return list(points)
    known = {"".join(cluster) for cluster in settings.clusters}
    longest = max(len(cluster) for cluster in known)
    found, place = [], 0
    while place < len(points):
        size = next((n for n in range(longest, 1, -1) if points[place : place + n] in known), 1)
        found.append(points[place : place + size])
        place += size
    return found


def bounded(symbols: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    """Symbols in parts of at most `most`: parted at the last clause's end that fits, else at the last blank."""
    rest = tuple(symbols)
    while len(rest) > most:
        window = rest[:most]
        cut = _last(window, ",;:") or _last(window, " ") or most
        yield rest[:cut]
        rest = rest[cut:]
    if rest:
        yield rest


def _last(window: Sequence[str], signs: str) -> int:
    """The place behind the last of these signs in the second half of a window; 0 where there is none."""
    places = (place + 1 for place in range(len(window) - 1, len(window) // 2, -1) if window[place] in signs)
    return next(places, 0)


def ids(symbols: Sequence[str], settings: PhonemesPreprocessing) -> NDArray[np.int64]:
    """The ids of one sentence's symbols, each of which has some: int64 of the shape (1, tokens)."""
    found = [*settings.begin, *settings.pad]
    for symbol in symbols:
        found += (*settings.ids[symbol], *settings.pad)
    found += settings.end
    return np.array([found], np.int64)
