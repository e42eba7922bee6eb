"""Words that two successive hypotheses of the same sound agree on are final: local agreement.

Liu, Spanakis and Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial
Hypothesis Selection" (2020); with Whisper: Macháček, Dabre and Bojar, "Turning Whisper into Real-Time Transcription
System" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sanderling.hearing.live_words import bare


class SaidWord(Struct, frozen=True):
    """A word of a hypothesis: its text with the blank before it, its tokens, and its place in the stream (samples)."""

    text: str
    tokens: tuple[int, ...]
    first: int
    last: int
    probability: float = 1.0


class Agreement:
    """The words of one window of sound: those that are final, and the hypothesis of those behind them."""

    def __init__(self) -> None:
        self.said: list[SaidWord] = []
        self.partial: tuple[SaidWord, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """The tokens of the final words, which the next hypothesis goes on from."""
        return [token for word in self.said for token in word.tokens]

    def heard(self, words: Sequence[SaidWord], settled: int) -> tuple[SaidWord, ...]:
        """Take in a hypothesis of what follows the final words; the words that it makes final.

        The last word of a hypothesis may be cut off, or go on: it is never agreed on. Neither are words that end
        behind the sample `settled`: the hypothesis before knew too little of what follows them.
        """
        agreed = 0
        for before, now in zip(self.partial[:-1], words[:-1], strict=False):
            if before.last > settled or bare(before.text) != bare(now.text):
                break
            agreed += 1
        found = tuple(words[:agreed])
        self.said += found
        self.partial = tuple(words[agreed:])
        return found

    def ended(self, words: Sequence[SaidWord]) -> tuple[SaidWord, ...]:
        """Take in the last hypothesis of the window: all of its words are final, and the window is over."""
        self.said, self.partial = [], ()
        return tuple(words)

    def cut(self, place: int) -> list[SaidWord]:
        """Let the final words that are said before the sample `place` go, and return them."""
        gone = [word for word in self.said if (word.first + word.last) // 2 < place]
        self.said = self.said[len(gone) :]
        return gone
