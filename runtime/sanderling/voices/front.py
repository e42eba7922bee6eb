"""What stands before the graphs of a voice: texts to sentences, sentences to ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from msgspec import Struct

from sanderling.errors import InputError, TextError
from sanderling.preprocess import english, phonemes
from sanderling.results import InputReport, SpeechReport
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.session import Arrays
from sanderling.voices.phonemizer import Phonemizer
from sanderling.voices.rules import IDS
from sanderling.voices.speech import Phonemes

MAX_CHARACTERS = 1_000_000
_MOST_NAMED = 50


class Script(Struct, frozen=True):
    """A text as it will be said: the symbols of each sentence, each short enough for one run."""

    sentences: tuple[tuple[str, ...], ...]
    report: SpeechReport


class VoiceFront:
    """Texts one by one, each sentence by itself: what is said of one depends on no other."""

    modality = "text"

    def __init__(self, settings: PhonemesPreprocessing) -> None:
        self.settings = settings
        self._phonemizer = Phonemizer(settings.voice) if settings.voice is not None else None
        self._english = settings.voice is not None and settings.voice.partition("-")[0] == "en"

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        if isinstance(inputs, str | Phonemes):
            return [inputs], True
        if isinstance(inputs, bytes | Set | Mapping) or not isinstance(inputs, Iterable):
            raise TextError(
                f"The input is of type {type(inputs).__name__}; a text (str), its Phonemes or a list was expected."
            )
        return list(inputs), False

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Any = None) -> list[Script]:
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with embeddings of texts; this model says them.")
        found = []
        for item in items:
            reading = self.reading(item)
            sentences = []
            for sentence in reading:
                if cancellation is not None:
                    cancellation.check()
                sentences.append(sentence)
            found.append(Script(tuple(sentences), reading.report))
        return found

    def batches(self, prepared: Sequence[Script]) -> Iterator[list[int]]:
        return ([place] for place in range(len(prepared)))

    def feeds(self, batch: Sequence[Script]) -> tuple[Arrays, list[InputReport]]:
        """The ids of the first sentence of one script."""
        (script,) = batch
        symbols = script.sentences[0] if script.sentences else ()
        return {IDS: phonemes.ids(symbols, self.settings)}, [script.report]

    def reading(self, item: Any) -> Reading:
        """A text, or its phonemes, sentence by sentence as it is read. Raises TextError."""
        if isinstance(item, Phonemes):
            return Reading(item, self.settings, self._given(item))
        if not isinstance(item, str):
            raise TextError(f"The input is of type {type(item).__name__}; a text (str) or its Phonemes was expected.")
        if len(item) > MAX_CHARACTERS:
            raise TextError(
                f"The text has {len(item):,} characters; at most {MAX_CHARACTERS:,} are said in one call. Part it."
            )
        lone = next((place for place, one in enumerate(item) if "\ud800" <= one <= "\udfff"), None)
        if lone is not None:
            raise TextError(f"The text has a lone surrogate at character {lone}; it is no text. Decode it again.")
        return Reading(item, self.settings, None, self._phonemizer, english=self._english)

    def _given(self, item: Phonemes) -> list[tuple[str, ...]]:
        for sentence in item.sentences:
            if not isinstance(sentence, tuple) or not all(isinstance(symbol, str) for symbol in sentence):
                raise TextError("Phonemes are sentences, each a tuple of symbols (str); something else was met.")
        return list(item.sentences)


class Reading:
    """The sentences of one text, an iterator; `report` says what became of what was read so far."""

    def __init__(
        self,
        item: str | Phonemes,
        settings: PhonemesPreprocessing,
        given: list[tuple[str, ...]] | None,
        phonemizer: Phonemizer | None = None,
        *,
        english: bool = False,
    ) -> None:
        self._settings = settings
        self._phonemizer = phonemizer
        self._english = english
        self._skipped: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._languages: dict[str, None] = {}
        self._characters = len(item) if isinstance(item, str) else 0
        self._sentences = self._parted = 0
        self._remaining = self._said(given) if given is not None else self._read(str(item))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return self

    def __next__(self) -> tuple[str, ...]:
        return next(self._remaining)

    @property
    def report(self) -> SpeechReport:
        """What became of the text, as far as it was read."""
        return SpeechReport(
            self._characters,
            self._sentences,
            tuple(self._skipped.most_common(_MOST_NAMED)),
            self._skipped.total(),
            tuple(self._unknown.most_common(_MOST_NAMED)),
            tuple(self._languages),
            self._parted,
        )

    def _read(self, text: str) -> Iterator[tuple[str, ...]]:
        voice = self._settings.voice
        scripts = phonemes.scripts_of(voice) if voice is not None else None
        for part in phonemes.parts(text):
            kept, skipped = phonemes.speakable(part, scripts)
            self._skipped.update(skipped)
            if not phonemes.has_words(kept):
                continue
            if self._phonemizer is None:
                raw = phonemes.sentences(kept)
            else:
                raw = self._phonemizer.sentences(english.written_out(kept) if self._english else kept)
            for sentence in raw:
                found = phonemes.spoken(sentence, self._settings)
                self._unknown.update(dict(found.unknown))
                self._languages.update(dict.fromkeys(found.languages))
                yield from self._bounded(found.symbols)

    def _said(self, given: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
        for sentence in given:
            self._unknown.update(symbol for symbol in sentence if symbol not in self._settings.ids)
            yield from self._bounded(tuple(symbol for symbol in sentence if symbol in self._settings.ids))

    def _bounded(self, symbols: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not any(symbol.strip() and symbol not in ",.;:!?" for symbol in symbols):
            return  # nothing in it makes a sound
        self._sentences += 1
        found = list(phonemes.bounded(symbols, self._settings.max_symbols))
        self._parted += len(found) - 1
        yield from found
