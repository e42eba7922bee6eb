"""What models that generate answer: text with the tokens it was made of, and why it ended."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from sanderling.decode.loop import FinishReason
from sanderling.errors import InputError
from sanderling.results import Batch, InputReport


class GenerationTiming(Struct, frozen=True):
    """Seconds from the beginning of a call to its first graph, to the first new token, and to the end.

    Of a call with several inputs they are those of the call; with beams the first token is not known before the end.
    """

    preprocess: float
    first_token: float
    total: float

    def tokens_per_second(self, tokens: int) -> float:
        """New tokens a second after the first one; 0 where there are no more."""
        spent = self.total - self.first_token
        return (tokens - 1) / spent if tokens > 1 and spent > 0 else 0.0


class Generation(Struct, frozen=True, eq=False):
    """What was generated for one input.

    `tokens` are the new ones, the stop token included; `text` is theirs without special tokens, and ends before a stop
    string. `finish_reason` is "stop_token", "stop_string", "length" (as many new tokens as were allowed) or "context"
    (the model has no positions for more). `prompt_tokens` counts what the model read before. `score` is beam search's:
    the sum of the logarithms of probabilities, divided by the length to the power of the length penalty.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    report: InputReport
    variant: str
    timing: GenerationTiming
    score: float | None = None

    @property
    def complete(self) -> bool:
        """Whether it ended by itself, at a stop token or a stop string, and not because it had to."""
        return self.finish_reason in ("stop_token", "stop_string")

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second after the first one."""
        return self.timing.tokens_per_second(len(self.tokens))

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"Generation({shown!r}, {len(self.tokens)} tokens, {self.finish_reason})"


class Generations(Batch[Generation], frozen=True, eq=False):
    """What was generated for each of several inputs, in input order.

    Its length, its items (Generation) and its slices are those of a sequence.
    """

    timing: GenerationTiming

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each."""
        return tuple(item.text for item in self.items)

    def __repr__(self) -> str:
        return f"Generations({len(self.items)}: {', '.join(map(repr, self.texts[:2]))}{', …' if len(self) > 2 else ''})"


class TextStream:
    """Pieces of text as they are generated: an iterator. After its end `result` is the whole Generation.

    No piece breaks a character, and their concatenation is the result's text. `close` ends it early.
    """

    def __init__(self, pieces: Iterator[str | Generation]) -> None:
        self._pieces = pieces
        self._result: Generation | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for piece in self._pieces:
            if isinstance(piece, str):
                return piece
            self._result = piece
        raise StopIteration

    @property
    def result(self) -> Generation:
        """All that was generated. Raises InputError before the last piece was read."""
        if self._result is None:
            raise InputError("The stream has not come to its end; its result is there when its last piece was read.")
        return self._result

    def close(self) -> None:
        """Generate no more; the cache is freed."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
