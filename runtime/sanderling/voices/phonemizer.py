"""espeak-ng, by the binding of piper-tts (extra `tts`): text to phonemes, sentence by sentence.

Of the bindings that install from PyPI it is the one that is kept up, states its licence (GPL-3.0-or-later, as espeak-ng
itself has), brings library and data for Linux, macOS and Windows, and tells where clauses and sentences end, as the
voices were trained with. It is imported when a text is first spoken, and by this file alone.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from sanderling.errors import InputError, MissingExtraError

# Signs behind which a clause goes on in the same sentence; a blank follows them.
_WITHIN = (",", ":", ";")


class Phonemizer:
    """espeak-ng with one voice. The library has a single state for the whole process: one text at a time."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _bridge: ClassVar[Any] = None

    def __init__(self, voice: str) -> None:
        self.voice = voice

    def sentences(self, text: str) -> list[str]:
        """The phonemes of each sentence of a text, with its signs and marks of switched languages; some may be empty.

        `text` is to hold no NUL and no lone surrogate. Raises MissingExtraError without the extra `tts`, InputError for
        a voice that espeak-ng does not have.
        """
        with self._lock:
            bridge = self._loaded()
            try:
                bridge.set_voice(self.voice)
            except (RuntimeError, ValueError) as error:
                raise InputError(
                    f"espeak-ng has no voice {self.voice!r}, which this bundle names: {error}. Update it: "
                    "pip install -U piper-tts"
                ) from error
            clauses = bridge.get_phonemes(text)
        found, sentence = [], ""
        for phonemes, sign, ends in clauses:
            sentence += phonemes + sign + (" " if sign in _WITHIN else "")
            if ends:
                found.append(sentence)
                sentence = ""
        return [*found, sentence] if sentence else found

    @classmethod
    def _loaded(cls) -> Any:
        """The binding, initialized once a process."""
        if cls._bridge is None:
            try:
                from piper import espeakbridge
                from piper.phonemize_espeak import ESPEAK_DATA_DIR
            except ImportError as error:
                raise MissingExtraError("Speaking a text", "tts", "piper-tts") from error
            espeakbridge.initialize(str(ESPEAK_DATA_DIR))
            cls._bridge = espeakbridge
        return cls._bridge
