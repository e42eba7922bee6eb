"""Tokens to text as they come: pieces that never break a character, and never show what may become a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What stands for bytes that are no character, or not yet one.
_UNKNOWN = "\ufffd"

# Blanks that tokenizers of words leave, and what transformers makes of each, in this order.
_BLANKS = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
# The last characters of a text that a blank among them may yet be taken out of.
_UNSETTLED = 3


def without_blanks(text: str) -> str:
    """The text without blanks before punctuation and the shortened words of English."""
    for found, better in _BLANKS:
        text = text.replace(found, better)
    return text


class Pieces:
    """The text of tokens as they are added. What was given out never changes, and is in the end the whole text.

    `decode` makes text of tokens, and is asked for all since a place where characters are whole. With `clean` blanks
    are taken out as `without_blanks` does it. The text ends where the first of `stops` begins; then `stopped` is true.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = (), *, clean: bool = False
    ) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._clean = clean
        self._tokens: list[int] = []
        # Tokens up to `_read` are in `_raw`; those from `_start` are decoded again, since a token's text may depend on
        # whether it is the first.
        self._start = self._read = 0
        self._raw = ""
        self._given = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """All of it so far, up to the stop string if there was one; bytes that are no characters are U+FFFD."""
        return self._until_stop(self._cleaned(self._raw + self._pending()))

    def add(self, token: int) -> str:
        """The text that is certain with this token, and was not given out before; often a word, or nothing."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        pending = self._pending()
        if pending and not pending.endswith(_UNKNOWN):
            self._raw += pending
            self._start, self._read, pending = self._read, len(self._tokens), ""
        whole = self._cleaned(self._raw + pending)
        if any(stop in whole for stop in self._stops):
            self.stopped = True
            return self._give(self._until_stop(whole))
        certain = self._cleaned(self._raw)
        if self._clean:
            certain = certain[: max(0, len(certain) - _UNSETTLED)]
        return self._give(certain[: self._unstoppable(certain)])

    def end(self) -> str:
        """What was held back, once no more tokens come."""
        return self._give(self.text)

    def _give(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece

    def _pending(self) -> str:
        """The text of the tokens that are not in `_raw`: what they add to those before them."""
        before = self._decode(self._tokens[self._start : self._read])
        return self._decode(self._tokens[self._start :])[len(before) :]

    def _cleaned(self, text: str) -> str:
        return without_blanks(text) if self._clean else text

    def _until_stop(self, text: str) -> str:
        places = [text.find(stop) for stop in self._stops]
        return text[: min((place for place in places if place >= 0), default=len(text))]

    def _unstoppable(self, text: str) -> int:
        """How much of the text cannot be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for place in range(max(0, len(text) - longest + 1), len(text)):
            if any(stop.startswith(text[place:]) for stop in self._stops):
                return place
        return len(text)
