"""Two texts as one input: a premise and a hypothesis, a question and a passage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from sanderling.errors import TextError

Truncation = Literal["longest_first", "only_first"]


class TextPair(Struct, frozen=True):
    """Two texts that a model sees together: `text`, and `text_pair` after it.

    Where the two are more tokens than the model takes, `truncation` says which of them is cut: "longest_first" the
    longer one until both are of one length, then both; "only_first" the first alone.
    """

    text: str
    text_pair: str
    truncation: Truncation = "longest_first"


def as_pair(item: object) -> object:
    """A mapping with `text` and `text_pair` as a TextPair, as transformers' pipelines take it; all else as it is.

    Raises TextError for a mapping with other keys, or with values that are no texts.
    """
    # Nearly all are texts, and asking an abstract class takes longer.
    if isinstance(item, str) or not isinstance(item, Mapping):
        return item
    strings = all(isinstance(value, str) for value in item.values())
    if strings and set(item) == {"text"}:
        return item["text"]
    if strings and set(item) == {"text", "text_pair"}:
        return TextPair(item["text"], item["text_pair"])
    met = ", ".join(f"{key} ({type(value).__name__})" for key, value in item.items())[:200]
    raise TextError(
        f"The input is a mapping of {met or 'nothing'}; text and text_pair, both str, or in place of a mapping a text "
        "or a list of texts was expected."
    )
